"""The Dash application: one layout and one callback, from address, theme and tick to the page."""

from __future__ import annotations

import gzip
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import dash
import plotly
from anyio.to_thread import run_sync
from dash import ALL, Input, Output, State, ctx, dcc, html, no_update
from dash.backends._fastapi import reset_current_request, set_current_request
from dash.development.base_component import Component
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.exc import SQLAlchemyError

from serving.dashboard.figures.style import Figure, palette
from serving.dashboard.layout import parts
from serving.dashboard.layout.address import parse
from serving.dashboard.layout.context import Context, moment_shown
from serving.dashboard.layout.frame import rendered
from serving.dashboard.layout.live import CHART, LIVE, Shown, changes, charts_of
from serving.dashboard.layout.markup import markup
from serving.dashboard.layout.zone import shown_in
from serving.dashboard.pages import PAGES
from serving.dashboard.queries.gateway import GatewayReader
from serving.dashboard.settings import DashboardSettings
from serving.monitor.store import Store

_LOG = logging.getLogger(__name__)
_ASSETS = Path(__file__).parent.parent / "assets"
_FIRST = "<!-- the page as it is now -->"
_INDEX = f"""<!DOCTYPE html>
<html lang="en" data-plotly="PLOTLY">
<head>{{%metas%}}<base href="BASE"><title>{{%title%}}</title>{{%favicon%}}{{%css%}}<script>THEME</script></head>
<body>{_FIRST}{{%app_entry%}}<footer>{{%config%}}{{%scripts%}}{{%renderer%}}</footer></body>
</html>"""


def add_pages(
    server: FastAPI,
    store: Store,
    settings: DashboardSettings,
    gateways: GatewayReader,
    clock: Callable[[], float],
) -> None:
    """Adds the Dash application to a server."""
    plotly_path = _add_plotly(server, settings.plotly_js)

    # before Dash's own route, so that it answers first
    @server.get("/", include_in_schema=False)
    async def first_page(request: Request) -> HTMLResponse:
        return await page_at(request)

    app = dash.Dash(
        __name__,
        server=server,  # type: ignore[arg-type]  # annotated for Flask only
        backend="fastapi",
        assets_folder=str(_ASSETS),
        assets_ignore=r"theme\.js",
        serve_locally=True,
        routes_pathname_prefix="/",
        requests_pathname_prefix=f"{settings.path_prefix}/",
        title="Steady Ranker",
        update_title="",
        meta_tags=[
            {"name": "viewport", "content": "width=device-width, initial-scale=1"},
            {"name": "color-scheme", "content": "light dark"},
        ],
        add_log_handler=False,
        include_pages_meta=False,
        suppress_callback_exceptions=True,  # charts and parts come with a page
    )
    # callbacks go by HTTP; else each page load tries a WebSocket, which the server answers with a warning
    app.backend.websocket_capability = False  # type: ignore[attr-defined]
    theme_script = (_ASSETS / "theme.js").read_text(
        encoding="utf-8"
    )  # in the page: it must run before the first paint
    app.index_string = (
        _INDEX.replace("BASE", f"{settings.path_prefix}/")
        .replace("PLOTLY", plotly_path.removeprefix("/"))
        .replace("THEME", theme_script)
    )
    app.layout = _layout(settings)

    @app.callback(
        Output("page", "children"),
        Output("page", "className"),
        Output("figures", "data"),
        Output({LIVE: ALL}, "children"),
        Output({LIVE: ALL}, "key"),
        Output("moment", "data"),
        Input("address", "pathname"),
        Input("address", "search"),
        Input("theme", "data"),
        Input("tick", "n_intervals"),
        State({CHART: ALL}, "id"),
        State({LIVE: ALL}, "id"),
        State({LIVE: ALL}, "key"),
    )
    async def render(*values: Any) -> Any:
        # In a thread: Dash runs a plain callback on the event loop, where it would hold up /metrics and /healthz.
        try:
            return await run_sync(page_of, *values)
        except Exception:
            _LOG.exception("a page cannot be shown")  # Dash answers 500 and says nothing
            raise

    def page_of(
        path: str | None,
        search: str | None,
        theme: str | None,
        _: int | None,
        charts: list[dict[str, str]],
        parts_shown: list[dict[str, str]],
        keys: list[str],
    ) -> Any:
        context = context_of((path or "").removeprefix(settings.path_prefix), search, theme)
        with shown_in(context.address.zone):
            content, stale = rendered(context)
        look = "stale" if stale else ""
        state = moment_of(context)
        shown = Shown(
            tuple(chart_id[CHART] for chart_id in charts),
            dict(zip((part_id[LIVE] for part_id in parts_shown), keys, strict=True)),
        )
        page_changes = changes(content, shown) if ctx.triggered_id == "tick" else None
        if page_changes is None:
            unchanged = [no_update] * len(keys)
            return content, look, figures_of(charts_of(content)), unchanged, unchanged, state
        figures = figures_of(page_changes.figures)
        return no_update, look, figures, page_changes.contents, page_changes.keys, state

    app.clientside_callback(dash.ClientsideFunction("freshness", "take"), Input("moment", "data"))
    app.clientside_callback(dash.ClientsideFunction("charts", "update"), Input("figures", "data"))
    app.clientside_callback(
        dash.ClientsideFunction("theme", "toggle"),
        Output("theme", "data"),
        Input("theme-button", "n_clicks"),
    )

    def context_of(path: str, search: str | None, theme: str | None) -> Context:
        address = parse(path, search)
        return Context(
            store=store,
            settings=settings,
            address=address,
            palette=palette(theme),
            now=moment_shown(address, clock()),
            gateways=gateways,
        )

    def first_markup(path: str, search: str) -> tuple[str, str]:
        """The title and the content of a page, as HTML."""
        context = context_of(path, search, None)
        with shown_in(context.address.zone):
            content, stale = rendered(context)
        title = f"{context.verdict.state} · {moment_of(context)['title']}"
        return escape(title), f'<div id="first" class="{"stale" if stale else ""}">{markup(content)}</div>'

    async def page_at(request: Request) -> HTMLResponse:
        current = set_current_request(request)  # Dash does so for `/` alone, and its index asks for it
        try:
            index = app.index()
        finally:
            reset_current_request(current)
        try:
            title, content = await run_sync(first_markup, request.scope["path"], request.url.query)
        except (OSError, SQLAlchemyError):  # Dash's own request for the page says what the reader should know
            _LOG.exception("a page cannot be shown")
            return HTMLResponse(index)
        index = index.replace("<title>Steady Ranker</title>", f"<title>{title}</title>", 1)
        return HTMLResponse(index.replace(_FIRST, content, 1))

    @server.get("/{path:path}", include_in_schema=False)
    async def page_of_path(request: Request) -> HTMLResponse:
        return await page_at(request)


