"""One request: the replicas' lists side by side, who moved whom, what it costs, and how to ask again."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html
from dash.development.base_component import Component

from ranker import wording
from serving.dashboard.figures.bump import bump_chart
from serving.dashboard.layout import parts
from serving.dashboard.layout.context import Content, Context, Panel
from serving.dashboard.layout.zone import iso_of, zone_name
from serving.dashboard.queries.kept import kept_requests
from serving.dashboard.queries.rankings import Placed, SideBySide, side_by_side, swaps
from serving.dashboard.queries.replay import context_text, replay
from serving.monitor.measurement.exemplars import RequestExemplar
from serving.monitor.plain import flat
from serving.monitor.store import query
from serving.monitor.store.selection import Selection

_SHOWN = 15


def build(context: Context) -> Content:
    """The request of the address, else the costliest kept one."""
    exemplars = kept_requests(context.settings.exemplar_directory, context.charted)
    request = context.address.request
    matches = (entry for entry in exemplars if entry.request == request or not request)
    exemplar = next(matches, None)
    if exemplar is None:
        text = (
            f"No request {parts.short(request, 60)} was kept in this window."
            if request
            else "The monitor has kept no request in this window."
        )
        return Content(
            [html.H1("Request"), parts.message(text)],
            [_listing(context, exemplars, None)] if exemplars else [],
        )
    chosen = [name for name in (context.address.a, context.address.b) if name in exemplar.replicas]
    places = (
        [exemplar.replicas.index(name) for name in chosen]
        if len(set(chosen)) == 2
        else list(range(len(exemplar.replicas)))
    )
    # the consensus is that of all replicas but the odd ones of that time, whichever are shown
    odd = [
        component.replica
        for component in query.odd_one_out(
            context.store, Selection(exemplar.time + 1, stream=exemplar.stream)
        ).odd
    ]
    everyone = side_by_side(exemplar.replicas, exemplar.items, exemplar.scores, odd)
    shown = [exemplar.replicas[place] for place in places]
    return Content(
        [
            html.H1(["Request ", parts.name(exemplar.request, 60)]),
            _choice(context, exemplar, shown),
            _facts(exemplar, everyone, shown),
        ],
        [
            _bump(context, everyone, shown),
            _listing(context, exemplars, exemplar),
            _table(context, everyone, shown),
            _swaps(everyone, shown),
            _replay(context, exemplar, shown),
        ],
    )


def _only(rankings: SideBySide, shown: Sequence[str]) -> SideBySide:
    items = tuple(
        Placed(
            item=placed.item,
            rank=placed.rank,
            mean=placed.mean,
            ranks={name: placed.ranks[name] for name in shown},
            scores={name: placed.scores[name] for name in shown},
            gains={name: placed.gains[name] for name in shown},
        )
        for placed in rankings.items
    )
    return SideBySide(tuple(shown), items, {name: rankings.regret[name] for name in shown}, rankings.odd)


def _choice(context: Context, exemplar: RequestExemplar, shown: Sequence[str]) -> Component:
    address = context.address
    a, b = (shown[0], shown[1]) if len(shown) == 2 else ("", "")
    first = [("all replicas", address.to(request=exemplar.request, a="", b=""), not a)]
    names = exemplar.replicas
    for name in names:
        partner = b if b and b != name else next((n for n in names if n != name), "")
        first.append((name, address.to(request=exemplar.request, a=name, b=partner), name == a))
    controls: list[Component] = [parts.menu("Replica", a or "all replicas", first)]
    if a:
        second = [
            (name, address.to(request=exemplar.request, a=a, b=name), name == b)
            for name in names
            if name != a
        ]
        controls.append(parts.menu("Against", b, second))
    return html.Div(controls, className="controls")


def _facts(exemplar: RequestExemplar, everyone: SideBySide, shown: Sequence[str]) -> Component:
    tops = {
        name: next((placed.item for placed in everyone.items if placed.ranks[name] == 1), "")
        for name in shown
    }
    entries: list[tuple[str, Component | str]] = [
        ("Asked", f"{parts.clock(exemplar.time)} {zone_name()}"),
        ("Candidates", f"{len(everyone.items):,}"),
        ("Different top items", str(len(set(tops.values())))),
        (
            f"{wording.title('consensus_regret')}, mean",
            wording.amount("consensus_regret", sum(everyone.regret[n] for n in shown) / max(len(shown), 1)),
        ),
        ("Kept as", exemplar.why),
    ]
    if everyone.odd:
        names: list[Component] = [parts.name(name, 30) for name in everyone.odd]
        entries.append(("Odd, not in the consensus", html.Span(names, className="bad")))
    entries += [
        (parts.short(name, 30), parts.name(value, 40)) for name, value in context_text(exemplar.context)
    ]
    return parts.facts(entries)


def _bump(context: Context, everyone: SideBySide, shown: Sequence[str]) -> Panel:
    rankings = _only(everyone, shown)
    figure = bump_chart(rankings, context.palette, k=context.settings.k)
    moved = sum(placed.moved for placed in rankings.items if placed.rank <= context.settings.k)
    sentence = f"{moved} of the top {min(context.settings.k, len(rankings.items))} stand elsewhere in at least one list."
    rows = [
        {
            "item": placed.item,
            "consensus": placed.rank,
            **{f"rank {name}": rank for name, rank in placed.ranks.items()},
        }
        for placed in rankings.items
    ]
    return Panel(
        "rankings",
        "Rankings side by side",
        [html.P(sentence, className="lead"), parts.Chart("rankings", figure, sentence)],
        rows=rows,
        figure=figure,
        note="From left to right: the consensus order, then each replica's. Items that move are coloured.",
        size="wide",
    )


def _table(context: Context, everyone: SideBySide, shown: Sequence[str]) -> Panel:
    rankings = _only(everyone, shown)
    items = [
        placed
        for placed in rankings.items
        if placed.rank <= _SHOWN or min(placed.ranks.values()) <= context.settings.k
    ]
    top = max((score for placed in items for score in placed.scores.values()), default=1.0) or 1.0
    rows: list[list[Component | str]] = [
        [
            str(placed.rank),
            parts.name(placed.item, 40),
            f"{placed.mean:.4f}",
            *(_score(placed, name, top) for name in shown),
        ]
        for placed in items
    ]
    regret = [wording.amount("consensus_regret", rankings.regret[name]) for name in shown]
    rows.append(
        [
            "",
            html.Strong(parts.measure_heading("consensus_regret")),
            "",
            *(html.Strong(text) for text in regret),
        ]
    )
    exported = [
        {
            "item": placed.item,
            "consensus_rank": placed.rank,
            "mean_score": placed.mean,
            **{f"score {name}": score for name, score in placed.scores.items()},
            **{f"rank {name}": rank for name, rank in placed.ranks.items()},
        }
        for placed in rankings.items
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
    swaps_shown = [swap for swap in swaps(everyone) if swap.replica in shown]
    title = "What each swap costs"
    if not swaps_shown:
        return Panel("swaps", title, parts.message("Every list is in the consensus order."), size="narrow")
    cells = [
        [
            parts.name(swap.replica, 24),
            f"{swap.first}–{swap.last}",
            html.Ol(
                [html.Li(parts.name(item, 24)) for item in swap.items[:4]],
                className="order",
                start=str(swap.first),
            ),
            wording.amount("consensus_regret", swap.cost),
        ]
        for swap in swaps_shown[:20]
    ]
    listing = parts.table(
        ["Replica", "Ranks", "Its order", parts.measure_heading("consensus_regret")],
        cells,
        numeric=(3,),
        caption=title,
    )
    note = "Share of expected clicks lost against the consensus order; a list's swaps add up to its loss."
    return Panel("swaps", title, listing, [flat(swap) for swap in swaps_shown], note=note, size="narrow")


def _score(placed: Placed, replica: str, top: float) -> Component:
    rank, score = placed.ranks[replica], placed.scores[replica]
    by = placed.rank - rank
    arrow = f" ▲{by}" if by > 0 else f" ▼{-by}" if by < 0 else ""
    return html.Div(
        [
            html.Span(className="bar", style={"--share": f"{100 * score / top:.1f}%"}),
            html.Span([f"{score:.4f}", html.Span(arrow, className="moved")], className="value"),
        ],
        className="score",
        title=f"rank {rank}",
    )


def _listing(context: Context, exemplars: Sequence[RequestExemplar], chosen: RequestExemplar | None) -> Panel:
    newest = exemplars[0].time // 3600 if exemplars else 0
    newest_exemplars = [exemplar for exemplar in exemplars if exemplar.time // 3600 == newest][:14]
    rows = [
        {
            "request": exemplar.request,
            "time": iso_of(exemplar.time),
            "cost": exemplar.cost,
            "why": exemplar.why,
            "level": exemplar.level,
        }
        for exemplar in exemplars
    ]
    cells = [
        [
            parts.link(
                parts.name(exemplar.request, 28),
                context.address.to(
                    "request", request=exemplar.request, a=context.address.a, b=context.address.b
                ),
                className="chosen" if chosen is not None and exemplar.request == chosen.request else "",
            ),
            wording.amount("consensus_regret", exemplar.cost),
            exemplar.why,
        ]
        for exemplar in newest_exemplars
    ]
    shown = parts.table(
        ["Request", parts.measure_heading("consensus_regret"), "Kept as"],
        cells,
        numeric=(1,),
        caption="Kept requests",
    )
    return Panel(
        "kept", "Kept requests, costliest first", shown, rows, note="Of the newest hour.", size="narrow"
    )


def _replay(context: Context, exemplar: RequestExemplar, shown: Sequence[str]) -> Panel:
    body: list[Component] = []
    rows = []
    for place, name in enumerate(shown):
        replay_command = replay(exemplar, name, context.settings.deployment, context.settings.probe_path)
        key = f"replay-{place}"
        summary = html.Summary([parts.name(name, 40)])
        missing = replay_command.missing
        note = [parts.message(f"{missing[0].upper()}{missing[1:]}.")] if missing else []
        code = html.Div(
            [
                html.Pre(replay_command.command, id=key, tabIndex=0),
                html.Button("Copy", className="copy", **parts.attributes(data_copies=key)),
            ],
            className="command",
        )
        body.append(html.Details([summary, code, *note], open=place == 0, className="replay"))
        rows.append({"replica": name, "command": replay_command.command, "missing": missing})
    return Panel(
        "replay",
        "Ask again",
        body,
        rows,
        note="The command that sends this request to a replica now.",
        size="wide",
    )
