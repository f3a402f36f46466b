"""A page in its frame: navigation, controls, and each panel with its exports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from ranker import wording
from ranker.errors import UserError
from serving.dashboard.layout import parts
from serving.dashboard.layout.address import BROWSER_ZONE, COMPARISONS, STREAMS, WINDOWS
from serving.dashboard.layout.context import Content, Context, Page, Panel
from serving.dashboard.layout.live import live
from serving.dashboard.layout.zone import zone_name
from serving.dashboard.pages import PAGES
from serving.monitor.store import query


def rendered(context: Context) -> tuple[list[Component], bool]:
    """A page in its frame; and whether it shows old data."""
    page = PAGES.get(context.address.page)
    stale = context.verdict.state == "STALE"
    if page is None:
        body: list[Component] = [
            html.H1("No such page"),
            parts.message("The navigation above has all there are."),
        ]
        return [_header(context), html.Main(body, id="content", tabIndex=-1)], stale
    try:
        content = page.build(context)
    except UserError as error:
        content = Content(head=[html.H1(page.title), parts.message(str(error))])
    main = html.Main(
        [
            live("controls", _controls(context, page)),
            # each part by itself: numbers on top change with every round, menus beside them must stay open
            html.Div(
                [live(f"head-{place}", part) for place, part in enumerate(content.head)], className="head"
            ),
            html.Div([_panel(context, panel) for panel in content.panels], className="panels"),
        ],
        id="content",
        tabIndex=-1,  # the skip link moves the focus here
    )
    return [_header(context), main], stale


def _header(context: Context) -> Component:
    firing = len(context.status.firing)
    address = context.address
    entries = []
    for page in PAGES.values():
        text: list[Any] = [page.title]
        if page.name == "alerts" and firing:
            text.append(html.Span(f"{firing}", className="badge"))
            text.append(html.Span(" firing", className="hidden"))
        current = {"className": "chosen", **parts.attributes(aria_current="page")}
        entries.append(
            parts.link(text, address.to(page.name), **(current if page.name == address.page else {}))
        )
    fresh = context.snapshot.freshness
    age = f"measured {wording.duration(fresh.age)} ago" if fresh.age is not None else "never measured"
    label = "freshness"
    if address.fixed is not None:
        label = "freshness fixed"
        age = f"as of {parts.clock(context.now)} {zone_name()}"
    return html.Header(
        [
            html.Div(
                [
                    html.Span("Steady Ranker", className="brand"),
                    *_deployment(context),
                    live(
                        "freshness",
                        html.Span(age, className=label, title=f"{parts.clock(fresh.time)} {zone_name()}"),
                    ),
                ],
                className="top",
            ),
            live("navigation", html.Nav(entries, **parts.attributes(aria_label="Pages"))),
        ]
    )


def _deployment(context: Context) -> list[Component]:
    """The deployment's name; of several, a menu. Each is a dashboard of its own, so that a choice loads its page anew."""
    settings, address = context.settings, context.address
    if not settings.siblings:
        return [parts.name(settings.name, 40)] if settings.name else []
    # replicas, requests and slices are another deployment's own
    view = address.to(a="", b="", request="", feature="", value="")
    page = "" if view.page == "overview" else view.page
    entries = [
        html.A(
            parts.name(name),
            href=f"{path}{page}" + (f"?{view.query}" if view.query else ""),
            className="entry chosen" if name == settings.name else "entry",
            **(parts.attributes(aria_current="true") if name == settings.name else {}),
        )
        for name, path in settings.siblings
    ]
    menu = html.Details(
        [
            html.Summary([html.Span("Deployment: ", className="hidden"), parts.name(settings.name, 40)]),
            html.Div(entries, className="entries"),
        ],
        className="menu",
        id="menu-deployment",
    )
    return [live("deployment", menu)]


