"""Measures over time: lines with their bands, marks where something happened, the budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

from ranker import wording
from ranker.divergence import Interval
from serving.dashboard.figures.style import Figure, Palette, across, drawn, plain_text, short
from serving.monitor.store.results import EventRow, Line, Point

_MOST_BANDS = 3
_SHORTEST = 900.0
"""Seconds that a time axis has at least."""


def moments(times: Iterable[float]) -> list[str]:
    """Seconds since 1970 as UTC times without a zone, which Plotly shows as they are."""
    return [datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%d %H:%M:%S") for time in times]


def spanning(span: tuple[float, float], times: Iterable[float] = ()) -> dict[str, list[str]]:
    """A time axis from start to end, or from the first of `times` where there is nothing before.

    Not as a range, which would undo the reader's zoom whenever it moves on.
    """
    start, end = span
    first = min(times, default=start)
    return {"include": moments((max(start, min(first - (end - first) / 25, end - _SHORTEST)), end))}


def course(
    lines: Sequence[tuple[str, Sequence[Line]]],
    label: str,
    colors: Palette,
    *,
    floor: Sequence[Point] = (),
    events: Sequence[EventRow] = (),
    budget: float | None = None,
    span: tuple[float, float],
    height: int = 300,
    revision: str = "course",
) -> Figure:
    """A chart of one measure.

    Args:
        lines: (name, lines): what has one name has one colour, and a gap where a version changes.
        label: of the measure.
        colors: the theme.
        floor: what a replica differs from itself.
        events: refreshes among them are marked.
        budget: a dashed line.
        span: (start, end) of the axis, seconds since 1970.
        height: pixels.
        revision: see `drawn`.
    """
    unit = "%" if wording.is_share(label) else ""
    traces: list[dict[str, Any]] = []
    for position, (name, parts) in enumerate(lines):
        color = colors.color(position)
        for part, line in enumerate(part for part in parts if part.points):
            if len(lines) <= _MOST_BANDS:
                traces.append(_band(line.points, label, color, colors))
            traces.append(_line(line.points, label, name, color, shown=part == 0))
    scale = 100.0 if unit else 1.0
    if floor:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "floor",
                "x": moments(point.time for point in floor),
                "y": [scale * point.value for point in floor],
                "line": {"color": colors.muted, "width": 1.5, "dash": "dot"},
                "hovertemplate": "%{y:.3g}" + unit,
            }
        )
    marks, notes = _marks([event for event in events if event.kind == "refresh"], colors, span)
    if budget is not None:
        marks.append(across(scale * budget, colors))
        notes.append(
            {
                "text": "budget",
                "xref": "paper",
                "x": 0,
                "xanchor": "left",
                "y": scale * budget,
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 11, "color": colors.warning},
            }
        )
    times = (line.points[0].time for _, parts in lines for line in parts if line.points)
    figure = drawn(
        traces,
        colors,
        height=height,
        revision=revision,
        marks=marks,
        notes=notes,
        x={"autorangeoptions": spanning(span, times), "showgrid": False, "type": "date"},
        y={"ticksuffix": unit, "rangemode": "tozero", "nticks": 6},
        margin={"l": 8, "r": 12, "t": 46, "b": 8},
    )
    figure["layout"]["legend"]["y"] = 1.09
    return figure


def _line(points: Sequence[Point], label: str, name: str, color: str, *, shown: bool) -> dict[str, Any]:
    scale = 100.0 if wording.is_share(label) else 1.0
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(points) == 1 else "lines",
        "name": plain_text(short(name, 24)),
        "legendgroup": name,
        "showlegend": shown,
        "x": moments(point.time for point in points),
        "y": [scale * point.value for point in points],
        "line": {"color": color, "width": 2},
        "customdata": [[wording.amount(label, p.value), _range(label, p), p.n, p.rounds] for p in points],
        "hovertemplate": "%{customdata[0]} (%{customdata[1]}), %{customdata[2]:,} requests",
    }


def _band(points: Sequence[Point], label: str, color: str, colors: Palette) -> dict[str, Any]:
    scale = 100.0 if wording.is_share(label) else 1.0
    times = moments(point.time for point in points)
    ends = [wording.clipped(label, Interval(p.value, p.low, p.high)) for p in points]
    return {
        "type": "scatter",
        "mode": "none",
        "fill": "toself",
        "fillcolor": colors.band(color),
        "hoverinfo": "skip",
        "showlegend": False,
        "x": times + times[::-1],
        "y": [scale * one.high for one in ends] + [scale * one.low for one in reversed(ends)],
    }


def _range(label: str, point: Point) -> str:
    return wording.between(label, Interval(point.value, point.low, point.high))


def _marks(
    events: Sequence[EventRow], colors: Palette, span: tuple[float, float]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    # marks closer than a label is wide become one
    groups: list[list[EventRow]] = []
    for event in sorted(events, key=lambda event: event.time):
        if groups and event.time - groups[-1][0].time <= (span[1] - span[0]) / 14:
            groups[-1].append(event)
        else:
            groups.append([event])
    marks, notes = [], []
    for group in groups:
        first, last = moments([group[0].time, group[-1].time])
        marks.append(
            {
                "type": "rect",
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "x0": first,
                "x1": last,
                "layer": "below",
                "fillcolor": colors.band(colors.muted, 0.12),
                "line": {"color": colors.muted, "width": 1, "dash": "dot"},
            }
        )
        one = f"{plain_text(short(group[0].replica, 14))} refreshed"
        notes.append(
            {
                "text": one if len(group) == 1 else f"{len(group)} refreshes",
                "x": first,
                "xanchor": "left",
                "yref": "paper",
                "y": 1,
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 10, "color": colors.muted},
            }
        )
    return marks, notes
