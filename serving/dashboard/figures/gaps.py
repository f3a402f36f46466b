"""Inversions by gap: observed against what noise explains."""

from __future__ import annotations

import math
from collections.abc import Sequence

from serving.dashboard.figures.style import Figure, Palette, axis_title, drawn, whiskers
from serving.monitor.store.gaps import Gap


def gap_chart(gaps: Sequence[Gap], colors: Palette) -> Figure:
    """Bars of the observed share with intervals, dots of the predicted one; a tenth of the item pairs each."""
    names = [_span(gap) for gap in gaps]
    intervals = [
        (gap.observed.value, max(gap.observed.low, 0.0), min(gap.observed.high, 1.0)) for gap in gaps
    ]
    observed = {
        "type": "bar",
        "name": "observed",
        "x": names,
        "y": [100 * gap.observed.value for gap in gaps],
        "marker": {"color": colors.accent},
        "error_y": whiskers(intervals, colors.ink, scale=100, width=3),
        "hovertemplate": "%{y:.2f}%",
    }
    explained = {
        "type": "scatter",
        "mode": "markers",
        "name": "explained by noise",
        "x": names,
        "y": [100 * gap.predicted for gap in gaps],
        "marker": {"color": colors.series[1], "size": 9, "symbol": "diamond"},
        "hovertemplate": "%{y:.2f}%",
    }
    return drawn(
        [observed, explained],
        colors,
        height=270,
        revision="gaps",
        x={
            "title": axis_title("gap of log-odds, a tenth of the item pairs each", colors),
            "showgrid": False,
            "type": "category",
        },
        y={"ticksuffix": "%", "rangemode": "tozero", "nticks": 6},
        margin={"l": 8, "r": 12, "t": 30, "b": 8},
    )


def _span(gap: Gap) -> str:
    low, high = (f"{edge:.2g}" for edge in (gap.low, gap.high))
    return f"{low}\u2013{high}" if math.isfinite(gap.high) else f"over {low}"
