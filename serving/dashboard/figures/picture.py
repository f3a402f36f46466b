"""A picture of any panel: its figure, or its rows as a table."""

from __future__ import annotations

import plotly.graph_objects as go

from serving.dashboard.context import Panel
from serving.dashboard.figures.bars import plain_text
from serving.dashboard.figures.style import Palette, styled
from serving.dashboard.plain import plain

_MOST_ROWS = 60
_LONGEST = 60


def picture_of(panel: Panel, colors: Palette) -> go.Figure:
    """The panel as a Plotly figure with its title, ready to become a PNG in the browser."""
    figure = go.Figure(panel.figure) if panel.figure is not None else _table(panel, colors)
    margin = figure.layout.margin
    height = (figure.layout.height or 400) + 48
    figure.update_layout(
        title={"text": plain_text(panel.title), "x": 0.01, "y": 0.99, "yanchor": "top", "font": {"size": 15}},
        margin={"l": margin.l, "r": margin.r, "t": (margin.t or 12) + 48, "b": margin.b},
        height=height,
    )
    return figure


def _table(panel: Panel, colors: Palette) -> go.Figure:
    rows = list(panel.rows)[:_MOST_ROWS]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[plain_text(_text(row.get(name))) for row in rows] for name in columns]
    look = {"line_color": colors.line, "fill_color": colors.surface, "align": "left", "height": 24}
    figure = go.Figure(
        go.Table(
            header={
                "values": [plain_text(name) for name in columns],
                "font": {"color": colors.muted},
                **look,
            },
            cells={"values": cells, "font": {"color": colors.ink}, **look},
        )
    )
    return styled(figure, colors, height=60 + 26 * (len(rows) + 1))


def _text(value: object) -> str:
    value = plain(value)
    text = "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
