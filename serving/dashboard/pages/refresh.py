"""Refreshes: what each new version changed, against what replicas differ by anyway."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dash import html
from dash.development.base_component import Component

from ranker import wording
from ranker.divergence import Interval
from serving.dashboard.figures.refreshes import refresh_chart
from serving.dashboard.layout import parts
from serving.dashboard.layout.context import Content, Context, Panel
from serving.dashboard.layout.zone import zone_name
from serving.dashboard.queries.refreshes import MARGIN, Refresh, gate_answers, refreshes
from serving.monitor.measurement.record import PROBE
from serving.monitor.plain import flat

_TONES = {"within": "good", "above": "bad", "undecided": "", "no baseline": ""}


def build(context: Context) -> Content:
    """Every refresh of the window, and the gate's last word."""
    label = context.address.measure
    rows = refreshes(context.store, context.charted.to(stream=PROBE))
    above = sum(refresh.held == "above" for refresh in rows)
    sentence = (
        f"{len(rows)} refreshes ({context.address.range_name}); {above} changed more than replicas differ by anyway."
        if rows
        else f"No refresh ({context.address.range_name})."
    )
    return Content(
        [html.H1("Refresh"), html.P(sentence, className="lead")],
        [_chart(context, label, rows), _gate(context), _table(label, rows)],
    )


def _chart(context: Context, label: str, rows: Sequence[Refresh]) -> Panel:
    title = f"{wording.title(label)}: new version against old"
    if not rows:
        text = "When a replica serves another version, what changed is held to what replicas differ by anyway, here."
        return Panel("churn", title, parts.message(text), size="wide")
    figure = refresh_chart(rows[:24], label, context.palette)
    note = f"Dots: a refresh, with its 95% interval. Ticks: between replicas at that time, plus {MARGIN:.0%}."
    return Panel(
        "churn",
        title,
        parts.Chart("churn", figure, title),
        rows=[flat(refresh) for refresh in rows],
        figure=figure,
        note=note,
        size="wide",
    )


def _table(label: str, rows: Sequence[Refresh]) -> Panel:
    cells = [
        [
            parts.moment(refresh.time),
            parts.name(refresh.replica, 30),
            f"{refresh.old} → {refresh.new}",
            wording.amount(label, refresh.churn.value),
            wording.between(label, refresh.churn),
            wording.amount(label, refresh.baseline.value) if refresh.baseline else "n/a",
            html.Span(refresh.held, className=_TONES[refresh.held]),
            f"{refresh.n:,}",
        ]
        for refresh in rows[:100]
    ]
    columns = [
        f"Time ({zone_name()})",
        "Replica",
        "Version",
        "Churn",
        "95% interval",
        "Between replicas",
        "Verdict",
        "Requests",
    ]
    shown = (
        parts.table(columns, cells, numeric=(3, 4, 5, 7), caption="Refreshes")
        if rows
        else parts.message("None.")
    )
    return Panel("refreshes", "Every refresh", shown, [flat(refresh) for refresh in rows])


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
            ["Decision", "Candidate", "95% interval", "Limit", "Verdict"],
            cells,
            numeric=(1, 2, 3),
            caption=title,
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
            parts.moment(int(answer["time"])),
            parts.name(str(answer.get("candidate", {}).get("source", "?")), 30),
            str(answer.get("candidate", {}).get("version", "?")),
            html.Span(str(answer.get("verdict", "unknown")), className=_tone(answer)),
        ]
        for answer in answers
    ]
    return parts.table(
        [f"Time ({zone_name()})", "Candidate", "Version", "Verdict"],
        cells,
        caption="Every answer of the gate",
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
        ("Baseline", html.Div([html.Div(name) for name in named[1:]])),
    ]
