"""Where the difference comes from: the ladder of noise, and the two streams side by side."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html
from dash.development.base_component import Component

from ranker import wording
from ranker.divergence import FLOOR, LEVELS
from serving.dashboard.figures.bars import interval_bars
from serving.dashboard.figures.course import course
from serving.dashboard.layout import parts
from serving.dashboard.layout.context import Content, Context, Panel
from serving.monitor.plain import flat
from serving.monitor.store import query
from serving.monitor.store.results import Rung


def build(context: Context) -> Content:
    """Ladder, then probe and live."""
    label = context.address.measure
    rungs = query.ladder(context.store, context.present.to(window=context.address.seconds))
    return Content(
        [html.H1("Attribution")],
        [_ladder(context, label, rungs), _rungs(label, rungs), _streams(context, label)],
    )


def _ladder(context: Context, label: str, rungs: Sequence[Rung]) -> Panel:
    title = f"{wording.title(label)} by level of noise"
    if not rungs:
        return Panel("ladder", title, parts.message("Nothing has been compared yet."))
    share = wording.is_share(label)
    shown = list(reversed(rungs))
    figure = interval_bars(
        [
            f"{rung.level}  {LEVELS.get(rung.level, '')}" if len(rung.level) < 4 else rung.level
            for rung in shown
        ],
        [wording.clipped(label, rung.value) for rung in shown],
        [context.palette.muted if rung.level in FLOOR else context.palette.accent for rung in shown],
        context.palette,
        scale=100.0 if share else 1.0,
        suffix="%" if share else "",
        longest=48,
    )
    note = "Each step adds one thing that differs; grey is the floor, where nothing was trained again."
    return Panel(
        "ladder",
        title,
        parts.Chart("ladder", figure, title),
        rows=[flat(rung) for rung in rungs],
        figure=figure,
        note=note,
        size="wide",
    )


def _rungs(label: str, rungs: Sequence[Rung]) -> Panel:
    by_level = {rung.level: rung for rung in rungs}
    cells = []
    for level, meaning in LEVELS.items():
        rung = by_level.get(level)
        cells.append(
            [
                html.Strong(level),
                meaning,
                f"{wording.amount(label, rung.value.value)}" if rung else "–",
                str(rung.pairs) if rung else "–",
            ]
        )
    shown = parts.table(
        ["Level", "The two differ by", "Value", "Series"], cells, numeric=(2, 3), caption="The ladder"
    )
    return Panel("levels", "The ladder", shown, [flat(rung) for rung in rungs], size="narrow")


def _streams(context: Context, label: str) -> Panel:
    lines_by_stream = {
        stream: query.lines(context.store, context.charted.to(stream=stream)) for stream in ("probe", "live")
    }
    title = "Probe and live side by side"
    note = "The probe's requests never change: if it moves, the models changed. If only live traffic moves, the traffic did."
    lines = [(stream, stream_lines) for stream, stream_lines in lines_by_stream.items() if stream_lines]
    if not lines:
        return Panel("streams", title, parts.message("Nothing has been measured in this window."), note=note)
    figure = course(
        lines,
        label,
        context.palette,
        events=query.events(context.store, context.charted),
        span=(context.start, context.end),
        revision=f"streams{label}{context.address.window}",
    )
    rows = [
        {"stream": stream, **flat(point)}
        for stream, stream_lines in lines_by_stream.items()
        for line in stream_lines
        for point in line.points
    ]
    body: list[Component] = [parts.Chart("streams", figure, title)]
    if not lines_by_stream["live"]:
        body.append(
            parts.message("No live round in this window: mirror calls to `ranker monitor --mirror-listen`.")
        )
    return Panel("streams", title, body, rows=rows, figure=figure, note=note)