def figures_of(figures_by_name: Mapping[str, Figure]) -> dict[str, Figure]:
    """Figures by the ids of their places."""
    return {parts.chart_id(name): figure for name, figure in figures_by_name.items()}


def _add_plotly(server: FastAPI, bundle: Path | None) -> str:
    """Adds a route for Plotly's library; returns its path, which names the library's content.

    Args:
        server: gets the route.
        bundle: of Plotly; None: the whole library of the installed package.
    """
    file = bundle if bundle is not None else Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    script = file.read_bytes()
    compressed = gzip.compress(script, 9, mtime=0)  # once, and not for each browser
    path = f"/plotly-{hashlib.blake2b(script, digest_size=8).hexdigest()}.js"
    headers = {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}

    @server.get(path, include_in_schema=False)
    def plotly_library(request: Request) -> Response:
        if "gzip" in request.headers.get("accept-encoding", ""):
            packed = {**headers, "content-encoding": "gzip"}
            return Response(compressed, media_type="text/javascript", headers=packed)
        return Response(script, media_type="text/javascript", headers=headers)

    return path


def moment_of(context: Context) -> dict[str, Any]:
    """What the browser needs to count on by itself: how old the newest round is, and when to expect the next answer.

    `answered` makes two answers with the same numbers two.
    """
    page = PAGES.get(context.address.page)
    names = [page.title if page is not None else "No such page", context.settings.name, "Steady Ranker"]
    return {
        "age": None if context.address.fixed is not None else context.snapshot.freshness.age,
        "refresh": context.settings.refresh,
        "state": context.verdict.state,
        "title": " · ".join(name for name in names if name),
        "answered": time.time(),
    }


def _layout(settings: DashboardSettings) -> Component:
    return html.Div(
        [
            dcc.Location(id="address", refresh="callback-nav"),
            dcc.Store(id="theme"),
            dcc.Store(id="figures"),
            dcc.Store(id="moment"),
            dcc.Interval(id="tick", interval=round(1000 * settings.refresh)),
            html.A("To the content", href="#content", className="skip"),
            html.Div(id="silence", role="alert", hidden=True),
            html.Button(
                "◐", id="theme-button", title="Light or dark", **parts.attributes(aria_label="Light or dark")
            ),
            html.Div(id="page"),
        ],
        id="frame",
    )
