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
from serving.dashboard.queries.refreshes import MARGIN, Refresh, gate_answers, refreshes
from serving.dashboard.zone import zone_name
from serving.monitor.plain import flat

_TONES = {"within": "good", "above": "bad", "undecided": "", "no baseline": ""}


def build(context: Context) -> Content:
    """Every refresh of the window, and the gate's last word."""
    label = context.address.measure
    found = refreshes(context.store, label, context.start, context.end)
    above = sum(one.held == "above" for one in found)
    said = (
        f"{len(found)} refreshes ({context.address.range_name}); {above} changed more than replicas differ by anyway."
        if found
        else f"No refresh ({context.address.range_name})."
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
    columns = [
        f"Time ({zone_name()})",
        "Replica",
        "Version",
        "Churn",
        "95%",
        "Between replicas",
        "Verdict",
        "Requests",
    ]
    shown = (
        parts.table(columns, cells, numeric=(3, 4, 5, 7), caption="Refreshes")
        if found
        else parts.message("None.")
    )
    return Panel("refreshes", "Every refresh", shown, [flat(one) for one in found])


def _gate(context: Context) -> Panel:
    title = "The gate's last word"
    answers = gate_answers(context.settings.run)
    if not answers:
        text = "The gate has not been asked yet: `ranker gate --run-dir RUN` keeps its answers there."
        return Panel("gate", title, parts.message(text), size="narrow")
    answer = answers[0]
    rows = []
    cells: list[list[Component | str]] = []
    for label, decision in {**answer.get("coverage", {}), **answer["measures"]}.items():
        rows.append({"measure": label, **flat(decision)})
        value = decision.get("candidate", {})
        is_measure = label in answer["measures"]
        ends = Interval(
            *(math.nan if value.get(key) is None else value[key] for key in ("value", "low", "high"))
        )
        limit = decision.get("limit")
        cells.append(
            [
                wording.title(label) if is_measure else label,
                wording.amount(label, ends.value) if is_measure else f"{ends.value:.1%}",
                wording.between(label, ends) if is_measure else "",
                "n/a" if limit is None else wording.amount(label, limit) if is_measure else f"{limit:.1%}",
                html.Span(decision.get("verdict", ""), title=decision.get("reason", "")),
            ]
        )
    shown = [
        html.P(str(answer.get("verdict", "unknown")), className=f"lead {_tone(answer)}"),
        parts.facts(_evidence(context, answer)),
        parts.table(
            ["Decision", "Candidate", "95%", "Limit", "Verdict"], cells, numeric=(1, 2, 3), caption=title
        ),
    ]
    if len(answers) > 1:
        shown.append(_history(answers))
    note = (
        "Coverage: share of the requests answered, and the least it may be. Churn: against what the baseline differs by, "
        "with margin and allowance. Quality: how much worse than the baseline, and how much it may be."
    )
    return Panel("gate", title, shown, rows, note=note, size="narrow")


def _tone(answer: Mapping[str, Any]) -> str:
    return {"pass": "good", "fail": "bad"}.get(str(answer.get("verdict")), "")


def _history(answers: Sequence[Mapping[str, Any]]) -> Component:
    cells = [
        [
            parts.clock(int(answer["time"])),
            parts.name(str(answer.get("candidate", {}).get("source", "?")), 30),
            str(answer.get("candidate", {}).get("version", "?")),
            html.Span(str(answer.get("verdict", "unknown")), className=_tone(answer)),
        ]
        for answer in answers
    ]
    return parts.table(
        ["Time (UTC)", "Candidate", "Version", "Verdict"], cells, caption="Every answer of the gate"
    )


def _evidence(context: Context, answer: Mapping[str, Any]) -> list[tuple[str, Component | str]]:
    sides = [answer.get("candidate", {}), *answer.get("baseline", ())]
    named: list[list[Component | str]] = [
        [parts.name(str(side.get("source", "?")), 48), f" (version {side.get('version', '?')})"]
        for side in sides
    ]
    return [
        ("Asked", f"{wording.duration(max(context.now - answer['time'], 0))} ago"),
        ("Requests", f"{answer.get('requests', '?')}"),
        ("Probe", html.Code(str(answer.get("probe", "?")))),
        ("Candidate", html.Div(named[0])),
        ("Baseline", html.Div([html.Div(one) for one in named[1:]])),
    ]
