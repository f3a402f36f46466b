"""Two replicas: how far apart, since when, at which gaps, for whom, on which requests."""

from __future__ import annotations

import math

from dash import html

from ranker import wording
from ranker.divergence import LEVELS, standing
from serving.dashboard.figures.course import course
from serving.dashboard.figures.gaps import gap_chart
from serving.dashboard.figures.slices import slice_bars
from serving.dashboard.layout import parts
from serving.dashboard.layout.context import Content, Context, Panel
from serving.dashboard.layout.zone import iso_of, zone_name
from serving.dashboard.queries.kept import kept_requests, most_apart
from serving.monitor.plain import flat
from serving.monitor.store import query
from serving.monitor.store.results import PairEstimate

_RARE = 0.002


def build(context: Context) -> Content:
    """The pair of the address, else the one furthest apart."""
    address = context.address
    matrix = query.matrix(context.store, context.present)
    if not matrix.cells:
        return Content([html.H1("Pair"), parts.message("Nothing has been compared yet.")])
    cell = next((pair for pair in matrix.cells if {pair.a, pair.b} == {address.a, address.b}), None)
    if cell is None and (address.a or address.b):
        names = ", ".join(parts.short(name, 30) for name in matrix.replicas)
        sentence = f"These two are not compared now. There are {names}."
        return Content([html.H1("Pair"), *_choice(context, matrix.replicas, None), parts.message(sentence)])
    cell = cell or max(matrix.cells, key=lambda pair: _known(pair.excess.value))
    return Content(
        [
            html.H1(["Pair ", parts.name(cell.a, 40), " and ", parts.name(cell.b, 40)]),
            *_choice(context, matrix.replicas, cell),
            _facts(context, cell),
        ],
        [
            _course(context, cell),
            _gaps(context, cell),
            _slices(context, cell),
            _requests(context, cell),
            _measures(context, cell),
        ],
    )


