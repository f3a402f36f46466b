"""Whether the measurement itself can be trusted: coverage, errors by kind, replicas that are not compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import html

from ranker import wording
from serving.dashboard.figures.counts import coverage_chart
from serving.dashboard.layout import parts
from serving.dashboard.layout.context import Content, Context, Panel
from serving.dashboard.layout.zone import zone_name
from serving.monitor.judgement.verdict import KINDS
from serving.monitor.plain import flat
from serving.monitor.store import query
from serving.monitor.store.results import CountRow


def build(context: Context) -> Content:
    """Coverage over time, counts by kind, replicas that may not be compared."""
    sums = query.error_kinds(context.store, context.charted)
    course = query.count_course(context.store, context.charted)
    fresh = context.snapshot.freshness
    head = parts.facts(
        [
            ("Newest round", f"{parts.clock(fresh.time)} {zone_name()}"),
            ("Age", wording.duration(fresh.age) if fresh.age is not None else "n/a"),
            ("It took", f"{fresh.duration:.1f} s"),
            ("Rounds, last hour", str(fresh.rounds)),
            ("Probe", html.Code(fresh.probe or "n/a")),
        ]
    )
    return Content(
        [html.H1("Data quality"), head], [_coverage(context, course), _refused(context), _kinds(sums)]
    )


def _coverage(context: Context, course: Sequence[CountRow]) -> Panel:
    title = f"Coverage by replica, {context.address.range_name}"
    if not course:
        return Panel("coverage", title, parts.message("Nothing has been asked in this window."), size="wide")
    figure = coverage_chart(course, context.palette, span=(context.start, context.end))
    return Panel(
        "coverage",
        title,
        parts.Chart("coverage", figure, title),
        rows=[flat(row) for row in course],
        figure=figure,
        note="Share of the requests asked that were answered well; the dashed line is where the alert begins. "
        f"{zone_name()}.",
        size="wide",
    )


def _kinds(sums: Sequence[CountRow]) -> Panel:
    by_replica: dict[str, dict[str, int]] = {}
    for row in sums:
        by_replica.setdefault(row.replica, {})[row.kind] = row.count
    seen = [kind for kind in KINDS if any(kind in kinds for kinds in by_replica.values())]
    more_kinds = sorted({k for kinds in by_replica.values() for k in kinds} - {"asked", "answered", *KINDS})
    columns = ["Replica", "Asked", "Answered", *(f"{kind}: {KINDS[kind]}" for kind in seen), *more_kinds]
    cells: list[list[Any]] = [
        [
            parts.name(replica, 30),
            *(f"{kinds.get(kind, 0):,}" for kind in ("asked", "answered", *seen, *more_kinds)),
        ]
        for replica, kinds in by_replica.items()
    ]
    rows = [{"replica": replica, **kinds} for replica, kinds in by_replica.items()]
    title = "Requests by outcome"
    if not cells:
        return Panel("kinds", title, parts.message("Nothing has been asked in this window."))
    lead = [] if seen or more_kinds else [html.P("No request went without an answer.", className="lead")]
    shown = parts.table(columns, cells, numeric=range(1, len(columns)), caption=title)
    return Panel(
        "kinds",
        title,
        [*lead, shown],
        rows,
        note="An answer that cannot be used is counted, never averaged in.",
    )


def _refused(context: Context) -> Panel:
    events = query.events(context.store, context.charted)
    refusals = [event for event in events if event.kind == "incompatible"]
    title = "Replicas that may not be compared"
    if not refusals:
        return Panel("refused", title, parts.message("None: features and vocabularies agree."), size="narrow")
    cells = [
        [
            parts.moment(refusal.time),
            parts.name(refusal.replica, 30),
            parts.name(str(refusal.detail.get("reason", "")), 120),
        ]
        for refusal in refusals
    ]
    shown = parts.table([f"Since ({zone_name()})", "Replica", "Why"], cells, caption=title)
    return Panel("refused", title, shown, [flat(refusal) for refusal in refusals], size="narrow")
