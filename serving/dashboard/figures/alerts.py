"""Alerts on the time axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.dashboard.figures.course import moments, spanning
from serving.dashboard.figures.style import Figure, Palette, drawn, plain_text, short
from serving.monitor.store.results import AlertRow


def alert_chart(alerts: Sequence[AlertRow], start: float, end: float, colors: Palette) -> Figure:
    """A row a rule, a bar an alert: faint while pending, strong while firing."""
    rules = list(dict.fromkeys(alert.rule for alert in alerts))
    traces = []
    for firing, color, name in (
        (False, colors.band(colors.warning, 0.3), "pending"),
        (True, colors.warning, "firing"),
    ):
        x: list[Any] = []
        y: list[Any] = []
        for alert in alerts:
            begins = alert.fired if firing else alert.started
            ends = (alert.resolved or end) if firing else (alert.fired or alert.resolved or end)
            if begins is None or ends < start:
                continue
            x += [*moments([max(begins, start), min(ends, end)]), None]
            y += [rules.index(alert.rule)] * 2 + [None]
        line = {"color": color, "width": 12}
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": x,
                "y": y,
                "line": line,
                "hoverinfo": "x+name",
            }
        )
    return drawn(
        traces,
        colors,
        height=90 + 30 * max(len(rules), 2),
        hovermode="closest",
        revision="alerts",
        x={"autorangeoptions": spanning((start, end)), "type": "date"},
        y={
            "tickvals": list(range(len(rules))),
            "ticktext": [plain_text(short(rule)) for rule in rules],
            "zeroline": False,
            "range": [-0.6, len(rules) - 0.4],
            "fixedrange": True,
            "showgrid": False,
        },
        margin={"l": 8, "r": 12, "t": 30, "b": 8},
    )