def _known(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _choice(context: Context, names: tuple[str, ...], cell: PairEstimate | None) -> list[html.Div]:
    address = context.address
    a, b = (cell.a, cell.b) if cell else (address.a, address.b)
    first = [(name, address.to(a=name, b=b if b != name else a), name == a) for name in names]
    second = [(name, address.to(a=a if a != name else b, b=name), name == b) for name in names]
    return [html.Div([parts.menu("First", a, first), parts.menu("Second", b, second)], className="controls")]


def _facts(context: Context, cell: PairEstimate) -> html.Dl:
    label = context.address.measure
    return parts.facts(
        [
            (
                wording.title(label),
                f"{wording.amount(label, cell.value.value)} ({wording.between(label, cell.value)})",
            ),
            (
                "Above the floor",
                f"{wording.amount(label, cell.excess.value)} ({wording.between(label, cell.excess)})",
            ),
            ("Requests", f"{cell.n:,}"),
            ("Versions", f"{cell.a_version} and {cell.b_version}"),
            ("They differ by", f"{cell.level}: {LEVELS.get(cell.level, cell.level)}"),
        ]
    )


def _course(context: Context, cell: PairEstimate) -> Panel:
    address, label = context.address, context.address.measure
    lines = query.lines(context.store, context.charted.to(kind="pair", a=cell.a, b=cell.b))
    everyone = query.lines(context.store, context.charted)
    events = [
        event for event in query.events(context.store, context.charted) if event.replica in (cell.a, cell.b)
    ]
    figure = course(
        [("this pair", lines), ("all pairs", everyone)],
        label,
        context.palette,
        events=events,
        budget=context.settings.budget.get(label),
        span=(context.start, context.end),
        revision=f"{cell.a}{cell.b}{label}{address.range_name}{address.stream}{address.zone}",
    )
    rows = [
        {"a": line.a, "b": line.b, "a_version": line.a_version, "b_version": line.b_version, **flat(point)}
        for line in lines
        for point in line.points
    ]
    title = f"{wording.title(label)}, {address.range_name}"
    return Panel(
        "course",
        title,
        parts.Chart("course", figure, title),
        rows=rows,
        figure=figure,
        note=f"The pair against the mean over all pairs, with 95% intervals; {zone_name()}.",
    )


def _gaps(context: Context, cell: PairEstimate) -> Panel:
    title = "Are the swaps near ties?"
    note = "Share of item pairs inverted, by deciles of their gap, with 95% intervals; counted once an hour."
    tenths = query.gaps(context.store, context.charted.to(a=cell.a, b=cell.b))
    if not tenths:
        text = "Not counted in this window: the probe's stream is, where two replicas differ at all."
        return Panel("gaps", title, parts.message(text), note=note, size="half")
    figure = gap_chart(tenths, context.palette)
    # where noise explains next to nothing, an inversion is no accident
    odd = any(tenth.predicted < _RARE and standing(tenth.excess, _RARE) == "above" for tenth in tenths)
    sentence = (
        "More swaps at large gaps than noise explains: look for a difference in features or versions."
        if odd
        else "No more swaps at large gaps than noise explains."
    )
    lead = html.P(sentence, className="lead bad" if odd else "lead")
    rows = [flat(tenth) | {"predicted": tenth.predicted} for tenth in tenths]
    return Panel(
        "gaps",
        title,
        [lead, parts.Chart("gaps", figure, title)],
        rows=rows,
        figure=figure,
        note=note,
        size="half",
    )


def _slices(context: Context, cell: PairEstimate) -> Panel:
    label = context.address.measure
    slices = query.slices(context.store, context.present.to(a=cell.a, b=cell.b))
    title = f"{wording.title(label)} by slice"
    if not slices:
        text = "This measure is not kept by slice, or `monitor.slices` names no feature."
        return Panel("slices", title, parts.message(text), size="half")
    figure = slice_bars(slices, label, context.palette)
    return Panel(
        "slices",
        title,
        parts.Chart("slices", figure, title),
        rows=[flat(row) for row in slices],
        figure=figure,
        note="Parts of the requests, with 95% intervals.",
        size="half",
    )


def _requests(context: Context, cell: PairEstimate) -> Panel:
    exemplars = kept_requests(context.settings.exemplar_directory, context.charted)
    apart = most_apart(exemplars, cell.a, cell.b)
    title = "Requests on which they part first"
    if not apart:
        return Panel(
            "requests", title, parts.message("No kept request has another order by these two."), size="half"
        )
    rows = [
        {
            "request": exemplar.request,
            "time": iso_of(exemplar.time),
            "first_difference": rank,
            "cost": exemplar.cost,
        }
        for exemplar, rank in apart
    ]
    cells = [
        [
            parts.link(
                parts.name(exemplar.request, 30),
                context.address.to("request", request=exemplar.request, a=cell.a, b=cell.b),
            ),
            str(rank),
            wording.amount("consensus_regret", exemplar.cost),
        ]
        for exemplar, rank in apart
    ]
    shown = parts.table(
        ["Request", "First rank", parts.measure_heading("consensus_regret")],
        cells,
        numeric=(1, 2),
        caption=title,
    )
    return Panel("requests", title, shown, rows, note="Kept whole by the monitor.", size="half")


def _measures(context: Context, cell: PairEstimate) -> Panel:
    estimates = query.pair_measures(context.store, context.present.to(a=cell.a, b=cell.b))
    rows = [{"measure": label, **flat(estimate.value)} for label, estimate in estimates.items()]
    cells = [
        [
            parts.link(wording.title(label), context.address.to(measure=label), title=wording.meaning(label)),
            wording.amount(label, estimate.value.value),
            wording.between(label, estimate.value),
            wording.amount(label, estimate.excess.value),
        ]
        for label, estimate in estimates.items()
    ]
    shown = parts.table(
        ["Measure", "Value", "95% interval", "Above floor"], cells, numeric=(1, 2, 3), caption="Measures"
    )
    return Panel("measures", "Every measure of this pair", shown, rows, size="half")
