"""Bars with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from serving.dashboard.figures.style import Figure, Palette, across, drawn, plain_text, short, whiskers
from serving.monitor.store.results import OddOneOut

_MOST_BARS = 32


def component_bars(noise: OddOneOut, colors: Palette, *, factor: float = 3.0) -> Figure:
    """Each replica's own noise, the noisiest on top; those that stand out in the warning colour.

    Of many replicas the noisiest `_MOST_BARS` are shown; the limit is of all.
    """
    odd = {component.replica for component in noise.odd}
    shown = sorted(noise.components, key=lambda component: component.value.value)[-_MOST_BARS:]
    figure = interval_bars(
        [component.replica for component in shown],
        [component.value for component in shown],
        [colors.warning if component.replica in odd else colors.accent for component in shown],
        colors,
    )
    limit = factor * median(component.value.value for component in noise.components)
    if limit > 0:
        figure["layout"]["shapes"].append(across(limit, colors, vertical=True))
    return figure


def interval_bars(
    names: Sequence[str],
    values: Sequence[tuple[float, float, float]],
    fills: Sequence[str],
    colors: Palette,
    *,
    scale: float = 1.0,
    suffix: str = "",
    longest: int = 28,
) -> Figure:
    """Horizontal bars, the first at the bottom.

    Args:
        names: of the bars.
        values: (value, low, high) a bar.
        fills: a colour a bar.
        colors: the theme.
        scale: what values are multiplied by.
        suffix: unit on the axis.
        longest: names are cut to this.
    """
    places = list(range(len(names)))
    shown = [plain_text(short(name, longest)) for name in names]
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": places,
        "x": [scale * value for value, _, _ in values],
        "width": 0.6,
        "marker": {"color": list(fills)},
        "error_x": whiskers(values, colors.ink, scale=scale),
        "customdata": [
            [name, scale * low, scale * high] for name, (_, low, high) in zip(shown, values, strict=True)
        ],
        "hovertemplate": "%{customdata[0]}: %{x:.3g} (%{customdata[1]:.3g} to %{customdata[2]:.3g})<extra></extra>",
    }
    return drawn(
        [bars],
        colors,
        height=60 + 30 * max(len(names), 2),
        showlegend=False,
        hovermode="closest",
        dragmode=False,
        x={"rangemode": "tozero", "ticksuffix": suffix, "fixedrange": True, "nticks": 6},
        y={
            "tickvals": places,
            "ticktext": shown,
            "fixedrange": True,
            "showgrid": False,
            "zeroline": False,
            "tickfont": {"size": 12, "color": colors.ink},
        },
    )
