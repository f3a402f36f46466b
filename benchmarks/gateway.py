"""What the gateway costs a caller: against calling a replica directly, and with mirroring against without.

    python benchmarks/gateway.py [--rounds 10] [--requests 400]

Three stand-ins for TF Serving, each a process that answers a Predict of 100 candidates after 3 ms (a constant:
any tail a caller sees is then the path's own), and the load generator are on the same machine. Calls arrive at
a fixed rate whether or not earlier ones are answered, and a call's time counts from when it was due. In each
round the paths take turns: directly, through a gateway without mirroring, through one that mirrors a tenth of
the requests, and through one that does so while one replica is dead and one answers nonsense. A round gives each
path a p50 and a p99; a figure is the median over rounds, and so is a difference or ratio of two paths.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import grpc
import grpc.aio
import numpy as np

from serving import wire
from serving.deployment import Deployment, Replica
from serving.gateway import GatewayOptions, MirrorOptions, run

RESULTS = Path(__file__).parent / "results"
CANDIDATES, SERVICE_SECONDS = 100, 0.003
BARS = {"added_p50_ms": 1.0, "mirroring_p99_ratio": 1.10}
PATHS = ("direct", "gateway", "mirroring", "mirroring, one dead, one wrong")


def request_bytes() -> bytes:
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


def answer_bytes(candidates: int) -> bytes:
    scores = np.random.default_rng(1).random((candidates, 1), np.float32)
    response = wire.PredictResponse()
    response.model_spec.name, response.model_spec.version.value = "ranker", 1
    response.outputs["score"].CopyFrom(wire.to_tensor(scores, typed_fields=True))
    return response.SerializeToString()


class StandIn(grpc.GenericRpcHandler):
    """Answers every method with the same bytes."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._handler = grpc.unary_unary_rpc_method_handler(self._answer)

    def service(self, handler_call_details):
        """Returns the one handler."""
        return self._handler

    async def _answer(self, request, context):
        await asyncio.sleep(SERVICE_SECONDS)
        return self._body


def serve_replica(candidates: int, port: multiprocessing.Queue) -> None:
    async def serve() -> None:
        server = grpc.aio.server(handlers=(StandIn(answer_bytes(candidates)),))
        port.put(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve())


def serve_gateway(targets: list[str], rate: float, spool: str, port: multiprocessing.Queue) -> None:
    replicas = tuple(Replica(f"replica-{place}", target) for place, target in enumerate(targets))
    options = GatewayOptions(
        Deployment("ranker", replicas),
        listen="127.0.0.1:0",
        metrics=None,
        mirror=MirrorOptions(rate=rate, spool=spool),
    )
    run(options, lambda line: port.put(int(line.split(":")[1].split()[0])))


async def load(target: str, body: bytes, requests: int, rate: float, prefix: str) -> list[float]:
    """Sends `requests` calls, `rate` a second, and returns the seconds each took from when it was due."""
    async with grpc.aio.insecure_channel(target) as channel:
        method = channel.unary_unary(wire.PREDICT.path)

        async def call(due: float, identifier: str) -> float:
            await method(body, metadata=(("x-request-id", identifier),), timeout=10)
            return time.perf_counter() - due

        for warm in range(50):
            await call(time.perf_counter(), f"warm-{warm}")
        pending = []
        start = time.perf_counter() + 0.01
        for number in range(requests):
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            pending.append(asyncio.create_task(call(due, f"{prefix}-{number}")))
        return list(await asyncio.gather(*pending))


def measure(
    targets: dict[str, str], rounds: int, requests: int, rate: float
) -> dict[str, dict[str, list[float]]]:
    body = request_bytes()
    found: dict[str, dict[str, list[float]]] = {path: {"p50": [], "p99": []} for path in PATHS}
    for number in range(rounds):
        # Another path begins each round.
        for place in range(len(PATHS)):
            path = PATHS[(place + number) % len(PATHS)]
            seconds = asyncio.run(load(targets[path], body, requests, rate, f"{number}"))
            for name, share in (("p50", 50), ("p99", 99)):
                found[path][name].append(1000 * float(np.percentile(seconds, share)))
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=1000, help="calls a path and round")
    parser.add_argument("--rate", type=float, default=150.0, help="calls a second")
    told = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    port: multiprocessing.Queue = context.Queue()
    processes = []

    def start(target, *arguments) -> str:
        process = context.Process(target=target, args=(*arguments, port))
        process.start()
        processes.append(process)
        return f"127.0.0.1:{port.get(timeout=60)}"

    with tempfile.TemporaryDirectory() as spool:
        try:
            replicas = [start(serve_replica, CANDIDATES) for _ in range(3)]
            wrong = start(serve_replica, CANDIDATES - 1)
            faulty = [replicas[0], "127.0.0.1:1", wrong]
            targets = {
                "direct": replicas[0],
                "gateway": start(serve_gateway, replicas, 0.0, f"{spool}/none"),
                "mirroring": start(serve_gateway, replicas, 0.1, f"{spool}/all"),
                PATHS[3]: start(serve_gateway, faulty, 0.1, f"{spool}/faulty"),
            }
            found = measure(targets, told.rounds, told.requests, told.rate)
        finally:
            for process in reversed(processes):
                process.terminate()
                process.join(20)
    write(found, vars(told))


def write(found: dict[str, dict[str, list[float]]], settings: dict) -> None:
    def median_of(path: str, name: str) -> float:
        return round(statistics.median(found[path][name]), 3)

    def against(path: str, other: str, name: str, how) -> float:
        pairs = zip(found[path][name], found[other][name], strict=True)
        return round(statistics.median(how(a, b) for a, b in pairs), 3)

    result = {
        "settings": settings | {"candidates": CANDIDATES, "service_ms": 1000 * SERVICE_SECONDS},
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "grpc": grpc.__version__},
        "milliseconds": {path: {name: median_of(path, name) for name in ("p50", "p99")} for path in PATHS},
        "added_p50_ms": against("gateway", "direct", "p50", lambda a, b: a - b),
        "mirroring_p99_ratio": against("mirroring", "gateway", "p99", lambda a, b: a / b),
        "faulty_p99_ratio": against(PATHS[3], "gateway", "p99", lambda a, b: a / b),
        "bars": BARS,
        "rounds": found,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "gateway.json").write_text(json.dumps(result, indent=1) + "\n")
    text = table(result)
    (RESULTS / "gateway.md").write_text(text)
    print(text)


def table(result: dict) -> str:
    lines = ["| path | p50, ms | p99, ms |", "|---|---|---|"]
    for path, figures in result["milliseconds"].items():
        lines.append(f"| {path} | {figures['p50']:.2f} | {figures['p99']:.2f} |")
    settings, machine = result["settings"], result["machine"]
    return "\n".join(
        [
            *lines,
            "",
            f"The gateway adds {result['added_p50_ms']:.2f} ms at p50 (bar {BARS['added_p50_ms']:g} ms). Mirroring a "
            f"tenth of the requests moves p99 by a factor of {result['mirroring_p99_ratio']:.2f} (bar "
            f"{BARS['mirroring_p99_ratio']:.2f}); with one replica dead and one wrong, "
            f"{result['faulty_p99_ratio']:.2f}.",
            "",
            f"{settings['rounds']} rounds of {settings['requests']} calls a path, {settings['rate']:g} a second; "
            f"{machine['cores']} cores shared with the replicas and the load generator. "
            "Written by `benchmarks/gateway.py`.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
