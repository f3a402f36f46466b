"""What the gateways say of the replicas: Envoy's metrics page, read when a page shows it.

Envoy counts how many replicas are drained or ejected, and says of each one only whether it gets calls.
"""

from __future__ import annotations

import time
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from prometheus_client.parser import text_string_to_metric_families

from ranker.address import parse_address

_SECONDS = 2.0
_FRESH = 5.0
"""Seconds for which a reading is shown again: all readers of a page cause one."""
_RATE_SECONDS = 60.0
_MOST_BYTES = 16 << 20
_CLUSTER = 'envoy_cluster_name="replicas"'
_PREDICT = "envoy_cluster_grpc_PredictionService_Predict"


@dataclass(frozen=True)
class GatewayReplica:
    """One replica as a gateway sees it.

    Attributes:
        name: in the deployment; the address where no target is this.
        address: `host:port`.
        gets_calls: it is healthy, and neither drained nor ejected.
        calls, errors: tries that it was sent since the gateway started, and those that failed.
        calls_a_second: lately; None: not known yet.
    """

    name: str
    address: str
    gets_calls: bool
    calls: float
    errors: float
    calls_a_second: float | None


@dataclass(frozen=True)
class GatewayState:
    """One gateway.

    Attributes:
        address: of its metrics page.
        problem: why nothing is known of it; empty: all else is.
        healthy, drained, ejected: replicas that get calls, that somebody took out, that it took out itself.
        replicas: all in its file.
        calls, failed: callers' Predict calls since it started, and those that ended without success.
        calls_a_second, failed_a_second: lately; None: not known yet.
        retried: tries after the first, since it started.
    """

    address: str
    problem: str = ""
    healthy: int = 0
    drained: int = 0
    ejected: int = 0
    replicas: tuple[GatewayReplica, ...] = ()
    calls: float = 0.0
    failed: float = 0.0
    calls_a_second: float | None = None
    failed_a_second: float | None = None
    retried: float = 0.0


@dataclass(frozen=True)
class _Reading:
    time: float
    samples: Mapping[tuple[str, str], float]


class GatewayReader:
    """Reads metrics pages, and keeps a minute of readings for rates.

    Args:
        addresses: `host:port` of each gateway's metrics page.
        names: a replica's target -> its name.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        names: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._addresses = tuple(addresses)
        self._names, self._clock = dict(names), clock
        self._readings: dict[str, deque[_Reading]] = {address: deque() for address in addresses}
        self._states: tuple[GatewayState, ...] = ()
        self._read_at, self._lock = float("-inf"), Lock()

    def states(self) -> tuple[GatewayState, ...]:
        """Every gateway, as of the last five seconds."""
        if not self._addresses:
            return ()
        with self._lock:
            if self._clock() - self._read_at >= _FRESH:
                with ThreadPoolExecutor(len(self._addresses)) as threads:
                    self._states = tuple(threads.map(self._state, self._addresses))
                self._read_at = self._clock()
            return self._states

    def _state(self, address: str) -> GatewayState:
        try:
            samples = _samples(_page(address))
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            return GatewayState(address, problem=" ".join(str(reason).split())[:200] or type(error).__name__)
        if ("envoy_cluster_membership_total", "") not in samples:
            return GatewayState(address, problem="its page is not the metrics of a ranker gateway")
        readings, now = self._readings[address], self._clock()
        if readings and readings[-1].samples.get((f"{_PREDICT}_total", ""), 0) > samples.get(
            (f"{_PREDICT}_total", ""), 0
        ):
            readings.clear()  # it was started again
        readings.append(_Reading(now, samples))
        while len(readings) > 2 and now - readings[1].time > _RATE_SECONDS:
            readings.popleft()

        def value(name: str, endpoint: str = "") -> float:
            return samples.get((name, endpoint), 0.0)

        def rate(name: str, endpoint: str = "") -> float | None:
            first = readings[0]
            if now - first.time < 1.0:
                return None
            return (value(name, endpoint) - first.samples.get((name, endpoint), 0.0)) / (now - first.time)

        endpoints = sorted(key for name, key in samples if name == "envoy_cluster_endpoint_healthy")
        replicas = [
            GatewayReplica(
                name=self._name(endpoint),
                address=endpoint.split()[0],
                gets_calls=bool(value("envoy_cluster_endpoint_healthy", endpoint)),
                calls=value("envoy_cluster_endpoint_rq_total", endpoint),
                errors=value("envoy_cluster_endpoint_rq_error", endpoint),
                calls_a_second=rate("envoy_cluster_endpoint_rq_total", endpoint),
            )
            for endpoint in endpoints
        ]
        calls, succeeded = rate(f"{_PREDICT}_total"), rate(f"{_PREDICT}_success")
        return GatewayState(
            address,
            healthy=int(value("envoy_cluster_membership_healthy")),
            drained=int(value("envoy_cluster_membership_excluded")),
            ejected=int(value("envoy_cluster_outlier_detection_ejections_active")),
            replicas=tuple(sorted(replicas, key=lambda replica: replica.name)),
            calls=value(f"{_PREDICT}_total"),
            failed=value(f"{_PREDICT}_total") - value(f"{_PREDICT}_success"),
            calls_a_second=calls,
            failed_a_second=max(calls - succeeded, 0.0)
            if calls is not None and succeeded is not None
            else None,
            retried=value("envoy_cluster_upstream_rq_retry"),
        )

    def _name(self, endpoint: str) -> str:
        address, hostname = endpoint.split()
        by_name = f"{hostname}:{parse_address(address).port}"
        return self._names.get(address) or self._names.get(by_name) or address


def _page(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=_SECONDS) as answer:
        return answer.read(_MOST_BYTES).decode("utf-8")


def _samples(page: str) -> dict[tuple[str, str], float]:
    """(metric, endpoint as `address hostname`, or empty) -> value, of the cluster of replicas."""
    lines = "".join(f"{line}\n" for line in page.splitlines() if _CLUSTER in line and "_bucket{" not in line)
    samples = {}
    for family in text_string_to_metric_families(lines):
        for sample in family.samples:
            address = sample.labels.get("envoy_endpoint_address", "")
            endpoint = f"{address} {sample.labels.get('envoy_endpoint_hostname') or '-'}" if address else ""
            samples[sample.name, endpoint] = sample.value
    return samples
