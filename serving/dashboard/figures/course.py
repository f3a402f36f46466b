"""Measures over time: lines with their bands, marks where something happened, the budget."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

from ranker import wording
from ranker.divergence import Interval
from serving.dashboard.figures.style import Figure, Palette, across, drawn, plain_text, short
from serving.dashboard.layout.zone import text_of
from serving.monitor.store.results import EventRow, Line, LinePoint

_MOST_BANDS = 3
_SHORTEST = 900.0
"""Seconds that a time axis has at least."""


def moments(times: Iterable[float]) -> list[str]:
    """Seconds since 1970 as times in the reader's zone, without its name: Plotly shows them as they are."""
    return [text_of(time) for time in times]


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
    floor: Sequence[LinePoint] = (),
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
        for part, points in enumerate(unbroken(parts)):
            if len(lines) <= _MOST_BANDS:
                traces.append(_band(points, label, color, colors))
            traces.append(_line(points, label, name, color, shown=part == 0))
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


def unbroken(lines: Sequence[Line]) -> list[tuple[LinePoint, ...]]:
    """The stretches in which one version served and was measured: between them a line would show what was not.

    A line ends where another version's round lies between two of its points (it came back), and where more than three
    times the usual distance between rounds has none at all.
    """
    every = sorted(point.time for line in lines for point in line.points)
    distances = sorted(after - before for before, after in itertools.pairwise(every) if after > before)
    longest = (
        3 * max(distances[len(distances) // 2], max(line.resolution for line in lines)) if distances else 0
    )
    stretches: list[tuple[LinePoint, ...]] = []
    for line in lines:
        line_times = {point.time for point in line.points}
        part: list[LinePoint] = []
        for point in line.points:
            if part:
                first, last = bisect_right(every, part[-1].time), bisect_left(every, point.time)
                interrupted = any(time not in line_times for time in every[first:last])
                if interrupted or point.time - part[-1].time > longest:
                    stretches.append(tuple(part))
                    part = []
            part.append(point)
        if part:
            stretches.append(tuple(part))
    return stretches


def _line(points: Sequence[LinePoint], label: str, name: str, color: str, *, shown: bool) -> dict[str, Any]:
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


def _band(points: Sequence[LinePoint], label: str, color: str, colors: Palette) -> dict[str, Any]:
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
        "y": [scale * end.high for end in ends] + [scale * end.low for end in reversed(ends)],
    }


def _range(label: str, point: LinePoint) -> str:
    return wording.between(label, Interval(point.value, point.low, point.high))


def _marks(
    events: Sequence[EventRow], colors: Palette, span: tuple[float, float]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    # every refresh has a line of its own; labels that would overlap share one
    events = sorted(events, key=lambda event: event.time)
    groups: list[list[EventRow]] = []
    for event in events:
        if groups and event.time - groups[-1][0].time <= (span[1] - span[0]) / 14:
            groups[-1].append(event)
        else:
            groups.append([event])
    marks = [
        {
            "type": "line",
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "x0": moment,
            "x1": moment,
            "layer": "below",
            "line": {"color": colors.muted, "width": 1, "dash": "dot"},
        }
        for moment in moments(event.time for event in events)
    ]
    notes = []
    for group in groups:
        alone = f"{plain_text(short(group[0].replica, 14))} refreshed"
        notes.append(
            {
                "text": alone if len(group) == 1 else f"{len(group)} refreshes",
                "x": moments([group[0].time])[0],
                "xanchor": "left",
                "yref": "paper",
                "y": 1,
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 10, "color": colors.muted},
            }
        )
    return marks, notes
