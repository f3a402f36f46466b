"""Ends what a database server that is frozen would never answer.

`statement_timeout` is the server's own and `tcp_user_timeout` the kernel's, which goes on confirming data for a process
that is stopped. So the connection is shut down from here: the waiting call fails as it does when the server goes away.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event


class Watchdog:
    """Limits how long a thread may use an engine's connection at a time.

    Args:
        engine: of PostgreSQL.
        limit: seconds.
    """

    def __init__(self, engine: Engine, limit: float) -> None:
        self.limit = limit
        self._thread = threading.local()
        ping = engine.dialect.do_ping

        def watched_ping(connection: Any) -> bool:
            # the pool asks a connection whether it is alive before anybody has it
            self._thread.connection = connection
            return ping(connection)

        engine.dialect.do_ping = watched_ping  # type: ignore[method-assign, assignment]
        event.listen(engine, "checkout", self._on_checkout)

    def _on_checkout(self, connection: Any, _record: Any, _proxy: Any) -> None:
        self._thread.connection = connection

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Shuts down the connection that this thread uses if the block takes longer than the limit."""
        thread = self._thread
        thread.connection = None
        state = thread.__dict__  # of this thread; the timer runs in another
        timer = threading.Timer(self.limit, lambda: _shut_down(state.get("connection")))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            thread.connection = None


def _shut_down(connection: Any) -> None:
    with contextlib.suppress(Exception):  # it is closed already
        # a copy of the descriptor, whose end leaves the connection's own alone
        copied = socket.socket(fileno=os.dup(connection.fileno()))
        try:
            copied.shutdown(socket.SHUT_RDWR)
        finally:
            copied.close()
