"""The way to one replica: a connection, made again when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time

from ranker.errors import UserError
from serving.client.connection import Tls
from serving.gateway.connection import Cancel, Connection, Done, Metadata, Reply

_CONNECT_SECONDS = 20.0
_PAUSE_SECONDS = 0.05


class Channel:
    """Calls to one address.

    Args:
      target: `host:port`, or with one of gRPC's schemes `unix:`, `dns:`, `ipv4:`, `ipv6:`.
      tls: how to connect; None: no TLS.

    Raises:
      UserError: another scheme, or a TLS file that can't be read.
    """

    def __init__(self, target: str, tls: Tls | None) -> None:
        self._target = target
        self._where = _address(target)
        self._tls = tls
        self._context = tls.context() if tls else None
        self._connection: Connection | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._last_attempt = -_PAUSE_SECONDS
        self._problem = ""
        self._closed = False

    @property
    def is_connected(self) -> bool:
        """Whether calls reach the replica."""
        return self._connection is not None and self._connection.takes_calls

    def connect(self) -> None:
        """Begins to connect, unless there is a connection or an attempt under way."""
        if self.is_connected or self._closed or self._attempt is not None:
            return
        self._last_attempt = time.monotonic()
        self._attempt = asyncio.ensure_future(self._connect())

    def call(
        self, path: str, request: bytes, metadata: Metadata, timeout: float | None, done: Done
    ) -> Cancel:
        """Sends one request; waits for a connection if there is none. A failure is a Reply too.

        Args:
          path: the method.
          request: the message's bytes.
          metadata: headers that go with it.
          timeout: seconds; None: without end.
          done: told the reply, once, later. Must not raise.

        Returns:
          What cancels the call.
        """
        if self._connection is not None and self._connection.takes_calls:
            return self._connection.call(path, request, metadata, timeout, done)
        return asyncio.ensure_future(self._call_when_connected(path, request, metadata, timeout, done)).cancel

    async def close(self) -> None:
        """Ends the connection; calls under way fail."""
        self._closed = True
        if self._attempt is not None:
            self._attempt.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._attempt
        if self._connection is not None:
            await self._connection.close()

    async def _call_when_connected(
        self, path: str, request: bytes, metadata: Metadata, timeout: float | None, done: Done
    ) -> None:
        began = time.monotonic()
        # What failed a moment ago fails again: a caller that asks in a circle must not connect in one.
        if self._attempt is not None or began - self._last_attempt >= _PAUSE_SECONDS:
            self.connect()
            if self._attempt is not None:
                await asyncio.wait([self._attempt], timeout=timeout)
        waited = time.monotonic() - began
        connection = self._connection
        if connection is not None and connection.takes_calls:
            left = None if timeout is None else timeout - waited
            reply = asyncio.get_running_loop().create_future()
            cancel = connection.call(path, request, metadata, left, reply.set_result)
            try:
                done(await reply)
            finally:
                cancel()
        elif timeout is not None and waited >= timeout:
            done(Reply("DEADLINE_EXCEEDED", details="Deadline Exceeded", latency=waited))
        else:
            done(
                Reply(
                    "UNAVAILABLE",
                    details=f"{self._target}: {self._problem or 'not connected'}",
                    latency=waited,
                )
            )

    async def _connect(self) -> None:
        try:
            self._connection = await asyncio.wait_for(self._open(), _CONNECT_SECONDS)
            self._problem = ""
        except asyncio.TimeoutError:
            self._problem = "timed out"
        except OSError as error:
            self._problem = error.strerror or str(error)
        finally:
            self._attempt = None

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        host, authority = self._names()
        name = host if self._context else None
        connection = Connection("https" if self._context else "http", authority)
        if isinstance(self._where, str):
            await loop.create_unix_connection(
                lambda: connection, self._where, ssl=self._context, server_hostname=name
            )
        else:
            await loop.create_connection(
                lambda: connection, *self._where, ssl=self._context, server_hostname=name
            )
        try:
            await connection.greeted
        except BaseException:
            connection.abort()
            raise
        return connection

    def _names(self) -> tuple[str, str]:
        """The name in the server's certificate, and the calls' authority."""
        if self._tls and self._tls.server_name:
            return self._tls.server_name, self._tls.server_name
        if isinstance(self._where, str):
            return "localhost", "localhost"
        host, port = self._where
        return host, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(target: str) -> str | tuple[str, int]:
    """A Unix socket's path, or host and port."""
    scheme, _, rest = target.partition(":")
    if scheme == "unix":
        return rest.removeprefix("//")
    if scheme == "xds":
        raise UserError(f"a replica's address must read host:port. Received: {target!r}")
    if scheme in ("dns", "ipv4", "ipv6"):
        target = rest.removeprefix("//").rpartition("/")[2]
    host, _, port = target.rpartition(":")
    return host.strip("[]"), int(port)