def _controls(context: Context, page: Page) -> Component:
    address = context.address
    controls: list[Component] = []
    if "measure" in page.controls:
        labels: Sequence[str] = query.measures(context.store, context.present)
        controls.append(
            parts.menu(
                "Measure",
                wording.title(address.measure),
                [
                    (wording.title(label), address.to(measure=label), label == address.measure)
                    for label in labels
                ],
            )
        )
    if "window" in page.controls:
        controls.append(
            parts.segments(
                "Window",
                [
                    (w, address.to(window=w, start="", end=""), w == address.window and address.fixed is None)
                    for w in WINDOWS
                ],
            )
        )
        controls.append(_range_menu(context))
        controls.append(
            parts.segments(
                "Zone",
                [
                    ("UTC", address.to(zone=""), not address.zone),
                    # page.js puts the browser's own zone in the place of this word
                    (
                        address.zone or "mine",
                        address.to(zone=address.zone or BROWSER_ZONE),
                        bool(address.zone),
                    ),
                ],
            )
        )
    if "compare" in page.controls:
        choices = [("nothing", "", ""), *((f"{name} before", name, name) for name in COMPARISONS)]
        controls.append(
            parts.segments(
                "Beside it",
                [(text, address.to(compare=name), name == address.compare) for text, name, _ in choices],
            )
        )
    if "stream" in page.controls:
        controls.append(
            parts.segments("Stream", [(s, address.to(stream=s), s == address.stream) for s in STREAMS])
        )
    return html.Div(controls, className="controls")


def _range_menu(context: Context) -> Component:
    """The custom range, and the link that fixes what is shown now."""
    address = context.address
    # the browser puts the times in: in the page they would change with every tick, and take the menu's fields along
    fix = html.Button(
        "Fix this range in the address",
        className="entry fix-range",
        **parts.attributes(data_base=address.href, data_seconds=str(int(address.seconds))),
    )
    back = parts.link("Back to now", address.to(start="", end=""), className="entry")
    fields = [
        html.Label([label, dcc.Input(name=name, placeholder="2026-01-31 08:00", autoComplete="off")])
        for label, name in (("From", "start"), ("To", "end"))
    ]
    form = html.Form(
        [*fields, html.Button("Show", type="submit"), html.Span(zone_name(), className="legend")],
        className="range action",
        **parts.attributes(data_base=address.to(start="", end="").href),
    )
    shown = "fixed" if address.fixed is not None else "custom"
    return html.Details(
        [
            html.Summary(shown),
            html.Div([form, back if address.fixed is not None else fix], className="entries"),
        ],
        className="menu",
        id="menu-range",
    )


def _panel(context: Context, panel: Panel) -> Component:
    children: list[Any] = [live(f"{panel.key}-title", html.H2(panel.title))]
    if panel.note:
        children.append(html.P(panel.note, className="note"))
    body = [panel.body] if isinstance(panel.body, Component) else list(panel.body)
    for place, part in enumerate(body):
        # a chart takes new data without being drawn anew; all else is replaced where it changed
        children.append(part if isinstance(part, parts.Chart) else live(f"{panel.key}-{place}", part))
    if panel.rows:
        children.append(_exports(context, panel))
    return html.Section(children, className=f"panel {panel.size}", id=f"panel-{panel.key}")


def _exports(context: Context, panel: Panel) -> Component:
    address = context.address
    file = "-".join(name for name in (context.settings.slug, address.page, panel.key) if name)
    base = f"api/views/{address.page}/{panel.key}"
    query_text = f"?{address.query}" if address.query else ""
    links = [
        html.A(kind.upper(), href=f"{base}.{kind}{query_text}", download=f"{file}.{kind}")
        for kind in ("csv", "json")
    ]
    if context.settings.plotly_js is not None and panel.figure is None:
        return html.P(links, className="exports")  # a small bundle draws no tables
    picture = html.Button(
        "PNG",
        className="picture",
        **parts.attributes(data_figure=f"{base}.figure{query_text}", data_name=file),
    )
    return html.P([*links, picture], className="exports")
