"""The plane of difference and quality."""

from __future__ import annotations

from collections.abc import Sequence

from ranker import wording
from serving.dashboard.figures.style import Figure, Palette, axis_title, drawn, plain_text, short, whiskers
from serving.dashboard.queries.report import Arm


def plane(arms: Sequence[Arm], colors: Palette) -> Figure:
    """One point an arm: relative PD to the right, AUC up, with their uncertainty."""
    traces = []
    most = max(arm.divergence["rpd_sym"].value for arm in arms)
    for place, arm in enumerate(arms):
        (auc, std), apart = arm.quality["auc"], arm.divergence["rpd_sym"]
        color = colors.color(place)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "x": [100 * apart.value],
                "y": [auc],
                "text": [plain_text(short(arm.name, 20))],
                # on the side that has room
                "textposition": "top left" if apart.value > 0.7 * most else "top right",
                "textfont": {"color": color, "size": 13},
                "marker": {"size": 12, "color": color, "symbol": place % 20},
                "error_x": whiskers([apart], color, scale=100),
                "error_y": whiskers([(auc, auc - std, auc + std)], color),
                "hovertemplate": f"{wording.title('rpd_sym')} %{{x:.3g}}%, AUC %{{y:.4f}}<extra></extra>",
            }
        )
    return drawn(
        traces,
        colors,
        height=300,
        showlegend=False,
        hovermode="closest",
        revision="plane",
        x={"title": axis_title(wording.title("rpd_sym"), colors), "ticksuffix": "%", "rangemode": "tozero"},
        y={"title": axis_title("AUC", colors), "tickformat": ".4f", "nticks": 6},
    )
