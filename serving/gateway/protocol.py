"""What both sides of the gateway do with a connection: HTTP/2 over a transport of asyncio's."""

from __future__ import annotations

import asyncio
import logging
import socket
from abc import abstractmethod
from collections.abc import Callable

from serving.http2 import frames
from serving.http2.books import Books
from serving.http2.frames import ProtocolError
from serving.http2.outgoing import Outgoing
from serving.http2.reader import Reader
from serving.http2.stream import Stream

_LOG = logging.getLogger(__name__)


class Http2Protocol(asyncio.Protocol):
    """Reads frames, writes what the peer takes. The methods without an underscore are asyncio's to call.

    Args:
      user_timeout_ms: after so long without an acknowledgement the kernel gives the connection up.
    """

    _transport: asyncio.Transport
    _outgoing: Outgoing

    def __init__(self, user_timeout_ms: int) -> None:
        self._user_timeout_ms = user_timeout_ms
        self._books = Books()
        self._has_room = True

    @property
    @abstractmethod
    def _reader(self) -> Reader:
        """The side's reader, once there is a transport."""

    @abstractmethod
    def _greet(self, send: Callable[[bytes], object]) -> None:
        """Makes the reader."""

    @abstractmethod
    def _take(self, stream: Stream) -> None:
        """Takes a complete message."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Prepares both directions."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock: socket.socket = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            # asyncio does so itself only for sockets made with the protocol's number, which accepted ones are not.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._user_timeout_ms)
        self._outgoing = Outgoing(self._books, transport.write, lambda: self._has_room)
        self._greet(transport.write)

    def data_received(self, data: bytes) -> None:
        """Takes what the peer sent; ends the connection of a peer that breaks the protocol."""
        try:
            for stream in self._reader.feed(data):
                self._take(stream)
        except ProtocolError as error:
            _LOG.warning("a peer broke the protocol: %s", error)
            self._transport.write(frames.goaway(self._reader.last_stream, error.code, str(error)))
            self._transport.close()
            return
        self._outgoing.pump()

    def pause_writing(self) -> None:
        """Holds messages back."""
        self._has_room = False

    def resume_writing(self) -> None:
        """Goes on with them."""
        self._has_room = True
        self._outgoing.pump()

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing more comes or goes."""
        self._books.end()
        self._outgoing.clear()
