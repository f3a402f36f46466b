"""What answers which path: pages at `/`, `/api/*`, `/metrics`, `/healthz`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ranker import __version__
from ranker.errors import UserError
from serving.dashboard.access import Access
from serving.dashboard.api import api_routes
from serving.dashboard.health import health_routes
from serving.dashboard.settings import DashboardSettings
from serving.dashboard.shell import add_pages
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
    app.include_router(api_routes(store, settings, clock))
    add_pages(app, store, settings, clock)
    app.add_middleware(LimitedBodies)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    app.add_middleware(Access, token=settings.token, prefix=settings.path_prefix)
    if settings.path_prefix:
        app.add_middleware(BelowPath, prefix=settings.path_prefix)
    return app


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
