"""Which items and which users see the most swaps."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html
from dash.development.base_component import Component

from ranker import wording
from serving.dashboard.figures.slices import slice_bars
from serving.dashboard.layout import parts
from serving.dashboard.layout.context import Content, Context, Panel
from serving.dashboard.queries.items import Swapped, swapped_contexts, swapped_items, total
from serving.dashboard.queries.kept import uniform_sample
from serving.monitor.plain import flat
from serving.monitor.store import query

SUPPORT = 5
"""Least number of requests for a line in the tables."""
_LISTED = 25


def build(context: Context) -> Content:
    """Items and context values from kept requests, slices from the store."""
    exemplars = uniform_sample(context.settings.exemplar_directory, context.charted)
    k = context.settings.k
    summary = (
        f"From {total(exemplars):,} requests of the uniform sample; a line needs {SUPPORT} of them or more; "
        "surest first, by the lower end of the interval; what never changed is left out."
    )
    return Content(
        [html.H1("Items and users"), html.P(summary, className="note")],
        [
            _listing(
                "items",
                f"Items most often in one top {k} and not in another",
                swapped_items(exemplars, k, SUPPORT),
                ["Item", "Requests", "Not in every top", "95% interval", "Ranks moved"],
                lambda swapped: f"{swapped.moved:.2f}",
            ),
            _listing(
                "users",
                "Users whose first item changes most often",
                swapped_contexts(exemplars, SUPPORT),
                [
                    "Context",
                    "Requests",
                    "First item differs",
                    "95% interval",
                    parts.measure_heading("consensus_regret"),
                ],
                lambda swapped: wording.amount("consensus_regret", swapped.moved),
            ),
            _slices(context),
        ],
    )


def _listing(
    key: str, title: str, entries: Sequence[Swapped], columns: Sequence[str | Component], moved: object
) -> Panel:
    if not entries:
        text = f"Nothing that changed was in {SUPPORT} kept requests or more of this window."
        return Panel(key, title, parts.message(text), size="half")
    cells = [
        [
            parts.name(entry.name, 34),
            f"{entry.requests:,}",
            f"{wording.percent(entry.share.value)}%",
            wording.between("top1_swap", entry.share),
            moved(entry),  # type: ignore[operator]
        ]
        for entry in entries[:_LISTED]
    ]
    shown = parts.table(columns, cells, numeric=(1, 2, 3, 4), caption=title)
    return Panel(key, title, shown, [flat(entry) for entry in entries], size="half")


def _slices(context: Context) -> Panel:
    label = context.address.measure
    slices = query.slices(context.store, context.present)
    title = f"{wording.title(label)} by slice, over all requests"
    if not slices:
        return Panel(
            "slices",
            title,
            parts.message("This measure is not kept by slice, or `monitor.slices` names no feature."),
        )
    figure = slice_bars(slices, label, context.palette)
    return Panel(
        "slices",
        title,
        parts.Chart("slices", figure, title),
        rows=[flat(row) for row in slices],
        figure=figure,
        note="Mean over all pairs, with 95% intervals.",
    )
