"""What Envoy, as `ranker gateway` configures it, costs: against calling a replica directly, and mirroring against not.

    python benchmarks/gateway.py [--rounds 10] [--requests 1000] [--seconds 5]

Three stand-ins for TF Serving, each a process that answers a Predict of 100 candidates after 3 ms (a constant: any
tail a caller sees is then the path's own), a stand-in for the monitor that answers at once, and the load generator are on
the same machine. In each round the paths take turns: directly, through a gateway without mirroring, through one
that mirrors a tenth of the calls.

- *Latency*: calls arrive at a fixed rate whether or not earlier ones are answered, and a call's time counts from
  when it was due. A round gives each path a p50 and a p99; a figure is the median over rounds, and so is a difference
  or ratio of two paths.
- *Rate and cost*: a fixed number of calls is always under way. Calls a second, and the processor time of Envoy divided
  by the calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import psutil

from serving import wire

RESULTS = Path(__file__).parent / "results"
CANDIDATES, SERVICE_SECONDS, MIRRORED = 100, 0.003, 0.1
PATHS = ("direct", "gateway", "mirroring")
MEASURES = ("p50_ms", "p99_ms", "calls_per_second", "envoy_ms_per_call")


def request_bytes() -> bytes:
    """Returns a Predict request of 100 candidates and eight features."""
    rng = np.random.default_rng(0)
    request = wire.PredictRequest()
    request.model_spec.name = "ranker"
    items = [str(item) for item in range(CANDIDATES)]
    request.inputs["item_id"].CopyFrom(wire.to_tensor(items))
    for name in ("user_id", "gender", "occupation", "genres"):
        request.inputs[name].CopyFrom(wire.to_tensor([f"{name}-7"] * CANDIDATES))
    for name in ("age", "release_year", "price"):
        request.inputs[name].CopyFrom(wire.to_tensor(rng.normal(size=CANDIDATES).astype(np.float32)))
    return request.SerializeToString()


def answer_bytes() -> bytes:
    """Returns its answer."""
    scores = np.random.default_rng(1).random((CANDIDATES, 1), np.float32)
    response = wire.PredictResponse()
    response.model_spec.name, response.model_spec.version.value = "ranker", 1
    response.outputs["score"].CopyFrom(wire.to_tensor(scores, typed_fields=True))
    return response.SerializeToString()


def status_bytes() -> bytes:
    """Returns the status of a model with an available version."""
    response = wire.GetModelStatusResponse()
    response.model_version_status.add(version=1, state=30)
    return response.SerializeToString()


class StandIn(grpc.GenericRpcHandler):
    """Answers the model's status, and every other method with the same bytes."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._answer, self._status = seconds, answer_bytes(), status_bytes()

    def service(self, handler_call_details: Any) -> Any:
        """Returns the method's handler."""
        is_status = handler_call_details.method == wire.GET_MODEL_STATUS.path
        return grpc.unary_unary_rpc_method_handler(self._tell if is_status else self._rank)

    async def _rank(self, request: bytes, context: Any) -> bytes:
        await asyncio.sleep(self._seconds)
        return self._answer

    async def _tell(self, request: bytes, context: Any) -> bytes:
        return self._status


def serve(seconds: float, port: Any) -> None:
    """Runs a stand-in until it is terminated."""

    async def serve_forever() -> None:
        server = grpc.aio.server(handlers=(StandIn(seconds),))
        port.put(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve_forever())


class Gateway:
    """A running `ranker gateway`."""

    def __init__(self, replicas: list[str], *flags: str) -> None:
        named = [f"--replica=replica-{place}={target}" for place, target in enumerate(replicas)]
        addresses = ("--listen=127.0.0.1:0", "--metrics=127.0.0.1:0")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ranker.cli", "gateway", *named, *addresses, *flags],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        match = re.search(r"listening on (\S+:\d+),", line)
        if match is None:
            raise SystemExit(line)
        self.target = match[1]
        (self._envoy,) = psutil.Process(self.process.pid).children()

    def processor_seconds(self) -> float:
        """Processor time of Envoy so far."""
        times = self._envoy.cpu_times()
        return times.user + times.system


async def at_a_rate(target: str, body: bytes, requests: int, rate: float) -> list[float]:
    """Sends `requests` calls, `rate` a second, and returns the seconds each took from when it was due."""
    async with grpc.aio.insecure_channel(target) as channel:
        method = channel.unary_unary(wire.PREDICT.path)

        async def call(due: float) -> float:
            await method(body, timeout=10)
            return time.perf_counter() - due

        for _ in range(50):
            await call(time.perf_counter())
        pending = []
        start = time.perf_counter() + 0.01
        for number in range(requests):
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            pending.append(asyncio.create_task(call(due)))
        return list(await asyncio.gather(*pending))


async def at_once(target: str, body: bytes, callers: int, seconds: float) -> tuple[int, float]:
    """Keeps `callers` calls under way and returns how many were answered in how many seconds."""
    async with grpc.aio.insecure_channel(target) as channel:
        method = channel.unary_unary(wire.PREDICT.path)
        start = time.perf_counter()

        async def calls() -> int:
            count = 0
            while time.perf_counter() - start < seconds:
                await method(body, timeout=30)
                count += 1
            return count

        counts = await asyncio.gather(*(calls() for _ in range(callers)))
        return sum(counts), time.perf_counter() - start


