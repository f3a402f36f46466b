"""Alerts: what fires, what did, for how long; who has taken it on, and what is silenced."""

from __future__ import annotations

from collections.abc import Sequence

from dash import dcc, html
from dash.development.base_component import Component

from ranker import wording
from ranker.json_text import json_text
from serving.dashboard.figures.alerts import alert_chart
from serving.dashboard.layout import parts
from serving.dashboard.layout.context import Content, Context, Panel
from serving.dashboard.layout.zone import zone_name
from serving.monitor.alerts.keep import StoredSilence, stored_silences
from serving.monitor.plain import flat
from serving.monitor.store import query
from serving.monitor.store.results import AlertRow

_HOURS = {"1": "1 hour", "4": "4 hours", "24": "1 day", "168": "7 days"}


def build(context: Context) -> Content:
    """Open alerts first, what can be done about them, then the window's history."""
    past = query.alerts(context.store, since=context.start, limit=500)
    standing = context.status.alerts
    silences = stored_silences(context.store, context.now)
    lead, bad = _lead(context, standing)
    return Content(
        [html.H1("Alerts"), html.P(lead, className="lead bad" if bad else "lead")],
        [
            _table(context, "standing", "Now", standing),
            _actions(context, standing),
            _silences(context, silences),
            _history(context, past),
            _table(context, "history", "History", past),
        ],
    )


def _lead(context: Context, standing: Sequence[AlertRow]) -> tuple[str, bool]:
    """What stands, and whether it is bad. A silent monitor evaluates nothing: then nothing is never said to be fine."""
    fresh = context.snapshot.freshness
    firing = sum(alert.state == "firing" for alert in standing)
    counted = f"{firing} firing, {len(standing) - firing} pending."
    if context.address.stream == "probe" and fresh.time is None:
        return "Alerts are not evaluated: no round has been measured yet.", True
    if any(alert.id is None for alert in standing):
        newest = query.freshness(context.store, context.present).time
        return (
            f"Alerts are not evaluated since {parts.clock(newest)} {zone_name()}: the monitor is silent. "
            f"As of then, with that silence itself: {counted}",
            True,
        )
    return (counted, firing > 0) if standing else ("Nothing fires.", False)


def _table(context: Context, key: str, title: str, alerts: Sequence[AlertRow]) -> Panel:
    if not alerts:
        return Panel(key, title, parts.message("None."))
    cells = [
        [
            html.Span(_state(alert), className="bad" if alert.state == "firing" else ""),
            alert.severity,
            parts.name(alert.rule, 40),
            parts.name(alert.summary, 300),
            parts.moment(alert.started),
            wording.duration((alert.resolved or context.now) - alert.started),
        ]
        for alert in alerts[:100]
    ]
    shown = parts.table(
        ["State", "Severity", "Rule", "What", f"Since ({zone_name()})", "For"],
        cells,
        numeric=(5,),
        caption=title,
    )
    return Panel(key, title, shown, [flat(alert) for alert in alerts])


def _state(alert: AlertRow) -> str:
    if alert.acknowledged is not None:
        return f"{alert.state} (taken on by {alert.acknowledged_by})"
    return f"{alert.state} (silenced)" if alert.silenced else alert.state


def _actions(context: Context, standing: Sequence[AlertRow]) -> Panel:
    title = "Acknowledge or silence"
    if not standing:
        return Panel("actions", title, parts.message("There is no alert to act on."), size="half")
    options = [
        html.Option(
            f"{alert.rule} {' '.join(alert.labels.values())}".strip(),
            value=json_text({"id": alert.id, "rule": alert.rule, "labels": dict(alert.labels)}),
        )
        for alert in standing
    ]
    author: list[Component] = (
        []
        if context.settings.trust_header
        else [html.Label(["Who you are", dcc.Input(name="author", autoComplete="name")])]
    )
    form = html.Form(
        [
            html.Label(["Alert", html.Select(options, name="alert")]),
            *author,
            html.Label(["Why (for a silence)", dcc.Input(name="comment")]),
            html.Label(
                [
                    "Silence for",
                    html.Select(
                        [html.Option(text, value=hours) for hours, text in _HOURS.items()], name="hours"
                    ),
                ]
            ),
            html.Button("Acknowledge", type="submit", value="acknowledge"),
            html.Button("Silence", type="submit", value="silence"),
        ],
        className="action",
        **parts.attributes(data_alerts="api/alerts", data_silences="api/silences"),
    )
    note = (
        "Acknowledged: somebody has taken this alert on, and nobody else is notified until it ends. Silenced: nobody is "
        "notified of alerts of this rule and these labels until then. Both show here and in the verdict as before."
    )
    return Panel("actions", title, [form, html.P(id="action-result", role="status")], note=note, size="half")


def _silences(context: Context, silences: Sequence[StoredSilence]) -> Panel:
    title = "Silences"
    if not silences:
        return Panel("silences", title, parts.message("None."), size="half")
    cells = [
        [
            parts.name(entry.silence.rule, 40),
            parts.name(" ".join(f"{k}={v}" for k, v in entry.silence.labels.items()), 60),
            parts.moment(entry.silence.end.timestamp()),
            parts.name(entry.silence.author, 40),
            parts.name(entry.silence.comment, 120),
            html.Button(
                "End",
                className="end-silence",
                **parts.attributes(
                    data_address=f"api/silences/{entry.id}",
                    aria_label=f"End the silence of {entry.silence.rule}",
                ),
            ),
        ]
        for entry in silences
    ]
    rows = [{"id": entry.id, **flat(entry.silence.model_dump())} for entry in silences]
    shown = parts.table(
        ["Rule", "Labels", f"Until ({zone_name()})", "Who", "Why", "Action"], cells, caption=title
    )
    return Panel("silences", title, shown, rows, size="half")


def _history(context: Context, alerts: Sequence[AlertRow]) -> Panel:
    title = f"When, {context.address.range_name}"
    if not alerts:
        return Panel("timeline", title, parts.message("No alert in this window."))
    figure = alert_chart(alerts, context.start, context.end, context.palette)
    return Panel(
        "timeline",
        title,
        parts.Chart("timeline", figure, title),
        rows=[flat(alert) for alert in alerts],
        figure=figure,
        note=f"From start to end; the strong part is when it fired. {zone_name()}.",
    )
