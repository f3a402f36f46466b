"""The first screen: do the replicas agree, since when, which one does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dash import html
from dash.development.base_component import Component

from ranker import wording
from ranker.divergence import COMPONENT, standing
from serving.dashboard.figures.bars import component_bars
from serving.dashboard.figures.course import course
from serving.dashboard.figures.fleet import MATRIX_UP_TO, fleet_list
from serving.dashboard.figures.matrix import matrix_table
from serving.dashboard.figures.sparkline import sparkline
from serving.dashboard.layout import parts
from serving.dashboard.layout.address import WINDOWS
from serving.dashboard.layout.context import Content, Context, Panel
from serving.dashboard.layout.zone import zone_name
from serving.monitor.judgement.verdict import KINDS, TOO_FEW, answered_shares
from serving.monitor.measurement.record import PROBE
from serving.monitor.plain import flat
from serving.monitor.store import query
from serving.monitor.store.results import Line, LinePoint
from serving.monitor.store.schema import DAY, HOUR
from serving.monitor.store.selection import Selection


def headlines(context: Context) -> tuple[str, ...]:
    """The four measures of the tiles."""
    return ("rpd_sym", "top1_swap", f"set_churn@{context.settings.k}", "consensus_regret")


def build(context: Context) -> Content:
    """Verdict and tiles on top; matrix, course, odd one out, health of the measurement below."""
    address = context.address
    labels = tuple(dict.fromkeys((*headlines(context), address.measure)))
    lines_by_label = query.courses(context.store, context.charted, labels)
    day = (
        lines_by_label
        if address.seconds == DAY
        else query.courses(context.store, context.charted.to(window=DAY, points=150), labels)
    )
    return Content(
        head=[html.H1("Overview", className="hidden"), _verdict(context), _tiles(context, day)],
        panels=[
            _matrix(context),
            _course(context, lines_by_label[address.measure]),
            _odd_one_out(context),
            _health(context),
            *_gateway(context),
        ],
    )


_GLYPHS = {"STABLE": "●", "UNSTABLE": "▲", "NOT ENOUGH DATA": "◌", "STALE": "◐"}


def _verdict(context: Context) -> Component:
    verdict, fresh = context.verdict, context.snapshot.freshness
    state = verdict.state.lower().replace(" ", "-")
    # who is in the newest round counts; a replica that was taken away is of the past
    replicas = [
        replica
        for replica in context.snapshot.replicas
        if replica.replica in fresh.outcomes or not fresh.outcomes
    ]
    versions = sorted({replica.version for replica in replicas})
    answer, pairs = verdict.answering, verdict.answering * (verdict.answering - 1) // 2
    of = (
        f"{answer} of {wording.count(verdict.asked, 'replica')} answer"
        if answer < verdict.asked
        else wording.count(answer, "replica")
    )
    facts = [f"{of}, {wording.count(pairs, 'pair')}"]
    if fresh.time is not None:
        facts.append(f"{wording.count(fresh.requests, 'request')} a round")
    if versions:
        facts.append(f"version{'s' if len(versions) > 1 else ''} {', '.join(map(str, versions))}")
    firing = len(context.status.firing)
    if firing:
        facts.append(f"{wording.count(firing, 'alert')} firing")
    if verdict.sentence.endswith(TOO_FEW) and context.address.stream == PROBE:
        facts.append("monitor.requests sets how many are asked")
    facts += [note[0].upper() + note[1:] for note in verdict.notes if note not in verdict.sentence]
    return html.Section(
        [
            html.P(
                [
                    html.Span(
                        _GLYPHS[verdict.state], className="glyph", **parts.attributes(aria_hidden="true")
                    ),
                    verdict.state,
                ],
                className="state",
            ),
            html.P(verdict.sentence, className="sentence"),
            html.P(" · ".join(facts), className="aside"),
        ],
        className=f"verdict {state}",
        id="verdict",
        role="status",  # read out when it changes
    )


def _tiles(context: Context, day: Mapping[str, Sequence[Line]]) -> Component:
    return html.Section(
        [
            _tile(context, label, _up_to_now(context, label, query.joined(day[label])))
            for label in headlines(context)
        ],
        className="tiles",
        **parts.attributes(aria_label="Headline measures"),
    )


def _up_to_now(context: Context, label: str, points: Sequence[LinePoint]) -> list[LinePoint]:
    """The day's points, the last of which is the number that the tile shows."""
    measured, time = context.snapshot.measures.get(label), context.snapshot.freshness.time
    if measured is None or time is None or not points:
        return list(points)
    now = LinePoint(time, *measured.value, n=measured.n, rounds=measured.rounds)
    return [*(point for point in points if point.time < time), now]


