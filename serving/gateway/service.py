"""A running gateway: its parts put together, started, and drained on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

from ranker.errors import UserError
from serving import wire
from serving.gateway.breaker import Breaker
from serving.gateway.compare import is_plausible
from serving.gateway.forward import Forwarder
from serving.gateway.health import CHECK, health
from serving.gateway.listener import Listener
from serving.gateway.metrics import Metrics
from serving.gateway.mirror_link import MirrorLink
from serving.gateway.options import GatewayOptions, split_address
from serving.gateway.proxy import Proxy
from serving.gateway.routing import Router
from serving.gateway.upstream import Upstream

_RECONNECT = 0.5
# Larger answers are not looked into: while one is parsed no other call moves.
_MAX_CHECKED = 1 << 18


class Gateway:
    """Listens for callers and forwards to the replicas of a deployment; lives on one event loop.

    Attributes:
      port, metrics_port: where it listens once started (0: it doesn't).
      registry: its Prometheus metrics.
    """

    def __init__(self, options: GatewayOptions) -> None:
        self.options = options
        self.port = self.metrics_port = 0
        self._draining = False
        self._upstreams: dict[str, Upstream] = {}
        self._http: WSGIServer | None = None
        self._metrics = Metrics()
        self.registry = self._metrics.registry

    async def start(self) -> None:
        """Starts listening.

        Raises:
          UserError: an address is taken, or a TLS file can't be read.
        """
        options = self.options
        self._mirror = MirrorLink(options)
        if options.mirror.rate > 0:
            _writable(Path(options.mirror.spool))
            await self._mirror.start()
        try:
            await self._listen()
        except UserError:
            await self._listener.stop(0.0)
            await self._mirror.stop(0.0)
            await self._disconnect()
            raise

    async def _listen(self) -> None:
        options = self.options
        for replica in options.deployment.replicas:
            self._upstreams[replica.name] = Upstream(replica, options.upstream_tls, Breaker(), options.slow)
        self._metrics.watch(self._upstreams, self._mirror.counts, self._mirror.gauges)
        self._forward = Forwarder(
            self._upstreams, Router(tuple(self._upstreams)), self._metrics, options.slow, self._is_good
        )
        proxy = Proxy(
            self._forward,
            self._metrics,
            sticky=options.sticky,
            rate=options.mirror.rate,
            mirror=self._mirror.offer,
        )
        self._listener = Listener({**proxy.handlers(), CHECK: health(self._is_ready)})
        tls = None if options.tls is None else options.tls.context()
        await self._listener.start(*split_address("listen", options.listen), tls)
        self.port = self._listener.port
        if options.metrics is not None:
            host, port = split_address("metrics", options.metrics)
            try:
                self._http, _ = start_http_server(port, host, self.registry)
            except OSError as error:
                raise UserError(f"cannot listen on {options.metrics} for metrics: {error.strerror}") from None
            self.metrics_port = self._http.server_port
        self._connecting = asyncio.create_task(self._keep_connected())

    async def stop(self) -> None:
        """Refuses new calls, lets those under way finish within `drain` seconds, finishes the mirror's queue."""
        self._draining = True
        await self._listener.stop(self.options.drain)
        self._connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._connecting
        self._forward.close()
        await self._mirror.stop(self.options.drain)
        await self._disconnect()

    async def _disconnect(self) -> None:
        for upstream in self._upstreams.values():
            await upstream.close()
        if self._http is not None:
            await asyncio.to_thread(self._http.shutdown)
            self._http.server_close()

    def _is_good(self, path: str, request: bytes, answer: bytes) -> bool:
        if path != wire.PREDICT.path or len(request) > _MAX_CHECKED:
            return True
        deployment = self.options.deployment
        return is_plausible(request, answer, deployment.model_name, deployment.item)

    def _is_ready(self) -> bool:
        return not self._draining and any(upstream.is_healthy for upstream in self._upstreams.values())

    async def _keep_connected(self) -> None:
        while True:
            for upstream in self._upstreams.values():
                upstream.connect()
            await asyncio.sleep(_RECONNECT)


def run(options: GatewayOptions, announce: Callable[[str], None] = print) -> None:
    """Runs a gateway until SIGTERM or SIGINT, then drains it.

    Args:
      options: what it does.
      announce: told, in one line, where it listens once it does.

    Raises:
      UserError: an address is taken, or a file can't be read or written.
    """
    asyncio.run(_run(options, announce))


async def _run(options: GatewayOptions, announce: Callable[[str], None]) -> None:
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    gateway = Gateway(options)
    await gateway.start()
    host, _ = split_address("listen", options.listen)
    names = ", ".join(replica.name for replica in options.deployment.replicas)
    metrics = f", metrics on port {gateway.metrics_port}" if gateway.metrics_port else ""
    announce(f"gateway on {host}:{gateway.port} for {names}; mirrors {options.mirror.rate:.1%}{metrics}")
    await asked_to_stop.wait()
    await gateway.stop()


def _writable(spool: Path) -> None:
    try:
        spool.mkdir(parents=True, exist_ok=True)
        (spool / ".writable").touch()
        (spool / ".writable").unlink()
    except OSError as error:
        raise UserError(f"{spool}: cannot write the spool directory: {error.strerror}") from None
