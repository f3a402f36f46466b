"""The Dash application: one layout and one callback, from address, theme and tick to the page."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dash
from anyio.to_thread import run_sync
from dash import ALL, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component
from fastapi import FastAPI
from fastapi.responses import FileResponse

from serving.dashboard.figures.style import palette
from serving.dashboard.layout import parts
from serving.dashboard.layout.address import parse
from serving.dashboard.layout.context import Context, moment_shown
from serving.dashboard.layout.frame import rendered
from serving.dashboard.layout.live import CHART, LIVE, Shown, changes
from serving.dashboard.layout.zone import shown_in
from serving.dashboard.pages import PAGES
from serving.dashboard.queries.gateway import GatewayReader
from serving.dashboard.settings import DashboardSettings
from serving.monitor.store import Store

_LOG = logging.getLogger(__name__)
_INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<base href="BASE"><title>{%title%}</title>{%favicon%}{%css%}<script src="assets/theme.js"></script></head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""


def add_pages(
    server: FastAPI,
    store: Store,
    settings: DashboardSettings,
    gateways: GatewayReader,
    clock: Callable[[], float],
) -> None:
    """Adds the Dash application to a server."""
    if settings.plotly_js is not None:  # before Dash's own route, so that it answers first
        script = settings.plotly_js
        # the address has the library's version
        headers = {"cache-control": "public, max-age=31536000"}

        @server.get("/_dash-component-suites/plotly/package_data/{name}", include_in_schema=False)
        def plotly_bundle(name: str) -> FileResponse:
            return FileResponse(script, media_type="text/javascript", headers=headers)

    app = dash.Dash(
        __name__,
        server=server,  # type: ignore[arg-type]  # annotated for Flask only
        backend="fastapi",
        assets_folder=str(Path(__file__).parent.parent / "assets"),
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
    app.index_string = _INDEX.replace("BASE", f"{settings.path_prefix}/")
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
        address = parse((path or "").removeprefix(settings.path_prefix), search)
        moment = moment_shown(address, clock())
        context = Context(store, settings, address, palette(theme), moment, gateways)
        with shown_in(address.zone):
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
            return content, look, no_update, unchanged, unchanged, state
        figures = {parts.chart_id(name): figure for name, figure in page_changes.figures.items()}
        return no_update, look, figures, page_changes.contents, page_changes.keys, state

    app.clientside_callback(dash.ClientsideFunction("freshness", "take"), Input("moment", "data"))
    app.clientside_callback(dash.ClientsideFunction("charts", "update"), Input("figures", "data"))
    app.clientside_callback(
        dash.ClientsideFunction("theme", "toggle"),
        Output("theme", "data"),
        Input("theme-button", "n_clicks"),
    )

    # Every path that nothing else answers is a page. Dash adds this route when the server starts, but then for the newest
    # of all its applications in the process (Dash 4.4; it has no public name).
    app.backend._setup_catchall()  # type: ignore[attr-defined]


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