def _tile(context: Context, label: str, points: Sequence[LinePoint]) -> Component:
    measured = context.snapshot.measures.get(label)
    heading = parts.link(
        wording.title(label),
        context.address.to(measure=label),
        className="tile-title",
        title=wording.meaning(label),
    )
    chosen = " chosen" if context.address.measure == label else ""
    if measured is None:
        return html.Article([heading, html.P("n/a", className="figure")], className=f"tile{chosen}")
    budget = context.settings.budget.get(label)
    over = budget is not None and standing(measured.excess, budget) == "above"
    detail = wording.between(label, measured.value) + (
        f" · budget {wording.limit(label, budget)}" if budget is not None else ""
    )
    children: list[Component] = [
        heading,
        html.P(wording.amount(label, measured.value.value), className="figure over" if over else "figure"),
    ]
    if len(points) > 1:
        since = wording.duration(points[-1].time - points[0].time)
        moved = wording.change(label, measured.value.value, points[0].value)
        line = sparkline(
            [point.time for point in points],
            [point.value for point in points],
            context.palette.warning if over else context.palette.accent,
        )
        children += [
            html.P(f"{moved} in {since}", className="change"),
            html.P(detail, className="detail"),
            html.Img(src=line, className="sparkline", alt=f"{wording.title(label)} over {since}: {moved}"),
        ]
    else:
        children.append(html.P(detail, className="detail"))
    return html.Article(children, className=f"tile{chosen}")


def _matrix(context: Context) -> Panel:
    label = context.address.measure
    if context.verdict.asked > MATRIX_UP_TO:
        return _ranked_list(context, label)
    matrix = query.matrix(context.store, context.present)
    rows = [flat(cell) for cell in matrix.cells]
    budget = context.settings.budget.get(label)
    return Panel(
        "matrix",
        f"{wording.title(label)} between replicas, above the floor{', in %' if wording.is_share(label) else ''}",
        matrix_table(matrix, context.address, enough=context.settings.enough, budget=budget),
        rows,
        note="Alike replicas stand together. Select a cell to see the pair.",
        size="narrow",
    )


def _ranked_list(context: Context, label: str) -> Panel:
    by_label = query.replica_means(context.store, context.present, (label, COMPONENT))
    shown = label if by_label.get(label) else COMPONENT
    title = (
        f"{wording.title(label)} of each replica against all others"
        if shown == label
        else "Each replica's own noise (variance of log-odds)"
    )
    estimates = by_label.get(shown, ())
    return Panel(
        "matrix",
        title,
        fleet_list(shown, estimates, budget=context.settings.budget.get(label) if shown == label else None),
        [flat(row) for row in estimates],
        note="Those that differ most first. Replicas whose intervals touch are one cluster.",
        size="narrow",
    )


def _course(context: Context, lines: Sequence[Line]) -> Panel:
    label, address = context.address.measure, context.address
    events = query.events(context.store, context.charted)
    shown = [("all pairs", lines)]
    if address.compare:
        shown.append((f"{address.compare} before", _before(context, label)))
    figure = course(
        shown,
        label,
        context.palette,
        floor=query.floor_course(context.store, context.charted.to(points=60)),
        events=events,
        budget=context.settings.budget.get(label),
        span=(context.start, context.end),
        revision=f"{label}{address.range_name}{address.stream}{address.zone}",
        height=330,
    )
    rows = [{"resolution": line.resolution, **flat(point)} for line in lines for point in line.points]
    title = f"{wording.title(label)}, {address.range_name}"
    note = f"Mean over all pairs with its 95% interval; {zone_name()}."
    body = [parts.Chart("course", figure, title), parts.refresh_list(events)]
    return Panel("course", title, body, rows=rows, figure=figure, note=note, size="wide")


def _before(context: Context, label: str) -> list[Line]:
    """The range so long before, moved to where this one stands."""
    shift = WINDOWS[context.address.compare]
    before = context.charted.to(end=context.end - shift)
    lines = query.courses(context.store, before, (label,))[label]
    return [
        replace(line, points=tuple(replace(point, time=point.time + shift) for point in line.points))
        for line in lines
    ]


def _odd_one_out(context: Context) -> Panel:
    odd_one_out = context.status.odd
    title = "Odd one out: each replica's own noise"
    if not odd_one_out.components:
        two = " With two replicas a difference shows, not which of them is the odd one."
        text = "Three replicas or more are needed." + (two if context.verdict.asked == 2 else "")
        return Panel("odd-one-out", title, parts.message(text), size="wide")
    figure = component_bars(odd_one_out, context.palette)
    odd = [component.replica for component in odd_one_out.odd]
    sentence = (
        f"{' and '.join(odd)} stand{'s' if len(odd) == 1 else ''} out." if odd else "Nobody stands out."
    )
    rows = [flat(component) | {"odd": component.replica in odd} for component in odd_one_out.components]
    return Panel(
        "odd-one-out",
        title,
        [html.P(sentence, className="lead"), parts.Chart("odd-one-out", figure, title)],
        rows,
        figure,
        note="Variance of log-odds with its 95% interval; the dashed line is three times the median.",
        size="wide",
    )


