"""Measures over time: lines with their bands, marks where something happened, the budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

import plotly.graph_objects as go

from serving.dashboard import words
from serving.dashboard.figures.style import Palette, styled
from serving.monitor.store.results import EventRow, Line, Point


def moments(times: Iterable[float]) -> list[datetime]:
    """Seconds since 1970 as UTC times without a zone, which Plotly shows as they are."""
    return [datetime.fromtimestamp(time, timezone.utc).replace(tzinfo=None) for time in times]


def joined(lines: Sequence[Line]) -> list[Point]:
    """The points of several lines in the order of time; of two at one time the newer line's."""
    return [
        point for _, point in sorted({point.time: point for line in lines for point in line.points}.items())
    ]


def course(
    lines: Sequence[tuple[str, Sequence[Line]]],
    label: str,
    colors: Palette,
    *,
    floor: Sequence[Line] = (),
    events: Sequence[EventRow] = (),
    budget: float | None = None,
    span: tuple[float, float] | None = None,
    height: int = 300,
    revision: str = "course",
) -> go.Figure:
    """A chart of one measure.

    Args:
        lines: (name, lines): what has one name has one colour, and a gap where a version changes.
        label: of the measure.
        colors: the theme.
        floor: what a replica differs from itself.
        events: marked by vertical lines, refreshes only.
        budget: a dashed line.
        span: (start, end) of the axis, seconds since 1970.
        height: pixels.
        revision: see `styled`.
    """
    scale = 100.0 if words.is_share(label) else 1.0
    unit = "%" if words.is_share(label) else ""
    figure = go.Figure()
    for position, (name, parts) in enumerate(lines):
        color = colors.color(position)
        for part, line in enumerate(part for part in parts if part.points):
            times = moments(point.time for point in line.points)
            if len(lines) <= 3:
                low, high = (
                    [scale * getattr(point, end) for point in line.points] for end in ("low", "high")
                )
                figure.add_scatter(
                    x=times + times[::-1],
                    y=high + low[::-1],
                    fill="toself",
                    fillcolor=colors.band(color),
                    mode="none",
                    hoverinfo="skip",
                    showlegend=False,
                    legendgroup=name,
                )
            figure.add_scatter(
                x=times,
                y=[scale * point.value for point in line.points],
                mode="lines+markers" if len(times) == 1 else "lines",
                name=name,
                legendgroup=name,
                showlegend=part == 0,
                line={
                    "color": color,
                    "width": 2,
                    "dash": "solid" if position < len(colors.series) else "dot",
                },
                customdata=[
                    [words.amount(label, p.value), _range(label, p), p.n, p.rounds] for p in line.points
                ],
                hovertemplate="%{customdata[0]} (%{customdata[1]}), %{customdata[2]:,} requests",
            )
    points = joined(floor)
    if points:
        figure.add_scatter(
            x=moments(point.time for point in points),
            y=[scale * point.value for point in points],
            mode="lines",
            name="floor",
            line={"color": colors.muted, "width": 1.5, "dash": "dot"},
            hovertemplate="%{y:.3g}" + unit,
        )
    if budget is not None:
        figure.add_hline(
            y=scale * budget,
            line={"color": colors.warning, "width": 1.5, "dash": "dash"},
            annotation_text="budget",
            annotation_position="top left",
            annotation_font={"size": 11, "color": colors.warning},
        )
    _mark(figure, [event for event in events if event.kind == "refresh"], colors)
    figure.update_xaxes(range=moments(span) if span else None, showgrid=False)
    styled(figure, colors, height=height, revision=revision)
    figure.update_yaxes(ticksuffix=unit, rangemode="tozero", nticks=6)
    return figure


def _range(label: str, point: Point) -> str:
    from ranker.divergence import Interval

    return words.between(label, Interval(point.value, point.low, point.high))


def _mark(figure: go.Figure, events: Sequence[EventRow], colors: Palette) -> None:
    by_time: dict[int, list[str]] = {}
    for event in events:
        by_time.setdefault(event.time // 600 * 600, []).append(event.replica)
    for time, replicas in by_time.items():
        figure.add_vline(x=moments([time])[0], line={"color": colors.muted, "width": 1})
        text = "refresh" if len(replicas) == 1 else f"{len(replicas)} refreshes"
        figure.add_annotation(
            x=moments([time])[0],
            y=1,
            yref="paper",
            yanchor="top",
            xanchor="left",
            showarrow=False,
            text=text,
            textangle=-90,
            font={"size": 10, "color": colors.muted},
            xshift=1,
        )


def sparkline(points: Sequence[Point], color: str, colors: Palette) -> go.Figure:
    """A line without axes; its last point is marked."""
    times, values = moments(point.time for point in points), [point.value for point in points]
    figure = go.Figure()
    figure.add_scatter(x=times, y=values, mode="lines", line={"color": color, "width": 1.6}, hoverinfo="skip")
    figure.add_scatter(
        x=times[-1:], y=values[-1:], mode="markers", marker={"color": color, "size": 6}, hoverinfo="skip"
    )
    styled(
        figure,
        colors,
        height=44,
        showlegend=False,
        margin={"l": 2, "r": 6, "t": 4, "b": 4},
        hovermode=False,
        dragmode=False,
    )
    figure.update_xaxes(visible=False, fixedrange=True)
    figure.update_yaxes(visible=False, fixedrange=True)
    return figure
