"""Recipes compared on the run's eval split: is the steady one as good as the other."""

from __future__ import annotations

import math

from dash import html
from dash.development.base_component import Component

from ranker import wording
from serving.dashboard.figures.arms import plane
from serving.dashboard.layout import parts
from serving.dashboard.layout.context import Content, Context, Panel
from serving.dashboard.queries.report import Arm, Report, read_report
from serving.monitor.plain import flat

_QUALITY = ("auc", "logloss", "gauc", "ndcg@10", "ranking_loss")


def build(context: Context) -> Content:
    """The plane of difference and quality, and both in numbers."""
    report = read_report(context.settings.run)
    if report is None or not report.arms:
        return Content(
            [
                html.H1("Arms"),
                parts.message(
                    "The run directory has no evaluation/report.json: `ranker evaluate` writes it."
                    if context.settings.run is not None
                    else "This dashboard has no run directory, and so no arms to compare."
                ),
            ]
        )
    head: list[Component] = [html.H1("Arms")]
    if report.sentence:
        head.append(html.P(report.sentence, className="lead"))
    return Content(head, [_plane(context, report), _quality(report), _divergence(context, report)])


def _plane(context: Context, report: Report) -> Panel:
    arms = [arm for arm in report.arms if "rpd_sym" in arm.divergence and "auc" in arm.quality]
    title = "Steadier is left, better is up"
    if not arms:
        return Panel("plane", title, parts.message("The report has no relative PD and AUC."), size="half")
    figure = plane(arms, context.palette)
    rows = [
        {
            "arm": a.name,
            "auc": a.quality["auc"][0],
            "auc_std": a.quality["auc"][1],
            **flat({"rpd_sym": a.divergence["rpd_sym"]}),
        }
        for a in arms
    ]
    note = "Bars: standard deviation of AUC over replicas; 95% interval of relative PD."
    return Panel(
        "plane",
        title,
        parts.Chart("plane", figure, title),
        rows=rows,
        figure=figure,
        note=note,
        size="narrow",
    )


def _quality(report: Report) -> Panel:
    labels = [label for label in _QUALITY if any(label in arm.quality for arm in report.arms)]
    cells = [
        [parts.name(arm.name, 30), str(arm.replicas), *(_mean(arm, label) for label in labels)]
        for arm in report.arms
    ]
    columns: list[str | Component] = ["Arm", "Replicas", *(parts.measure_heading(label) for label in labels)]
    rows = [
        {
            "arm": arm.name,
            **{
                f"{label}_{part}": value
                for label, both in arm.quality.items()
                for part, value in zip(("mean", "std"), both, strict=True)
            },
        }
        for arm in report.arms
    ]
    shown = parts.table(columns, cells, numeric=range(1, len(columns)), caption="Quality by arm")
    return Panel("quality", "Quality, mean ± standard deviation over replicas", shown, rows, size="wide")


def _mean(arm: Arm, label: str) -> str:
    mean, std = arm.quality.get(label, (math.nan, math.nan))
    if math.isnan(mean):
        return wording.MISSING
    return f"{mean:.4f}" + (f" ± {std:.4f}" if math.isfinite(std) else "")


def _divergence(context: Context, report: Report) -> Panel:
    labels = list(dict.fromkeys(label for arm in report.arms for label in arm.divergence))
    cells = []
    for label in labels:
        row: list[object] = [parts.measure_heading(label)]
        for arm in report.arms:
            interval = arm.divergence.get(label)
            row.append(wording.with_interval(label, interval) if interval else wording.MISSING)
        cells.append(row)
    rows = [
        {"arm": arm.name, "measure": label, **flat(interval)}
        for arm in report.arms
        for label, interval in arm.divergence.items()
    ]
    columns = ["Measure", *(parts.short(arm.name, 30) for arm in report.arms)]
    shown = parts.table(
        columns, cells, numeric=range(1, len(columns)), caption="Disagreement between replicas, by arm"
    )
    return Panel(
        "divergence",
        "Disagreement between replicas, by arm",
        shown,
        rows,
        note="Mean over pairs with its 95% interval.",
    )
