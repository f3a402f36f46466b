"""Who may look: an optional token, and headers that keep the pages to themselves."""

from __future__ import annotations

import hashlib
import hmac
import re
from html import escape
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "ranker_dashboard"
OPEN_PATHS = ("/healthz",)
"""Answered without a token: load balancers have none."""
_SIGN_IN = "/sign-in"
_MOST_BYTES = 10_000
_HEADERS = {
    # Everything comes from here: the dashboard works without a network, and nothing it shows can call out.
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_FORM = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sign in · Steady Ranker</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px system-ui, sans-serif; display: grid; place-content: center; min-height: 90vh }}
form {{ display: grid; gap: .8rem; min-width: 16rem }}
input, button {{ font: inherit; padding: .5rem }}
</style></head>
<body><main><h1>Steady Ranker</h1><form method="post" action="{action}">
<input type="hidden" name="next" value="{next}">{wrong}
<label for="token">Token of this dashboard</label>
<input id="token" name="token" type="password" autocomplete="current-password" autofocus required>
<button>Sign in</button></form></main></body></html>"""


class Access:
    """ASGI middleware: asks for the token, where there is one, and adds the headers.

    A program sends `Authorization: Bearer TOKEN`. A browser signs in once and keeps a cookie that is made from the
    token but is not the token.
    """

    def __init__(self, app: ASGIApp, token: str | None, prefix: str = "") -> None:
        self._app, self._token, self._prefix = app, token, prefix

    def _form(self, destination: str, status: int, *, wrong: str = "") -> HTMLResponse:
        alert = f'<p role="alert">{escape(wrong)}</p>' if wrong else ""
        text = _FORM.format(action=f"{self._prefix}{_SIGN_IN}", next=escape(destination), wrong=alert)
        return HTMLResponse(text, status)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes an allowed request on, answers another with 401."""
        if scope["type"] == "websocket":  # nothing here speaks it, and no token is asked on it
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = None
        if self._token is not None and scope["path"] not in OPEN_PATHS:
            answer = await self._check(scope, receive)
        await (answer or self._app)(scope, receive, send_with_headers)

    async def _check(self, scope: Scope, receive: Receive) -> Response | None:
        if scope["path"] == _SIGN_IN and scope["method"] == "POST":
            return await self._sign_in(Request(scope, receive))
        headers = Headers(scope=scope)
        if self._allowed(headers):
            return None
        if "text/html" in headers.get("accept", ""):
            query = scope.get("query_string", b"").decode("latin-1")
            return self._form(scope["path"] + (f"?{query}" if query else ""), 401)
        return JSONResponse({"detail": "a token is needed"}, 401, {"www-authenticate": "Bearer"})

    async def _sign_in(self, request: Request) -> Response:
        text = b""
        async for chunk in request.stream():
            text += chunk
            if len(text) > _MOST_BYTES:
                return self._form("/", 413, wrong="That is too long to be a token.")
        fields = parse_qs(text.decode("utf-8", "replace"))
        token = fields.get("token", [""])[0]
        destination = fields.get("next", ["/"])[0]
        # a path of this site, and nothing that a browser would read as another one
        if not re.fullmatch(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*", destination):
            destination = "/"
        if not equal_in_constant_time(token, self._token or ""):
            return self._form(destination, 401, wrong="That is not the token of this dashboard. Try again.")
        answer = RedirectResponse(f"{self._prefix}{destination}", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, sealed(token), httponly=True, samesite="strict", secure=secure)
        return answer

    def _allowed(self, headers: Headers) -> bool:
        token = self._token or ""
        scheme, _, credential = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and equal_in_constant_time(credential.strip(), token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and equal_in_constant_time(cookie.value, sealed(token))


def equal_in_constant_time(a: str, b: str) -> bool:
    """Compares in a time that does not depend on where they differ."""
    return hmac.compare_digest(a.encode(), b.encode())


def sealed(token: str) -> str:
    """What the cookie holds: from the token, but not to be turned back."""
    return hmac.new(token.encode(), b"steady-ranker dashboard", hashlib.sha256).hexdigest()
