"""Which items and which users see the most swaps."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html

from ranker import wording
from serving.dashboard import parts
from serving.dashboard.context import Content, Context, Panel
from serving.dashboard.figures.slices import slice_bars
from serving.dashboard.queries.items import Swapped, swapped_contexts, swapped_items, total
from serving.dashboard.queries.kept import uniform_sample
from serving.monitor.plain import flat
from serving.monitor.store import query

SUPPORT = 5
"""Least number of requests for a line in the tables."""
_LISTED = 25


def build(context: Context) -> Content:
    """Items and context values from kept requests, slices from the store."""
    kept = uniform_sample(context.settings.kept, context.address.stream, context.start, context.end)
    k = context.settings.k
    said = (
        f"From {total(kept):,} requests of the uniform sample; a line needs {SUPPORT} of them or more; "
        "surest first, by the lower end of the interval; what never changed is left out."
    )
    return Content(
        [html.H1("Items and users"), html.P(said, className="note")],
        [
            _listing(
                "items",
                f"Items most often in one top {k} and not in another",
                swapped_items(kept, k, SUPPORT),
                ["Item", "Requests", "Not in every top", "95%", "Ranks moved"],
                lambda one: f"{one.moved:.2f}",
            ),
            _listing(
                "users",
                "Users whose first item changes most often",
                swapped_contexts(kept, SUPPORT),
                ["Context", "Requests", "First item differs", "95%", "Clicks lost"],
                lambda one: wording.amount("consensus_regret", one.moved),
            ),
            _slices(context),
        ],
    )


def _listing(key: str, title: str, found: Sequence[Swapped], columns: list[str], moved: object) -> Panel:
    if not found:
        text = f"Nothing that changed was in {SUPPORT} kept requests or more of this window."
        return Panel(key, title, parts.message(text), size="half")
    cells = [
        [
            parts.name(one.name, 34),
            f"{one.requests:,}",
            f"{wording.percent(one.share.value)}%",
            wording.between("top1_swap", one.share),
            moved(one),  # type: ignore[operator]
        ]
        for one in found[:_LISTED]
    ]
    shown = parts.table(columns, cells, numeric=(1, 2, 3, 4), caption=title)
    return Panel(key, title, shown, [flat(one) for one in found], size="half")


def _slices(context: Context) -> Panel:
    label = context.address.measure
    found = query.slices(
        context.store,
        label,
        context.now,
        stream=context.address.stream,
        window=context.settings.monitor_window,
    )
    title = f"{wording.title(label)} by slice, over all requests"
    if not found:
        return Panel(
            "slices",
            title,
            parts.message("This measure is not kept by slice, or `monitor.slices` names no feature."),
        )
    figure = slice_bars(found, label, context.palette)
    return Panel(
        "slices",
        title,
        parts.chart("slices", figure, title),
        [flat(row) for row in found],
        figure,
        "Mean over all pairs, with 95% intervals.",
    )
