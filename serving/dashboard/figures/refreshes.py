"""Refreshes against their baselines."""

from __future__ import annotations

from collections.abc import Sequence

from ranker import wording
from serving.dashboard.figures.course import moments
from serving.dashboard.figures.style import Figure, Palette, drawn, plain_text, short, whiskers
from serving.dashboard.queries.refreshes import MARGIN, Refresh


def refresh_chart(refreshes: Sequence[Refresh], label: str, colors: Palette) -> Figure:
    """A row a refresh, the newest on top: churn with its interval, and the baseline's limit as a tick."""
    scale, unit = (100.0, "%") if wording.is_share(label) else (1.0, "")
    shown = list(reversed(refreshes))
    places = list(range(len(shown)))
    tone = {"above": colors.warning, "within": colors.accent}
    limits = [
        (place, refresh.baseline.value)
        for place, refresh in zip(places, shown, strict=True)
        if refresh.baseline
    ]
    limit = {
        "type": "scatter",
        "mode": "markers",
        "name": "between replicas, plus margin",
        "x": [scale * value * (1 + MARGIN) for _, value in limits],
        "y": [place for place, _ in limits],
        "marker": {"symbol": "line-ns-open", "size": 16, "color": colors.muted, "line": {"width": 2}},
        "hovertemplate": "limit %{x:.3g}" + unit + "<extra></extra>",
    }
    churn = {
        "type": "scatter",
        "mode": "markers",
        "name": "new against old",
        "x": [scale * refresh.churn.value for refresh in shown],
        "y": places,
        "marker": {"size": 10, "color": [tone.get(refresh.held, colors.muted) for refresh in shown]},
        "error_x": whiskers(
            [wording.clipped(label, refresh.churn) for refresh in shown], colors.ink, scale=scale
        ),
        "customdata": [[plain_text(short(refresh.replica)), refresh.old, refresh.new] for refresh in shown],
        "hovertemplate": "%{customdata[0]} %{customdata[1]} → %{customdata[2]}: %{x:.3g}"
        + unit
        + "<extra></extra>",
    }
    times = moments(refresh.time for refresh in shown)
    names = [
        f"{plain_text(short(refresh.replica, 18))} · {time[11:16]}"
        for refresh, time in zip(shown, times, strict=True)
    ]
    return drawn(
        [limit, churn],
        colors,
        height=110 + 26 * max(len(shown), 3),
        hovermode="closest",
        dragmode=False,
        x={"rangemode": "tozero", "ticksuffix": unit, "fixedrange": True, "nticks": 6},
        y={
            "tickvals": places,
            "ticktext": names,
            "range": [-0.7, len(shown) - 0.3],
            "fixedrange": True,
            "zeroline": False,
            "tickfont": {"color": colors.ink, "size": 11},
        },
        margin={"l": 8, "r": 12, "t": 30, "b": 8},
    )