def measure(
    targets: dict[str, str], gateways: dict[str, Gateway], arguments: argparse.Namespace
) -> dict[str, dict[str, list[float]]]:
    """Returns path -> measure -> a figure a round."""
    body = request_bytes()
    figures: dict[str, dict[str, list[float]]] = {path: {name: [] for name in MEASURES} for path in PATHS}
    for number in range(arguments.rounds):
        # Another path begins each round.
        for place in range(len(PATHS)):
            path = PATHS[(place + number) % len(PATHS)]
            times = asyncio.run(at_a_rate(targets[path], body, arguments.requests, arguments.rate))
            for name, share in (("p50_ms", 50), ("p99_ms", 99)):
                figures[path][name].append(1000 * float(np.percentile(times, share)))
            gateway = gateways.get(path)
            before = gateway.processor_seconds() if gateway else 0.0
            count, seconds = asyncio.run(at_once(targets[path], body, arguments.callers, arguments.seconds))
            spent = gateway.processor_seconds() - before if gateway else 0.0
            figures[path]["calls_per_second"].append(count / seconds)
            figures[path]["envoy_ms_per_call"].append(1000 * spent / count)
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
    return figures


def main() -> None:
    """Runs the benchmark and writes its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=1000, help="calls a path and round at the fixed rate")
    parser.add_argument("--rate", type=float, default=150.0, help="calls a second")
    parser.add_argument("--callers", type=int, default=100, help="calls under way at once")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long they are, a path and round")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    port = context.Queue()
    processes: list[Any] = []

    def stand_in(seconds: float) -> str:
        process = context.Process(target=serve, args=(seconds, port))
        process.start()
        processes.append(process)
        return f"127.0.0.1:{port.get(timeout=60)}"

    def gateway(*flags: str) -> Gateway:
        started = Gateway(replicas, *flags)
        processes.append(started.process)
        return started

    try:
        replicas = [stand_in(SERVICE_SECONDS) for _ in range(3)]
        monitor = stand_in(0.0)
        gateways = {
            "gateway": gateway(),
            "mirroring": gateway(f"--mirror={MIRRORED}", f"--monitor={monitor}"),
        }
        targets = {"direct": replicas[0]} | {path: gateways[path].target for path in gateways}
        figures = measure(targets, gateways, arguments)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30) if isinstance(process, subprocess.Popen) else process.join(20)
    settings = {name: value for name, value in vars(arguments).items() if name != "results"}
    write(figures, settings, arguments.results)


def write(figures: dict[str, dict[str, list[float]]], settings: dict[str, Any], directory: Path) -> None:
    """Writes gateway.json and gateway.md."""

    def against(path: str, base: str, name: str, how: Callable[[float, float], float]) -> float:
        pairs = zip(figures[path][name], figures[base][name], strict=True)
        return round(statistics.median(how(a, b) for a, b in pairs), 3)

    result = {
        "settings": settings
        | {"candidates": CANDIDATES, "service_ms": 1000 * SERVICE_SECONDS, "mirrored": MIRRORED},
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "grpc": grpc.__version__},
        "medians": {
            path: {name: round(statistics.median(figures[path][name]), 3) for name in MEASURES}
            for path in PATHS
        },
        "added_p50_ms": against("gateway", "direct", "p50_ms", lambda a, b: a - b),
        "mirroring_p99_ratio": against("mirroring", "gateway", "p99_ms", lambda a, b: a / b),
        "mirroring_cost_ratio": against("mirroring", "gateway", "envoy_ms_per_call", lambda a, b: a / b),
        "rounds": figures,
    }
    directory.mkdir(exist_ok=True)
    (directory / "gateway.json").write_text(json.dumps(result, indent=1) + "\n")
    text = table(result)
    (directory / "gateway.md").write_text(text)
    print(text)


def table(result: dict[str, Any]) -> str:
    """Returns the results as a page."""
    settings, machine = result["settings"], result["machine"]
    lines = [
        f"| path | p50, ms | p99, ms | calls a second, {settings['callers']} at once | Envoy's processor time a call, ms |",
        "|---|---|---|---|---|",
    ]
    for path, medians in result["medians"].items():
        cost = f"{medians['envoy_ms_per_call']:.3f}" if path != "direct" else ""
        lines.append(
            f"| {path} | {medians['p50_ms']:.2f} | {medians['p99_ms']:.2f} | {medians['calls_per_second']:,.0f} | {cost} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            f"The gateway adds {result['added_p50_ms']:.2f} ms at p50. Mirroring {settings['mirrored']:.0%} of the calls "
            f"moves p99 by a factor of {result['mirroring_p99_ratio']:.2f} and Envoy's processor time by "
            f"{result['mirroring_cost_ratio']:.2f}.",
            "",
            f"{settings['rounds']} rounds of {settings['requests']} calls a path at {settings['rate']:g} a second, then "
            f"{settings['seconds']:g} seconds with {settings['callers']} calls always under way; directly means one replica "
            f"of three. {machine['cores']} cores shared with the replicas and the load generator. "
            "Written by `benchmarks/gateway.py`.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
