"""A WSGI application inside an ASGI one: Dash is Flask's, the house is FastAPI's.

Starlette's own bridge is deprecated and its successor one more dependency; this is the part of it that is needed.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

from anyio.to_thread import run_sync
from starlette.types import Receive, Scope, Send

MOST_BYTES = 1 << 20
"""Longest request body that is read; longer ones are answered with 413."""

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class WsgiBridge:
    """Runs a WSGI application in the thread pool; its answer is held in memory as a whole."""

    def __init__(self, application: Wsgi) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one HTTP request."""
        if scope["type"] != "http":
            return
        body = await _read(receive)
        if body is None:
            await _answer(send, 413, [(b"content-type", b"text/plain")], b"the request is too long\n")
            return
        status, headers, content = await run_sync(self._run, _environment(scope, body))
        await _answer(send, status, headers, content)

    def _run(self, environment: dict[str, Any]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        started: dict[str, Any] = {}

        def start(status: str, headers: list[tuple[str, str]], error: Any = None) -> Callable[[bytes], Any]:
            started.update(status=int(status.split(" ", 1)[0]), headers=headers)
            return lambda data: None

        chunks = self._application(environment, start)
        try:
            content = b"".join(chunks)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in started["headers"]
        ]
        return started["status"], headers, content


async def _read(receive: Receive) -> bytes | None:
    parts, size, more = [], 0, True
    while more:
        message: MutableMapping[str, Any] = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BYTES:
            return None
        more = message.get("more_body", False)
    return b"".join(parts)


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], content: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _environment(scope: Scope, body: bytes) -> dict[str, Any]:
    host, port = scope.get("server") or ("localhost", 80)
    client = scope.get("client") or ("", 0)
    environment: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin-1"),  # WSGI's text is bytes read as Latin-1
        "QUERY_STRING": scope["query_string"].decode("ascii", "replace"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 80),
        "REMOTE_ADDR": client[0],
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in scope.get("headers", []):
        key = name.decode("latin-1").upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            environment[key] = value.decode("latin-1")
        elif key != "CONTENT_LENGTH":
            environment[f"HTTP_{key}"] = value.decode("latin-1")
    return environment