def _health(context: Context) -> Panel:
    snapshot = context.snapshot
    fresh = snapshot.freshness
    newest = answered_shares(fresh.outcomes)
    seen = {replica.replica: replica for replica in snapshot.replicas}
    # one that was asked and never answered has no version, and is the first that a reader should see
    names = sorted({*newest, *snapshot.coverage, *seen}, key=lambda name: (name in seen, name))
    rows: list[dict[str, Any]] = [
        {
            "replica": name,
            "version": seen[name].version if name in seen else None,
            "newest_round": newest.get(name),
            "coverage": snapshot.coverage.get(name),
            "last_seen": seen[name].last_seen if name in seen else None,
        }
        for name in names
    ]
    body = [
        parts.facts(
            [
                ("Newest round", f"{wording.duration(fresh.age)} ago" if fresh.age is not None else "never"),
                ("Rounds, last hour", str(fresh.rounds)),
                ("Mirrored calls, last hour", _mirrored(context)),
            ]
        ),
        parts.table(
            [
                "Replica",
                "Version",
                "Newest round",
                f"Last {wording.duration(context.settings.monitor_window)}",
                "Last answer",
            ],
            [
                [
                    parts.name(row["replica"], 30),
                    str(row["version"] or "\u2013"),
                    _coverage(row["newest_round"], fresh.outcomes.get(row["replica"], {})),
                    _coverage(row["coverage"]),
                    _last(context, row["last_seen"]),
                ]
                for row in rows
            ],
            numeric=(1, 2, 3, 4),
            caption="Replicas",
        ),
    ]
    return Panel(
        "health",
        "Freshness and coverage",
        body,
        rows,
        note="Coverage: share of the requests asked that were answered well.",
        size="narrow",
    )


def _gateway(context: Context) -> list[Panel]:
    """Who gets calls, by the gateways' own account; nothing for a past moment, of which they say nothing."""
    if context.gateways is None or context.address.fixed is not None:
        return []
    states = context.gateways.states()
    if not states:
        return []
    several = len(states) > 1
    body: list[Component] = []
    for state in states:
        if state.problem:
            body.append(
                parts.message(f"The gateway {state.address} does not say how it stands: {state.problem}.")
            )
            continue
        counts = [
            f"{state.healthy} of {len(state.replicas)}",
            *(
                f"{number} {word}"
                for number, word in ((state.drained, "drained"), (state.ejected, "ejected"))
                if number
            ),
        ]
        failed = f", {_rate(state.failed_a_second)} fail" if state.failed_a_second else ""
        body.append(
            parts.facts(
                [
                    *([("Gateway", state.address)] if several else []),
                    ("Replicas that get calls", ", ".join(counts)),
                    ("Calls a second", f"{_rate(state.calls_a_second)}{failed}"),
                    ("Calls since its start", f"{state.calls:,.0f}, {state.failed:,.0f} failed"),
                    ("Second tries since its start", f"{state.retried:,.0f}"),
                ]
            )
        )
    rows = [
        ({"gateway": state.address} if several else {}) | flat(replica)
        for state in states
        for replica in state.replicas
    ]
    if rows:
        body.append(
            parts.table(
                [
                    *(["Gateway"] if several else []),
                    "Replica",
                    "Address",
                    "Gets calls",
                    "Calls a second",
                    "Tries",
                    "Failed",
                ],
                [
                    [
                        *([row["gateway"]] if several else []),
                        parts.name(row["name"], 30),
                        row["address"],
                        html.Span("yes") if row["gets_calls"] else html.Span("no", className="bad"),
                        _rate(row["calls_a_second"]),
                        f"{row['calls']:,.0f}",
                        f"{row['errors']:,.0f}",
                    ]
                    for row in rows
                ],
                numeric=range(3 + several, 6 + several),
                caption="Replicas as the gateway sees them",
            )
        )
    note = "A replica that is drained, ejected or unhealthy gets no calls. Failed tries were made again elsewhere."
    return [Panel("gateway", "Gateways" if several else "Gateway", body, rows, note=note)]


def _rate(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:,.1f}"


def _mirrored(context: Context) -> Component:
    outcomes = query.mirrored(context.store, Selection.between(context.now - HOUR, context.now + 1))
    if not outcomes.get("seen"):
        return html.Span("none", title="No monitor took mirrored calls", className="muted")
    lost = {kind: outcomes.get(kind, 0) for kind in ("dropped", "unreadable")}
    counts = [f"{outcomes['seen']:,}", f"{outcomes.get('sampled', 0):,} sampled"]
    counts += [f"{count:,} {kind}" for kind, count in lost.items() if count]
    return html.Span(
        ", ".join(counts),
        title="Dropped: lost or too large. Unreadable: of the sampled, those that cannot be asked of every replica.",
        className="bad" if any(lost.values()) else "",
    )


def _last(context: Context, seen: float | None) -> str:
    return "never" if seen is None else f"{wording.duration(max(context.now - seen, 0))} ago"


def _coverage(share: float | None, outcomes: Mapping[str, int] | None = None) -> Component:
    """A share; `outcomes` say on hover why it is not whole."""
    if share is None:
        return html.Span("not asked" if outcomes is not None else "n/a", className="muted")
    why = "; ".join(
        f"{count:,}: {KINDS.get(kind, kind)}"
        for kind, count in (outcomes or {}).items()
        if kind not in ("asked", "answered") and count
    )
    return html.Span(f"{100 * share:.1f}%", className="bad" if share < 0.9 else "", title=why)
