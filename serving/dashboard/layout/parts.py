"""Small pieces of pages: links, menus, tables, charts, messages. Text is text: nothing here makes markup of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dash import html
from dash.development.base_component import Component

from ranker import wording
from serving.dashboard.figures.style import Figure
from serving.dashboard.layout.address import Address
from serving.dashboard.layout.zone import iso_of, text_of, zone_name
from serving.monitor.store.results import EventRow

_LONGEST = 80
_MOST_MARKS = 50
MODE_BAR = ["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]
"""Buttons of a chart, by name: none of Plotly's that leave the browser for its cloud."""


def attributes(**values: str) -> dict[str, Any]:
    """HTML's attributes with a hyphen: `aria_label` is `aria-label`."""
    return {name.replace("_", "-"): value for name, value in values.items()}


def link(text: Any, address: Address, **options: Any) -> html.A:
    """A link to another view; `page.js` follows it without loading the page anew."""
    return html.A(text, href=address.href, **attributes(data_view="true"), **options)


def short(text: str, longest: int = _LONGEST) -> str:
    """Text cut to a length that a page can bear.

    Example:
        >>> short("abcdef", 4)
        'abc…'
    """
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def name(text: str, longest: int = _LONGEST) -> html.Bdi:
    """A name somebody else chose: isolated, so that right-to-left text does not turn its neighbours around."""
    return html.Bdi(short(text, longest), title=short(text, 1000), className="name")


def segments(legend: str, choices: Iterable[tuple[str, Address, bool]]) -> html.Div:
    """A row of links of which one is chosen."""
    return html.Div(
        [
            html.Span(legend, className="legend"),
            html.Span(
                [
                    link(
                        text,
                        address,
                        className="segment chosen" if chosen else "segment",
                        **(attributes(aria_current="true") if chosen else {}),
                    )
                    for text, address, chosen in choices
                ],
                className="segments",
            ),
        ],
        className="control",
    )


def menu(legend: str, shown: str, choices: Iterable[tuple[str, Address, bool]], *, key: str = "") -> html.Div:
    """A menu of links behind what is chosen; opens with a click or the Enter key."""
    entries = [
        link(
            name(text),
            address,
            className="entry chosen" if chosen else "entry",
            **(attributes(aria_current="true") if chosen else {}),
        )
        for text, address, chosen in choices
    ]
    return html.Div(
        [
            html.Span(legend, className="legend"),
            html.Details(
                [html.Summary(name(shown, 40)), html.Div(entries, className="entries")],
                className="menu",
                id=f"menu-{key or legend}".lower().replace(" ", "-"),
            ),
        ],
        className="control",
    )


_MOST_COLUMNS = 2
"""Columns that a table may have on a phone; with more of them its rows become cards."""


def table(
    columns: Sequence[str | Component],
    rows: Iterable[Sequence[Any]],
    *,
    numeric: Iterable[int] = (),
    caption: str = "",
) -> html.Div:
    """A table that scrolls sideways in its own box; on a phone one of many columns shows each row as a card.

    Args:
        columns: headings; one that is a term of the trade says on hover what it means.
        rows: cells: text, numbers as text, or components.
        numeric: positions of columns to align right.
        caption: for screen readers.
    """
    right = frozenset(numeric)

    def style(position: int) -> str:
        return "number" if position in right else ""

    # the roles stand here because a card is no table to a browser
    head = html.Tr(
        [
            html.Th(_heading(column), className=style(place), scope="col", role="columnheader")  # type: ignore[arg-type]
            for place, column in enumerate(columns)
        ],
        role="row",
    )
    body = [
        html.Tr(
            [
                html.Td(
                    # a card's cell has two columns, its heading and this: several parts stand in one
                    html.Div(cell) if isinstance(cell, list) else cell,
                    className=style(place),
                    role="cell",
                    **attributes(data_label=_label(columns[place])),
                )
                for place, cell in enumerate(row)
            ],
            role="row",
        )
        for row in rows
    ]
    content: list[Component] = [html.Caption(caption, className="hidden")] if caption else []
    return html.Div(
        html.Table(
            [*content, html.Thead(head, role="rowgroup"), html.Tbody(body, role="rowgroup")],
            role="table",
            className="cards" if len(columns) > _MOST_COLUMNS else "",
        ),
        className="scroll",
        tabIndex=0,
        role="region",
        **attributes(aria_label=caption or "table"),
    )


def _label(heading: str | Component) -> str:
    return heading if isinstance(heading, str) else str(heading.children)  # type: ignore[attr-defined]


def measure_heading(label: str) -> html.Abbr:
    """A measure's name as a heading, which says on hover what it means."""
    return html.Abbr(wording.title(label), title=wording.meaning(label))


def _heading(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    meaning = wording.TERMS.get(text)
    return html.Abbr(text, title=meaning) if meaning else text


def moment(time: float | None) -> Component | str:
    """A time in the reader's zone for a table's cell; exports have it in UTC by ISO 8601."""
    if time is None:
        return "never"
    return html.Time(text_of(time), dateTime=iso_of(time))


class Chart(html.Div):
    """The place of a Plotly figure; `charts.js` draws the figure once the place comes into view.

    Args:
        key: the chart's name on its page.
        figure: in Plotly's form.
        summary: what it shows, for a screen reader.
    """

    def __init__(self, key: str, figure: Figure, summary: str) -> None:
        place = html.Div(
            id=chart_id(key), className="plot", style={"height": f"{figure['layout']['height']}px"}
        )
        super().__init__(
            place, id={"chart": key}, className="chart", role="group", **attributes(aria_label=summary)
        )
        config = {
            "displaylogo": False,
            "responsive": True,
            "displayModeBar": "hover",
            "modeBarButtons": [MODE_BAR],
            "toImageButtonOptions": {"format": "png", "scale": 2, "filename": f"steady-ranker-{key}"},
        }
        self.figure: Figure = {**figure, "config": config}


def chart_id(key: str) -> str:
    """The id of a chart's place."""
    return f"chart-{key}"


def message(text: str) -> html.P:
    """What there is to say where there is nothing to show."""
    return html.P(text, className="message")


def facts(pairs: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> html.Dl:
    """Names and values in a row."""
    entries = pairs.items() if isinstance(pairs, Mapping) else pairs
    return html.Dl([html.Div([html.Dt(term), html.Dd(value)]) for term, value in entries], className="facts")


def clock(time: float | None) -> str:
    """A time in the reader's zone, to the second."""
    return "never" if time is None else text_of(time)


def refresh_list(events: Sequence[EventRow]) -> Component:
    """The refreshes that a chart marks, each with its second, the newest first."""
    marks = [event for event in events if event.kind == "refresh"]
    if not marks:
        return html.P("No refresh in this range.", className="note")
    entries = [
        html.Li(
            [
                clock(mark.time),
                " ",
                name(mark.replica, 40),
                f" {mark.detail.get('old')} → {mark.detail.get('new')}",
            ]
        )
        for mark in sorted(marks, key=lambda mark: -mark.time)[:_MOST_MARKS]
    ]
    unlisted = len(marks) - len(entries)
    summary = f"{wording.count(len(marks), 'refresh', 'refreshes')}, {zone_name()}"
    rest = [html.Li(f"and {unlisted} more on the page Refresh")] if unlisted > 0 else []
    return html.Details([html.Summary(summary), html.Ul([*entries, *rest])], className="marks", id="marks")
