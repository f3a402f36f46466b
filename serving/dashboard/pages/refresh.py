"""Refreshes: what each new version changed, against what replicas differ by anyway."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html

from serving.dashboard import parts, words
from serving.dashboard.context import Content, Context, Panel
from serving.dashboard.figures.refreshes import refresh_chart
from serving.dashboard.plain import flat
from serving.dashboard.queries.refreshes import MARGIN, Refresh, gate_result, refreshes

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
    title = f"{words.title(label)}: new version against old"
    if not found:
        return Panel("churn", title, parts.message("Nothing to show."), size="wide")
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
            words.amount(label, one.churn.value),
            words.between(label, one.churn),
            words.amount(label, one.baseline.value) if one.baseline else "n/a",
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
        value = one.get("candidate", {}).get("value")
        cells.append(
            [
                words.title(label),
                words.amount(label, value),
                words.amount(label, one.get("limit")),
                one.get("verdict", ""),
            ]
        )
    shown = [
        html.P(str(found.get("verdict", "unknown")), className=f"lead {tone}"),
        parts.table(["Measure", "Candidate", "Limit", "Verdict"], cells, numeric=(1, 2), caption=title),
    ]
    return Panel(
        "gate", title, shown, rows, note=f"Over {found.get('requests', '?')} requests.", size="narrow"
    )
