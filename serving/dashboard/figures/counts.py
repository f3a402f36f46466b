"""Coverage over time."""

from __future__ import annotations

from collections.abc import Sequence

from serving.dashboard.figures.course import moments, spanning
from serving.dashboard.figures.style import Figure, Palette, across, drawn, plain_text, short
from serving.monitor.store.results import CountRow

LEAST = 0.9
"""Coverage below which the monitor's own rules raise an alert."""


def coverage_chart(course: Sequence[CountRow], colors: Palette, *, span: tuple[float, float]) -> Figure:
    """A line a replica: the share of requests answered well."""
    requests = {(row.time, row.replica): row.count for row in course if row.kind == "asked"}
    answered = {(row.time, row.replica): row.count for row in course if row.kind == "answered"}
    traces = []
    lowest = 1.0
    for place, replica in enumerate(sorted({replica for _, replica in requests})):
        times = sorted(time for time, name in requests if name == replica and requests[time, name])
        shares = [answered.get((time, replica), 0) / requests[time, replica] for time in times]
        lowest = min([lowest, *shares])
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": plain_text(short(replica, 24)),
                "x": moments(times),
                "y": [100 * share for share in shares],
                "line": {"color": colors.color(place), "width": 2, "shape": "hv"},
                "hovertemplate": "%{y:.1f}%",
            }
        )
    return drawn(
        traces,
        colors,
        height=290,
        revision="coverage",
        marks=[across(100 * LEAST, colors)],
        x={
            "autorangeoptions": spanning(span, (row.time for row in course)),
            "showgrid": False,
            "type": "date",
        },
        y={"ticksuffix": "%", "range": [100 * min(lowest, LEAST) - 3, 101], "nticks": 6, "fixedrange": True},
        margin={"l": 8, "r": 12, "t": 30, "b": 8},
    )
