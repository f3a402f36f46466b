"""A gateway on a thread of its own, in front of fake replicas."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from serving.deployment import Deployment, Replica
from serving.gateway import Gateway, GatewayOptions, MirrorOptions
from serving.mirrored import MirroredRequest
from serving.spool import finished, read


class Running:
    """A started gateway."""

    def __init__(self, options: GatewayOptions) -> None:
        self.options = options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.gateway = Gateway(options)
        self._await(self.gateway.start())
        self._stopped = False

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.gateway.port}"

    def _await(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("the condition did not come true")
            time.sleep(0.02)

    def healthy(self) -> set[str]:
        return {name for name, upstream in self.gateway._upstreams.items() if upstream.is_healthy}

    def metric(self, name: str, **labels: str) -> float:
        return self.gateway.registry.get_sample_value(name, labels) or 0.0

    def scrape(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.gateway.metrics_port}/metrics") as page:
            return page.read().decode()

    def mirrored(self, count: int) -> list[MirroredRequest]:
        """Waits for this many comparisons and returns them in their order of arrival."""
        self.wait_until(lambda: self.metric("ranker_gateway_mirror_compared_total") >= count)
        self.stop()
        records = [record for path in finished(self.options.mirror.spool) for record in read(path)]
        return sorted(records, key=lambda record: record.time)

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._await(self.gateway.stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


@pytest.fixture
def gateway(tmp_path) -> Iterator[Callable[..., Running]]:
    """Starts gateways in front of replicas; waits until those that can be reached are."""
    started: list[Running] = []

    def start(replicas, *, reachable: int | None = None, mirror: dict | None = None, **options) -> Running:
        deployment = Deployment("ranker", tuple(Replica(fake.name, fake.target) for fake in replicas))
        mirroring = MirrorOptions(**({"rate": 0.0, "spool": tmp_path / "spool"} | (mirror or {})))
        options = {"listen": "127.0.0.1:0", "metrics": "127.0.0.1:0", "mirror": mirroring} | options
        running = Running(GatewayOptions(deployment, **options))
        started.append(running)
        expected = len(replicas) if reachable is None else reachable
        running.wait_until(lambda: len(running.healthy()) == expected)
        return running

    yield start
    for running in started:
        running.stop()
