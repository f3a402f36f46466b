"""The dashboard's process."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import uvicorn

from ranker.errors import UserError
from serving.dashboard.app import create_app
from serving.dashboard.settings import DashboardSettings


def run(settings: DashboardSettings, host: str = "127.0.0.1", port: int = 8050) -> None:
    """Serves the dashboard until SIGTERM or Ctrl-C; requests under way are answered first.

    Args:
        settings: of the dashboard.
        host: address to listen on; the default is for this machine alone.
        port: 0: any that is free.

    Raises:
        UserError: the store cannot be opened, the port cannot be listened on.
    """
    listener = _listen(host, port)
    with closing(listener):
        app = create_app(settings)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=5, server_header=False
        )
        _Server(config).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends on a signal and returns; uvicorn's own would raise the signal again and so end the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ends the server on SIGTERM and Ctrl-C."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"the dashboard cannot listen there: {reason}; choose another port. Received: {host}:{port}"
        ) from None
    return listener
