"""Refreshes: what each new version changed, against what replicas differ by anyway."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dash import html
from dash.development.base_component import Component

from ranker import wording
from ranker.divergence import Interval
from serving.dashboard import parts
from serving.dashboard.context import Content, Context, Panel
from serving.dashboard.figures.refreshes import refresh_chart
from serving.dashboard.queries.refreshes import MARGIN, Refresh, gate_result, refreshes
from serving.monitor.plain import flat

_TONES = {"within": "good", "above": "bad", "undecided": "", "no baseline": ""}


def build(context: Context) -> Content:
    """Every refresh of the window, and the gate's last word."""
    label = context.address.measure
    found = refreshes(context.store, label, context.start, context.end)
    above = sum(one.held == "above" for one in found)
    said = (
        f"{len(found)} refreshes in {context.address.window}; {above} changed more than replicas differ by anyway."
        if found
        else f"No refresh in {context.address.window}."
    )
    return Content(
        [html.H1("Refresh"), html.P(said, className="lead")],
        [_chart(context, label, found), _gate(context), _table(label, found)],
    )


def _chart(context: Context, label: str, found: Sequence[Refresh]) -> Panel:
    title = f"{wording.title(label)}: new version against old"
    if not found:
        text = "When a replica serves another version, what changed is held to what replicas differ by anyway, here."
        return Panel("churn", title, parts.message(text), size="wide")
    figure = refresh_chart(found[:24], label, context.palette)
    note = f"Dots: a refresh, with its 95% interval. Ticks: between replicas at that time, plus {MARGIN:.0%}."
    return Panel(
        "churn",
        title,
        parts.chart("churn", figure, title),
        [flat(one) for one in found],
        figure,
        note,
        "wide",
    )


def _table(label: str, found: Sequence[Refresh]) -> Panel:
    cells = [
        [
            parts.clock(one.time),
            parts.name(one.replica, 30),
            f"{one.old} → {one.new}",
            wording.amount(label, one.churn.value),
            wording.between(label, one.churn),
            wording.amount(label, one.baseline.value) if one.baseline else "n/a",
            html.Span(one.held, className=_TONES[one.held]),
            f"{one.n:,}",
        ]
        for one in found[:100]
    ]
    columns = ["Time (UTC)", "Replica", "Version", "Churn", "95%", "Between replicas", "Verdict", "Requests"]
    shown = (
        parts.table(columns, cells, numeric=(3, 4, 5, 7), caption="Refreshes")
        if found
        else parts.message("None.")
    )
    return Panel("refreshes", "Every refresh", shown, [flat(one) for one in found])


def _gate(context: Context) -> Panel:
    title = "The gate's last word"
    found = gate_result(context.settings.run)
    if found is None:
        text = "The gate has not been asked yet: `ranker gate --run-dir RUN` keeps its answer there."
        return Panel("gate", title, parts.message(text), size="narrow")
    tone = {"pass": "good", "fail": "bad"}.get(str(found.get("verdict")), "")
    rows = []
    cells = []
    for label, one in found["measures"].items():
        rows.append({"measure": label, **flat(one)})
        churn = one.get("candidate", {})
        ends = Interval(*(churn.get(key) or math.nan for key in ("value", "low", "high")))
        cells.append(
            [
                wording.title(label),
                wording.amount(label, churn.get("value")),
                wording.between(label, ends),
                wording.amount(label, one.get("limit")),
                one.get("verdict", ""),
            ]
        )
    shown = [
        html.P(str(found.get("verdict", "unknown")), className=f"lead {tone}"),
        parts.facts(_evidence(context, found)),
        parts.table(
            ["Measure", "Candidate", "95%", "Limit", "Verdict"], cells, numeric=(1, 2, 3), caption=title
        ),
    ]
    note = "The candidate's churn against the limit: what the baseline differs by, with margin and allowance."
    return Panel("gate", title, shown, rows, note=note, size="narrow")


def _evidence(context: Context, found: Mapping[str, Any]) -> list[tuple[str, Component | str]]:
    sides = [found.get("candidate", {}), *found.get("baseline", ())]
    named: list[list[Component | str]] = [
        [parts.name(str(side.get("source", "?")), 48), f" (version {side.get('version', '?')})"]
        for side in sides
    ]
    return [
        ("Asked", f"{wording.duration(max(context.now - found['asked'], 0))} ago"),
        ("Requests", f"{found.get('requests', '?')}"),
        ("Probe", html.Code(str(found.get("probe", "?")))),
        ("Candidate", html.Div(named[0])),
        ("Baseline", html.Div([html.Div(one) for one in named[1:]])),
    ]
