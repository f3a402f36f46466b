"""A panel as CSV: a table as it looks, a chart's data as they are; times in one form."""

from __future__ import annotations

from typing import Any

from dash import html
from dash.development.base_component import Component

from serving.dashboard.layout.context import Panel
from serving.dashboard.layout.zone import iso_of
from serving.monitor.plain import Rows, to_csv

_TIMES = frozenset(
    {"time", "last_seen", "started", "fired", "resolved", "updated", "acknowledged", "start", "end"}
)
"""Columns of rows that are seconds since 1970."""


def panel_csv(panel: Panel) -> str:
    """What a panel shows as CSV.

    A panel that is a table gives the table's own headings and cells, as many rows as it shows (its JSON has them
    all, with every digit); any other gives its rows.
    Times are in UTC by ISO 8601, to the second.
    """
    table = _first(panel.body, html.Table) if panel.figure is None else None
    if table is None or not _is_plain(table):
        return to_csv(
            [
                {name: iso_of(value) if _is_time(name, value) else value for name, value in row.items()}
                for row in panel.rows
            ]
        )
    return to_csv(_rows(table))


def _is_time(name: str, value: Any) -> bool:
    return name in _TIMES and isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_plain(table: Component) -> bool:
    """Whether it was made by `parts.table`: one heading a column."""
    return getattr(table, "role", None) == "table"


def _rows(table: Component) -> Rows:
    head, body = (part for part in table.children if isinstance(part, (html.Thead, html.Tbody)))
    columns = [_text(cell) for cell in head.children.children]
    return [dict(zip(columns, (_text(cell) for cell in row.children), strict=True)) for row in body.children]


def _text(part: Any) -> str:
    """The text of a component, as it is read: a time by its own attribute, a name in full, no button."""
    if part is None or isinstance(part, html.Button):
        return ""
    if isinstance(part, (list, tuple)):
        return "".join(map(_text, part))
    if isinstance(part, html.Time):
        return str(part.dateTime)  # type: ignore[attr-defined]
    if isinstance(part, html.Br):
        return " "
    if isinstance(part, html.Bdi) and getattr(part, "title", None):
        return str(part.title)  # type: ignore[attr-defined]
    return _text(getattr(part, "children", "")) if isinstance(part, Component) else str(part)


def _first(part: Any, kind: type[Component]) -> Component | None:
    if isinstance(part, kind):
        return part
    children = part if isinstance(part, (list, tuple)) else getattr(part, "children", None)
    if isinstance(children, Component):
        return _first(children, kind)
    if isinstance(children, (list, tuple)):
        return next((inner for child in children if (inner := _first(child, kind)) is not None), None)
    return None
