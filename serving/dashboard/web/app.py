"""What answers which path: pages at `/`, `/api/*`, `/metrics`, `/healthz`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI, Request
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ranker import __version__
from ranker.errors import UserError
from serving.dashboard.layout.shell import add_pages
from serving.dashboard.queries.gateway import GatewayReader
from serving.dashboard.settings import DashboardSettings
from serving.dashboard.web.access import Access
from serving.dashboard.web.api import api_routes
from serving.dashboard.web.health import health_routes
from serving.monitor.store import open_store

MOST_BYTES = 1 << 20
"""Longest request body that is read."""


class LimitedBodies:
    """Answers requests whose body is longer than `MOST_BYTES`, or of unknown length, before anything reads them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        headers = Headers(scope=scope) if scope["type"] == "http" else {}
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers:
            await PlainTextResponse("the request must say its length\n", 411)(scope, receive, send)
        elif not length.isdecimal() or int(length) > MOST_BYTES:
            await PlainTextResponse("the request is too long\n", 413)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def create_app(settings: DashboardSettings, clock: Callable[[], float] = time.time) -> FastAPI:
    """The dashboard as an ASGI application.

    Args:
        settings: of the dashboard.
        clock: seconds since 1970.

    Raises:
        UserError: the store does not exist or cannot be opened.
    """
    store = open_store(settings.store, create=False)
    replicas = settings.deployment.replicas if settings.deployment is not None else ()
    gateways = GatewayReader(settings.gateways, {replica.target: replica.name for replica in replicas})

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        store.close()

    app = FastAPI(
        title="Steady Ranker dashboard",
        version=__version__,
        description="Do the deployed replicas agree, what does it cost, and which one is it.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # FastAPI's pages for it load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_exception_handler(UserError, _refuse)
    app.include_router(health_routes(store, settings, clock))
    app.include_router(api_routes(store, settings, gateways, clock))
    add_pages(app, store, settings, gateways, clock)
    app.add_middleware(LimitedBodies)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    app.add_middleware(Access, token=settings.token, prefix=settings.path_prefix)
    if settings.path_prefix:
        app.add_middleware(BelowPath, prefix=settings.path_prefix)
    return app


class SeveralDeployments:
    """ASGI application: the dashboards of several deployments, each below a path of its own.

    `/` leads to the first. `/healthz` is well while all of them are.

    Args:
        apps: path, such as `/films` -> its dashboard.
        prefix: path below which a proxy shows all of them.
    """

    def __init__(self, apps: Mapping[str, FastAPI], prefix: str = "") -> None:
        self._apps, self._prefix = dict(apps), prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on to the dashboard that its path names."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path = scope["path"]
        if self._prefix and (path == self._prefix or path.startswith(f"{self._prefix}/")):
            path = path[len(self._prefix) :] or "/"
        for path_of_app, app in self._apps.items():
            if path.startswith(f"{path_of_app}/"):
                await app({**scope, "path": path[len(path_of_app) :]}, receive, send)
                return
        if path == "/healthz":
            await self._health(scope, receive, send)
            return
        query = scope.get("query_string", b"").decode("latin-1")
        first = next(
            (path_of_app for path_of_app in self._apps if path == path_of_app), next(iter(self._apps))
        )
        answer: Response = PlainTextResponse("no such deployment\n", 404)
        if path in ("/", "", *self._apps):
            answer = RedirectResponse(f"{self._prefix}{first}/" + (f"?{query}" if query else ""), 307)
        await answer(scope, receive, send)

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        statuses: dict[str, int] = {}
        for path_of_app, app in self._apps.items():

            async def note(message: Message, path_of_app: str = path_of_app) -> None:
                if message["type"] == "http.response.start":
                    statuses[path_of_app] = message["status"]

            await app({**scope, "path": "/healthz"}, receive, note)
        well = all(status == 200 for status in statuses.values())
        answer = JSONResponse(
            {"status": "ok" if well else "store unreachable", "deployments": statuses}, 200 if well else 503
        )
        await answer(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            for app in self._apps.values():
                await stack.enter_async_context(app.router.lifespan_context(app))
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def create_app_of_several(
    settings: Sequence[DashboardSettings], clock: Callable[[], float] = time.time
) -> FastAPI | SeveralDeployments:
    """The dashboard of one deployment, or of several with a choice in the header.

    Raises:
        UserError: as `create_app`; or two deployments have one name.
    """
    if len(settings) == 1:
        return create_app(settings[0], clock)
    slugs = [each.slug for each in settings]
    if "" in slugs or len(set(slugs)) < len(slugs):
        raise UserError(
            "deployments of one dashboard must have names that differ in letters or digits. "
            f"Received: {', '.join(repr(each.name) for each in settings)}"
        )
    prefix = settings[0].path_prefix
    siblings = tuple((each.name, f"{prefix}/{each.slug}/") for each in settings)
    apps = {
        f"/{each.slug}": create_app(
            replace(each, path_prefix=f"{prefix}/{each.slug}", siblings=siblings), clock
        )
        for each in settings
    }
    return SeveralDeployments(apps, prefix)


class BelowPath:
    """ASGI middleware: takes the prefix off a request's path, where the proxy in front has left it on."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        path = scope.get("path", "")
        if scope["type"] == "http" and (path == self._prefix or path.startswith(f"{self._prefix}/")):
            scope = {**scope, "path": path[len(self._prefix) :] or "/"}
        await self._app(scope, receive, send)


def _refuse(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": " ".join(str(error).split())}, 422)
