"""A picture of any panel: its figure, or its rows as a table."""

from __future__ import annotations

from serving.dashboard.figures.style import Figure, Palette, drawn, plain_text, short
from serving.dashboard.layout.context import Panel
from serving.monitor.plain import plain

_MOST_ROWS = 60
_LONGEST = 60
_TITLE = 48


def picture_of(panel: Panel, colors: Palette) -> Figure:
    """The panel as a Plotly figure with its title, ready to become a PNG in the browser."""
    figure = panel.figure if panel.figure is not None else _table(panel, colors)
    layout = figure["layout"]
    margin = layout["margin"]
    heading = {"x": 0.01, "y": 0.99, "yanchor": "top", "font": {"size": 15, "color": colors.ink}}
    return {
        "data": figure["data"],
        "layout": {
            **layout,
            "title": {"text": plain_text(panel.title), **heading},
            "margin": {**margin, "t": margin["t"] + _TITLE},
            "height": layout["height"] + _TITLE,
        },
    }


def _table(panel: Panel, colors: Palette) -> Figure:
    rows = list(panel.rows)[:_MOST_ROWS]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[plain_text(_text(row.get(name))) for row in rows] for name in columns]
    look = {"line": {"color": colors.line}, "fill": {"color": colors.surface}, "align": "left", "height": 24}
    table = {
        "type": "table",
        "header": {"values": [plain_text(name) for name in columns], "font": {"color": colors.muted}, **look},
        "cells": {"values": cells, "font": {"color": colors.ink}, **look},
    }
    return drawn([table], colors, height=60 + 26 * (len(rows) + 1))


def _text(value: object) -> str:
    value = plain(value)
    text = "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
    return short(text, _LONGEST)
