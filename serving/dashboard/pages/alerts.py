"""Alerts: what fires, what did, and for how long."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html

from ranker import wording
from serving.dashboard import parts
from serving.dashboard.context import Content, Context, Panel
from serving.dashboard.figures.alerts import alert_chart
from serving.monitor.plain import flat
from serving.monitor.store import query
from serving.monitor.store.results import AlertRow


def build(context: Context) -> Content:
    """Open alerts first, then the window's history."""
    found = query.alerts(context.store, since=context.start, limit=500)
    standing = query.alerts(context.store, state="firing", limit=200) + query.alerts(
        context.store, state="pending", limit=200
    )
    firing = sum(one.state == "firing" for one in standing)
    said = f"{firing} firing, {len(standing) - firing} pending." if standing else "Nothing fires."
    return Content(
        [html.H1("Alerts"), html.P(said, className="lead bad" if firing else "lead")],
        [
            _table(context, "standing", "Now", standing),
            _history(context, found),
            _table(context, "history", "History", found),
        ],
    )


def _table(context: Context, key: str, title: str, found: Sequence[AlertRow]) -> Panel:
    if not found:
        return Panel(key, title, parts.message("None."))
    cells = [
        [
            html.Span(
                one.state + (" (silenced)" if one.silenced else ""),
                className="bad" if one.state == "firing" else "",
            ),
            one.severity,
            parts.name(one.rule, 40),
            parts.name(one.summary, 300),
            f"{parts.clock(one.started)}",
            wording.duration((one.resolved or context.now) - one.started),
        ]
        for one in found[:100]
    ]
    shown = parts.table(
        ["State", "Severity", "Rule", "What", "Since (UTC)", "For"], cells, numeric=(5,), caption=title
    )
    return Panel(key, title, shown, [flat(one) for one in found])


def _history(context: Context, found: Sequence[AlertRow]) -> Panel:
    title = f"When, last {context.address.window}"
    if not found:
        return Panel("timeline", title, parts.message("No alert in this window."))
    figure = alert_chart(found, context.start, context.end, context.palette)
    return Panel(
        "timeline",
        title,
        parts.chart("timeline", figure, title),
        [flat(one) for one in found],
        figure,
        "From start to end; the strong part is when it fired. UTC.",
    )
