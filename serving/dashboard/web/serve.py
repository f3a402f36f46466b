"""The dashboard's process."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from ipaddress import ip_address

import uvicorn

from ranker.errors import UserError
from serving.dashboard.settings import DashboardSettings
from serving.dashboard.web.app import create_app_of_several


def run(
    deployments: Sequence[DashboardSettings],
    host: str = "127.0.0.1",
    port: int = 8050,
    on_listen: Callable[[str], None] | None = None,
) -> None:
    """Serves the dashboard until SIGTERM or Ctrl-C; requests under way are answered first.

    Args:
        deployments: settings of each; who may look, and below which path, is the first one's.
        host: address to listen on; the default is for this machine alone.
        port: 0: any that is free.
        on_listen: called with the dashboard's address once it listens.

    Raises:
        UserError: others than this machine could look without a token, a store cannot be opened, two
            deployments have one name, the port cannot be listened on.
    """
    settings = deployments[0]
    if not _is_loopback(host) and settings.token is None and settings.trust_header is None:
        raise UserError(
            "a dashboard on an address that is not loopback must have a token (--token or RANKER_DASHBOARD_TOKEN), or a "
            f"proxy that names the caller (--trust-header). Received: --host {host}"
        )
    listener = _listen(host, port)
    with closing(listener):
        app = create_app_of_several(deployments)
        if on_listen is not None:
            shown = f"[{host.strip('[]')}]" if ":" in host else host
            on_listen(f"http://{shown}:{listener.getsockname()[1]}{settings.path_prefix}/")
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


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


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
