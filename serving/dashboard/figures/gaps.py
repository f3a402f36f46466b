"""Inversions by gap: observed against what noise explains."""

from __future__ import annotations

import math

from ranker.divergence import NearTies
from serving.dashboard.figures.style import Figure, Palette, axis_title, drawn, whiskers


def gap_chart(found: NearTies, colors: Palette) -> Figure:
    """Bars of the observed share with intervals, dots of the predicted one."""
    bins = [
        (low, high, seen, predicted)
        for low, high, seen, predicted in zip(
            found.edges, found.edges[1:], found.observed, found.predicted, strict=False
        )
        if seen.n
    ]
    # beyond the largest gap at which anything is inverted every bin is empty: one of them says so
    seen_until = max((place for place, one in enumerate(bins) if max(one[2].value, one[3]) > 5e-4), default=0)
    bins = bins[: seen_until + 2]
    names = [f"{low:g}–{high:g}" if math.isfinite(high) else f"over {low:g}" for low, high, _, _ in bins]
    intervals = [seen.interval() for _, _, seen, _ in bins]
    intervals = [one._replace(low=max(one.low, 0.0), high=min(one.high, 1.0)) for one in intervals]
    observed = {
        "type": "bar", "name": "observed", "x": names, "y": [100 * value for value, _, _ in intervals],
        "marker": {"color": colors.accent}, "error_y": whiskers(intervals, colors.ink, scale=100, width=3),
        "hovertemplate": "%{y:.2f}%",
    }  # fmt: skip
    explained = {
        "type": "scatter", "mode": "markers", "name": "explained by noise", "x": names,
        "y": [100 * predicted for *_, predicted in bins],
        "marker": {"color": colors.series[1], "size": 9, "symbol": "diamond"}, "hovertemplate": "%{y:.2f}%",
    }  # fmt: skip
    return drawn(
        [observed, explained], colors, height=270, revision="gaps",
        x={"title": axis_title("gap of log-odds", colors), "showgrid": False, "type": "category"},
        y={"ticksuffix": "%", "rangemode": "tozero", "nticks": 6},
        margin={"l": 8, "r": 12, "t": 30, "b": 8},
    )  # fmt: skip
