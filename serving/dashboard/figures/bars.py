"""Bars with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import plotly.graph_objects as go

from serving.dashboard.figures.style import Palette, styled
from serving.monitor.store.results import OddOneOut


def component_bars(found: OddOneOut, colors: Palette, *, factor: float = 3.0) -> go.Figure:
    """Each replica's own noise, the noisiest on top; those that stand out in the warning colour."""
    odd = {one.replica for one in found.odd}
    shown = sorted(found.components, key=lambda component: component.value.value)
    figure = interval_bars(
        [component.replica for component in shown],
        [component.value for component in shown],
        [colors.warning if component.replica in odd else colors.accent for component in shown],
        colors,
    )
    limit = factor * median(component.value.value for component in shown)
    if limit > 0:
        figure.add_vline(x=limit, line={"color": colors.warning, "width": 1.5, "dash": "dash"})
    return figure


def interval_bars(
    names: Sequence[str],
    values: Sequence[tuple[float, float, float]],
    fills: Sequence[str],
    colors: Palette,
    *,
    scale: float = 1.0,
    suffix: str = "",
) -> go.Figure:
    """Horizontal bars, the first at the bottom.

    Args:
        names: of the bars.
        values: (value, low, high) a bar.
        fills: a colour a bar.
        colors: the theme.
        scale: what values are multiplied by.
        suffix: unit on the axis.
    """
    places = list(range(len(names)))
    centre = [scale * value for value, _, _ in values]
    above = [_finite(scale * (high - value)) for value, _, high in values]
    below = [_finite(scale * (value - low)) for value, low, _ in values]
    figure = go.Figure()
    figure.add_bar(
        y=places,
        x=centre,
        orientation="h",
        marker={"color": list(fills)},
        width=0.6,
        error_x={
            "type": "data",
            "symmetric": False,
            "array": above,
            "arrayminus": below,
            "color": colors.ink,
            "thickness": 1.2,
            "width": 4,
        },
        customdata=[
            [name, scale * low, scale * high] for name, (_, low, high) in zip(names, values, strict=True)
        ],
        hovertemplate="%{customdata[0]}: %{x:.3g} (%{customdata[1]:.3g} to %{customdata[2]:.3g})<extra></extra>",
    )
    styled(
        figure,
        colors,
        height=60 + 30 * max(len(names), 2),
        showlegend=False,
        hovermode="closest",
        dragmode=False,
    )
    figure.update_yaxes(
        tickvals=places,
        ticktext=[_label(name) for name in names],
        fixedrange=True,
        showgrid=False,
        tickfont={"size": 12, "color": colors.ink},
    )
    figure.update_xaxes(rangemode="tozero", ticksuffix=suffix, fixedrange=True, nticks=6)
    return figure


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _label(name: str) -> str:
    return plain_text(name if len(name) <= 28 else f"{name[:27]}…")


def plain_text(text: str) -> str:
    """Text that Plotly shows as it is: it would make bold, links and line breaks of tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
