"""The frame of every page, and the one callback: from address, theme and tick to the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dash
from dash import Input, Output, dcc, html
from dash.development.base_component import Component

from ranker.errors import UserError
from serving.dashboard import parts, words
from serving.dashboard.address import STREAMS, WINDOWS, Address, parse
from serving.dashboard.context import Content, Context, Page, Panel
from serving.dashboard.figures.style import palette
from serving.dashboard.pages import PAGES
from serving.dashboard.settings import DashboardSettings
from serving.monitor.store import Store, query

_INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<title>{%title%}</title>{%favicon%}{%css%}<script src="/assets/theme.js"></script></head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""


def pages_application(store: Store, settings: DashboardSettings, clock: Callable[[], float]) -> Any:
    """The Dash application, as WSGI."""
    app = dash.Dash(
        __name__,
        assets_folder=str(Path(__file__).parent / "assets"),
        assets_ignore=r"theme\.js",
        serve_locally=True,
        title="Steady Ranker",
        update_title="",
        meta_tags=[
            {"name": "viewport", "content": "width=device-width, initial-scale=1"},
            {"name": "color-scheme", "content": "light dark"},
        ],
        add_log_handler=False,
        include_pages_meta=False,
    )
    app.index_string = _INDEX
    app.layout = _layout(settings)

    @app.callback(
        Output("page", "children"),
        Output("page", "className"),
        Input("address", "pathname"),
        Input("address", "search"),
        Input("theme", "data"),
        Input("tick", "n_intervals"),
    )
    def render(path: str | None, search: str | None, theme: str | None, _: int | None) -> Any:
        address = parse(path, search)
        context = Context(store, settings, address, palette(theme), clock())
        content, stale = rendered(context)
        return content, "stale" if stale else ""

    app.clientside_callback(
        dash.ClientsideFunction("theme", "toggle"),
        Output("theme", "data"),
        Input("theme-button", "n_clicks"),
    )
    return app.server


def _layout(settings: DashboardSettings) -> Component:
    return html.Div(
        [
            dcc.Location(id="address", refresh="callback-nav"),
            dcc.Store(id="theme"),
            dcc.Interval(id="tick", interval=round(1000 * settings.refresh)),
            html.A("To the content", href="#page", className="skip"),
            html.Button(
                "◐", id="theme-button", title="Light or dark", **parts.attributes(aria_label="Light or dark")
            ),
            html.Div(id="page"),
        ],
        id="frame",
    )


def rendered(context: Context) -> tuple[list[Component], bool]:
    """A page in its frame; and whether it shows old data."""
    page = PAGES.get(context.address.page)
    stale = context.finding.state == "STALE"
    if page is None:
        body: list[Component] = [
            html.H1("No such page"),
            parts.message("The navigation above has all there are."),
        ]
        return [_header(context), html.Main(body)], stale
    try:
        content = page.build(context)
    except UserError as error:
        content = Content(head=[html.H1(page.title), parts.message(str(error))])
    main = html.Main(
        [
            _controls(context, page),
            *content.head,
            html.Div([_panel(context, panel) for panel in content.panels], className="panels"),
        ]
    )
    return [_header(context), main], stale


def _header(context: Context) -> Component:
    firing = len(query.alerts(context.store, state="firing", limit=100))
    address = context.address
    entries = []
    for page in PAGES.values():
        text: list[Any] = [page.title]
        if page.name == "alerts" and firing:
            text.append(html.Span(str(firing), className="badge", title=f"{firing} firing"))
        chosen = {"className": "chosen"} if page.name == address.page else {}
        entries.append(parts.link(text, address.to(page.name), **chosen))
    fresh = context.verdict.freshness
    age = f"measured {words.duration(fresh.age)} ago" if fresh.age is not None else "never measured"
    return html.Header(
        [
            html.Div(
                [
                    html.Span("Steady Ranker", className="brand"),
                    html.Span(age, className="freshness", title=f"{parts.clock(fresh.time)} UTC"),
                ],
                className="top",
            ),
            html.Nav(entries, **parts.attributes(aria_label="Pages")),
        ]
    )


def _controls(context: Context, page: Page) -> Component:
    address = context.address
    found: list[Component] = []
    if "measure" in page.controls:
        labels: Sequence[str] = query.measures(context.store, context.now, address.stream)
        found.append(
            parts.menu(
                "Measure",
                words.title(address.measure),
                [
                    (words.title(label), address.to(measure=label), label == address.measure)
                    for label in labels
                ],
            )
        )
    if "window" in page.controls:
        found.append(
            parts.segments("Window", [(w, address.to(window=w), w == address.window) for w in WINDOWS])
        )
    if "stream" in page.controls:
        found.append(
            parts.segments("Stream", [(s, address.to(stream=s), s == address.stream) for s in STREAMS])
        )
    return html.Div(found, className="controls")


def _panel(context: Context, panel: Panel) -> Component:
    children: list[Any] = [html.H2(panel.title)]
    if panel.note:
        children.append(html.P(panel.note, className="note"))
    children += [panel.body] if isinstance(panel.body, Component) else list(panel.body)
    if panel.rows:
        children.append(_exports(context.address, panel))
    return html.Section(children, className=f"panel {panel.size}", id=f"panel-{panel.key}")


def _exports(address: Address, panel: Panel) -> Component:
    base = f"/api/views/{address.page}/{panel.key}"
    query_text = f"?{address.query}" if address.query else ""
    links = [
        html.A(kind.upper(), href=f"{base}.{kind}{query_text}", download=f"{address.page}-{panel.key}.{kind}")
        for kind in ("csv", "json")
    ]
    picture = html.Button(
        "PNG",
        className="picture",
        **parts.attributes(data_figure=f"{base}.figure{query_text}", data_name=f"{address.page}-{panel.key}"),
    )
    return html.P([*links, picture], className="exports")
