"""The first screen: do the replicas agree, since when, which one does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import html
from dash.development.base_component import Component

from serving.dashboard import parts, words
from serving.dashboard.context import Content, Context, Panel
from serving.dashboard.figures.bars import component_bars
from serving.dashboard.figures.course import course
from serving.dashboard.figures.sparkline import sparkline
from serving.dashboard.matrix import matrix_table
from serving.dashboard.plain import flat
from serving.dashboard.queries.courses import courses, floor_course, joined
from serving.dashboard.queries.gateway import dropped_mirrors
from serving.dashboard.words import TOO_FEW
from serving.monitor.record import PROBE
from serving.monitor.store import query
from serving.monitor.store.results import Line, Point
from serving.monitor.store.schema import DAY


def headlines(context: Context) -> tuple[str, ...]:
    """The four measures of the tiles."""
    return ("rpd_sym", "top1_swap", f"set_churn@{context.settings.k}", "consensus_regret")


def build(context: Context) -> Content:
    """Verdict and tiles on top; matrix, course, odd one out, health of the measurement below."""
    address = context.address
    labels = tuple(dict.fromkeys((*headlines(context), address.measure)))
    found = courses(context.store, labels, context.start, context.end, stream=address.stream)
    day = (
        found
        if address.seconds == DAY
        else courses(context.store, labels, context.end - DAY, context.end, stream=address.stream, points=150)
    )
    return Content(
        head=[html.H1("Overview", className="hidden"), _verdict(context), _tiles(context, day)],
        panels=[
            _matrix(context),
            _course(context, found[address.measure]),
            _odd_one_out(context),
            _health(context),
        ],
    )


_GLYPHS = {"STABLE": "●", "UNSTABLE": "▲", "NOT ENOUGH DATA": "◌", "STALE": "◐"}


def _verdict(context: Context) -> Component:
    found, verdict = context.finding, context.verdict
    fresh, replicas = verdict.freshness, verdict.replicas
    state = found.state.lower().replace(" ", "-")
    versions = sorted({replica.version for replica in replicas})
    known = {replica.replica for replica in replicas} | set(verdict.coverage)
    answer = sum(share > 0 for share in verdict.coverage.values())
    of = f"{answer} of {len(known)} replicas answer" if answer < len(known) else f"{answer} replicas"
    said = [f"{of}, {answer * (answer - 1) // 2} pairs"]
    if fresh.time is not None:
        said.append(f"{fresh.requests:,} requests a round")
    if versions:
        said.append(f"version{'s' if len(versions) > 1 else ''} {', '.join(map(str, versions))}")
    if found.sentence.endswith(TOO_FEW) and context.address.stream == PROBE:
        said.append("monitor.requests sets how many are asked")
    return html.Section(
        [
            html.P([html.Span(_GLYPHS[found.state], className="glyph"), f"{found.state}"], className="state"),
            html.P(found.sentence, className="sentence"),
            html.P(" · ".join(said), className="aside"),
        ],
        className=f"verdict {state}",
        id="verdict",
    )


def _tiles(context: Context, day: Mapping[str, Sequence[Line]]) -> Component:
    return html.Section(
        [_tile(context, label, joined(day[label])) for label in headlines(context)],
        className="tiles",
        **parts.attributes(aria_label="Headline measures"),
    )


def _tile(context: Context, label: str, points: Sequence[Point]) -> Component:
    measured = context.verdict.measures.get(label)
    heading = parts.link(words.title(label), context.address.to(measure=label), className="tile-title")
    chosen = " chosen" if context.address.measure == label else ""
    if measured is None:
        return html.Article([heading, html.P("n/a", className="figure")], className=f"tile{chosen}")
    budget = context.settings.budget.get(label)
    over = budget is not None and measured.excess.low > budget
    detail = words.between(label, measured.value) + (
        f" · budget {words.limit(label, budget)}" if budget is not None else ""
    )
    children: list[Component] = [
        heading,
        html.P(words.amount(label, measured.value.value), className="figure over" if over else "figure"),
    ]
    if len(points) > 1:
        since = words.duration(points[-1].time - points[0].time)
        moved = words.change(label, measured.value.value, points[0].value)
        line = sparkline(
            [point.time for point in points],
            [point.value for point in points],
            context.palette.warning if over else context.palette.accent,
        )
        children += [
            html.P(f"{moved} in {since}", className="change"),
            html.P(detail, className="detail"),
            html.Img(src=line, className="sparkline", alt=f"{words.title(label)} over {since}: {moved}"),
        ]
    else:
        children.append(html.P(detail, className="detail"))
    return html.Article(children, className=f"tile{chosen}")


def _matrix(context: Context) -> Panel:
    label = context.address.measure
    found = query.matrix(
        context.store,
        label,
        context.now,
        stream=context.address.stream,
        window=context.settings.monitor_window,
    )
    rows = [flat(cell) for cell in found.cells]
    budget = context.settings.budget.get(label)
    return Panel(
        "matrix",
        f"{words.title(label)} between replicas, above the floor",
        matrix_table(found, context.address, enough=context.settings.enough, budget=budget),
        rows,
        note="Alike replicas stand together. Select a cell to see the pair.",
        size="narrow",
    )


def _course(context: Context, lines: Sequence[Line]) -> Panel:
    label, address = context.address.measure, context.address
    figure = course(
        [("all pairs", lines)],
        label,
        context.palette,
        floor=floor_course(context.store, label, context.start, context.end, stream=address.stream),
        events=query.events(context.store, context.start, context.end),
        budget=context.settings.budget.get(label),
        span=(context.start, context.end),
        revision=f"{label}{address.window}{address.stream}",
        height=330,
    )
    rows = [{"resolution": line.resolution, **flat(point)} for line in lines for point in line.points]
    title = f"{words.title(label)}, last {address.window}"
    note = "Mean over all pairs with its 95% interval; UTC."
    return Panel("course", title, parts.chart("course", figure, title), rows, figure, note, "wide")


def _odd_one_out(context: Context) -> Panel:
    found = query.odd_one_out(
        context.store, context.now, stream=context.address.stream, window=context.settings.monitor_window
    )
    title = "Odd one out: each replica's own noise"
    if not found.components:
        return Panel("odd-one-out", title, parts.message("Three replicas or more are needed."), size="wide")
    figure = component_bars(found, context.palette)
    odd = [one.replica for one in found.odd]
    said = f"{' and '.join(odd)} stand{'s' if len(odd) == 1 else ''} out." if odd else "Nobody stands out."
    rows = [flat(component) | {"odd": component.replica in odd} for component in found.components]
    return Panel(
        "odd-one-out",
        title,
        [html.P(said, className="lead"), parts.chart("odd-one-out", figure, title)],
        rows,
        figure,
        note="Variance of log-odds with its 95% interval; the dashed line is three times the median.",
        size="wide",
    )


def _health(context: Context) -> Panel:
    verdict = context.verdict
    fresh = verdict.freshness
    rows: list[dict[str, Any]] = [
        {
            "replica": replica.replica,
            "version": replica.version,
            "coverage": verdict.coverage.get(replica.replica),
            "last_seen": replica.last_seen,
        }
        for replica in verdict.replicas
    ]
    # one that was asked and never answered has no version, and is the first that a reader should see
    silent = sorted(set(verdict.coverage) - {row["replica"] for row in rows})
    rows = [
        {"replica": name, "version": None, "coverage": verdict.coverage[name], "last_seen": None}
        for name in silent
    ] + rows
    dropped = dropped_mirrors(context.settings.gateway)
    body = [
        parts.facts(
            [
                ("Newest round", f"{words.duration(fresh.age)} ago" if fresh.age is not None else "never"),
                ("Rounds, last hour", str(fresh.rounds)),
                ("Dropped mirrors", _dropped(context, dropped)),
            ]
        ),
        parts.table(
            ["Replica", "Version", "Coverage", "Last answer"],
            [
                [
                    parts.name(row["replica"], 30),
                    str(row["version"] or "\u2013"),
                    _coverage(row["coverage"]),
                    _last(context, row["last_seen"]),
                ]
                for row in rows
            ],
            numeric=(1, 2, 3),
            caption="Replicas",
        ),
    ]
    return Panel("health", "Freshness and coverage", body, rows, size="narrow")


def _dropped(context: Context, count: int | None) -> Component:
    if context.settings.gateway is None:
        return html.Span("no gateway", title="The dashboard was not told of a gateway", className="muted")
    if count is None:
        return html.Span("unknown", title="The gateway does not answer", className="bad")
    return html.Span(f"{count:,}", title="Since the gateway started", className="bad" if count else "")


def _last(context: Context, seen: float | None) -> str:
    return "never" if seen is None else f"{words.duration(max(context.now - seen, 0))} ago"


def _coverage(share: float | None) -> Component:
    if share is None:
        return html.Span("n/a", className="bad")
    return html.Span(f"{100 * share:.1f}%", className="bad" if share < 0.9 else "")
