"""One request: the replicas' lists side by side, who moved whom, what it costs, and how to ask again."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html
from dash.development.base_component import Component

from ranker import wording
from serving.dashboard import parts
from serving.dashboard.context import Content, Context, Panel
from serving.dashboard.figures.bump import bump_chart
from serving.dashboard.queries.kept import kept_requests
from serving.dashboard.queries.replay import context_text, replay
from serving.dashboard.rankings import Placed, SideBySide, side_by_side, swaps
from serving.dashboard.zone import zone_name
from serving.monitor.exemplars import RequestExemplar
from serving.monitor.plain import flat
from serving.monitor.store import query

_SHOWN = 15


def build(context: Context) -> Content:
    """The request of the address, else the costliest kept one."""
    kept = kept_requests(context.settings.kept, context.address.stream, context.start, context.end)
    wanted = context.address.request
    found = next((one for one in kept if one.request == wanted), None) if wanted else next(iter(kept), None)
    if found is None:
        said = (
            f"No request {parts.short(wanted, 60)} was kept in this window."
            if wanted
            else "The monitor has kept no request in this window."
        )
        return Content(
            [html.H1("Request"), parts.message(said)], [_others(context, kept, None)] if kept else []
        )
    chosen = [name for name in (context.address.a, context.address.b) if name in found.replicas]
    places = (
        [found.replicas.index(name) for name in chosen]
        if len(set(chosen)) == 2
        else list(range(len(found.replicas)))
    )
    # the consensus is that of all replicas but the odd ones of that time, whichever are shown
    odd = [one.replica for one in query.odd_one_out(context.store, found.time + 1, stream=found.stream).odd]
    everyone = side_by_side(found.replicas, found.items, found.scores, odd)
    shown = [found.replicas[place] for place in places]
    return Content(
        [
            html.H1(["Request ", parts.name(found.request, 60)]),
            _choice(context, found, shown),
            _facts(found, everyone, shown),
        ],
        [
            _bump(context, everyone, shown),
            _others(context, kept, found),
            _table(context, everyone, shown),
            _swaps(everyone, shown),
            _replay(context, found, shown),
        ],
    )


def _only(found: SideBySide, shown: Sequence[str]) -> SideBySide:
    items = tuple(
        Placed(
            one.item,
            one.rank,
            one.mean,
            {name: one.ranks[name] for name in shown},
            {name: one.scores[name] for name in shown},
            {name: one.gains[name] for name in shown},
        )
        for one in found.items
    )
    return SideBySide(tuple(shown), items, {name: found.regret[name] for name in shown}, found.odd)


def _choice(context: Context, found: RequestExemplar, shown: Sequence[str]) -> Component:
    address = context.address
    a, b = (shown[0], shown[1]) if len(shown) == 2 else ("", "")
    first = [("all replicas", address.to(request=found.request, a="", b=""), not a)]
    names = found.replicas
    for name in names:
        other = b if b and b != name else next((n for n in names if n != name), "")
        first.append((name, address.to(request=found.request, a=name, b=other), name == a))
    controls: list[Component] = [parts.menu("Replica", a or "all replicas", first)]
    if a:
        second = [
            (name, address.to(request=found.request, a=a, b=name), name == b) for name in names if name != a
        ]
        controls.append(parts.menu("Against", b, second))
    return html.Div(controls, className="controls")


def _facts(found: RequestExemplar, everyone: SideBySide, shown: Sequence[str]) -> Component:
    tops = {name: next((one.item for one in everyone.items if one.ranks[name] == 1), "") for name in shown}
    entries: list[tuple[str, Component | str]] = [
        ("Asked", f"{parts.clock(found.time)} {zone_name()}"),
        ("Candidates", f"{len(everyone.items):,}"),
        ("Different top items", str(len(set(tops.values())))),
        (
            "Clicks lost, mean",
            wording.amount("consensus_regret", sum(everyone.regret[n] for n in shown) / max(len(shown), 1)),
        ),
        ("Kept as", found.why),
    ]
    if everyone.odd:
        names: list[Component] = [parts.name(name, 30) for name in everyone.odd]
        entries.append(("Odd, not in the consensus", html.Span(names, className="bad")))
    entries += [(parts.short(name, 30), parts.name(value, 40)) for name, value in context_text(found.context)]
    return parts.facts(entries)


def _bump(context: Context, everyone: SideBySide, shown: Sequence[str]) -> Panel:
    found = _only(everyone, shown)
    figure = bump_chart(found, context.palette, k=context.settings.k)
    moved = sum(one.moved for one in found.items if one.rank <= context.settings.k)
    said = f"{moved} of the top {min(context.settings.k, len(found.items))} stand elsewhere in at least one list."
    rows = [
        {
            "item": one.item,
            "consensus": one.rank,
            **{f"rank {name}": rank for name, rank in one.ranks.items()},
        }
        for one in found.items
    ]
    return Panel(
        "rankings",
        "Rankings side by side",
        [html.P(said, className="lead"), parts.chart("rankings", figure, said)],
        rows,
        figure,
        "From left to right: the consensus order, then each replica's. Items that move are coloured.",
        "wide",
    )


def _table(context: Context, everyone: SideBySide, shown: Sequence[str]) -> Panel:
    found = _only(everyone, shown)
    items = [
        one for one in found.items if one.rank <= _SHOWN or min(one.ranks.values()) <= context.settings.k
    ]
    top = max((score for one in items for score in one.scores.values()), default=1.0) or 1.0
    rows: list[list[Component | str]] = [
        [
            str(one.rank),
            parts.name(one.item, 40),
            f"{one.mean:.4f}",
            *(_score(one, name, top) for name in shown),
        ]
        for one in items
    ]
    regret = [wording.amount("consensus_regret", found.regret[name]) for name in shown]
    rows.append(["", html.Strong("Clicks lost"), "", *(html.Strong(text) for text in regret)])
    exported = [
        {
            "item": one.item,
            "consensus_rank": one.rank,
            "mean_score": one.mean,
            **{f"score {name}": score for name, score in one.scores.items()},
            **{f"rank {name}": rank for name, rank in one.ranks.items()},
        }
        for one in found.items
    ]
    head = ["#", "Item", "Mean", *(parts.short(name, 24) for name in shown)]
    note = f"In the consensus order, that of {_consensus_of(everyone)}; arrows: places up or down from there."
    return Panel(
        "scores", "Scores", parts.table(head, rows, numeric=(0, 2), caption="Scores"), exported, note=note
    )


def _consensus_of(everyone: SideBySide) -> str:
    if not everyone.odd:
        return "the mean score over all replicas"
    return f"the mean score over all replicas without {' and '.join(everyone.odd)}, odd at that time"


def _swaps(everyone: SideBySide, shown: Sequence[str]) -> Panel:
    found = [one for one in swaps(everyone) if one.replica in shown]
    title = "What each swap costs"
    if not found:
        return Panel("swaps", title, parts.message("Every list is in the consensus order."), size="narrow")
    cells = [
        [
            parts.name(one.replica, 24),
            f"{one.first}–{one.last}",
            html.Ol(
                [html.Li(parts.name(item, 24)) for item in one.items[:4]],
                className="order",
                start=str(one.first),
            ),
            wording.amount("consensus_regret", one.cost),
        ]
        for one in found[:20]
    ]
    listing = parts.table(
        ["Replica", "Ranks", "Its order", "Clicks lost"], cells, numeric=(3,), caption=title
    )
    note = "Share of expected clicks lost against the consensus order; a list's swaps add up to its loss."
    return Panel("swaps", title, listing, [flat(one) for one in found], note=note, size="narrow")


def _score(one: Placed, replica: str, top: float) -> Component:
    rank, score = one.ranks[replica], one.scores[replica]
    by = one.rank - rank
    arrow = f" ▲{by}" if by > 0 else f" ▼{-by}" if by < 0 else ""
    return html.Div(
        [
            html.Span(className="bar", style={"--share": f"{100 * score / top:.1f}%"}),
            html.Span([f"{score:.4f}", html.Span(arrow, className="moved")], className="value"),
        ],
        className="score",
        title=f"rank {rank}",
    )


def _others(context: Context, kept: Sequence[RequestExemplar], found: RequestExemplar | None) -> Panel:
    newest = kept[0].time // 3600 if kept else 0
    here = [one for one in kept if one.time // 3600 == newest][:14]
    rows = [
        {
            "request": one.request,
            "time": parts.clock(one.time),
            "cost": one.cost,
            "why": one.why,
            "level": one.level,
        }
        for one in kept
    ]
    cells = [
        [
            parts.link(
                parts.name(one.request, 28),
                context.address.to("request", request=one.request, a=context.address.a, b=context.address.b),
                className="chosen" if found is not None and one.request == found.request else "",
            ),
            wording.amount("consensus_regret", one.cost),
            one.why,
        ]
        for one in here
    ]
    shown = parts.table(["Request", "Clicks lost", "Kept as"], cells, numeric=(1,), caption="Kept requests")
    return Panel(
        "kept", "Kept requests, costliest first", shown, rows, note="Of the newest hour.", size="narrow"
    )


def _replay(context: Context, found: RequestExemplar, shown: Sequence[str]) -> Panel:
    body: list[Component] = []
    rows = []
    for place, name in enumerate(shown):
        made = replay(found, name, context.settings.deployment, context.settings.run)
        key = f"replay-{place}"
        summary = html.Summary([parts.name(name, 40)])
        note = [parts.message(f"{made.missing[0].upper()}{made.missing[1:]}.")] if made.missing else []
        code = html.Div(
            [
                html.Pre(made.command, id=key, tabIndex=0),
                html.Button("Copy", className="copy", **parts.attributes(data_copies=key)),
            ],
            className="command",
        )
        body.append(html.Details([summary, code, *note], open=place == 0, className="replay"))
        rows.append({"replica": name, "command": made.command, "missing": made.missing})
    return Panel(
        "replay",
        "Ask again",
        body,
        rows,
        note="The command that sends this request to a replica now.",
        size="wide",
    )
