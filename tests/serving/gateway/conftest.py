"""The real Envoy in front of stand-ins for TF Serving, and callers that never stop."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import typer

from ranker.cli import app
from ranker.errors import UserError
from serving import wire
from serving.gateway.admin import Admin
from tests.processes import wait_until

ROOT = Path(__file__).parents[3]
ITEMS = [str(item) for item in range(20)]
REPLICA = """
import sys
from tests.serving.conftest import FakeReplica
replica = FakeReplica(name=sys.argv[1], port=int(sys.argv[2])).start()
print(replica.port, flush=True)
sys.stdin.read()
"""


def request_bytes(items=ITEMS) -> bytes:
    request = wire.PredictRequest()
    request.model_spec.name = "ranker"
    request.inputs["item_id"].CopyFrom(wire.to_tensor(items))
    # A field of a newer TF Serving, which this project does not know.
    return request.SerializeToString() + b"\x32\x03new"


def call(target: str, path: str = wire.PREDICT.path, body: bytes | None = None, metadata=(), timeout=20.0):
    """Calls with bytes and returns (bytes, the replica that answered)."""
    with grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        answer, sent = channel.unary_unary(path).with_call(
            request_bytes() if body is None else body, metadata=metadata, timeout=timeout
        )
        return answer, dict(sent.initial_metadata()).get("x-ranker-replica")


class ReplicaProcess:
    """A stand-in replica that can be killed and stopped."""

    def __init__(self, name: str, port: int = 0) -> None:
        self.name, self.port = name, port
        self.start()

    def start(self) -> None:
        """Starts it, on the port it had."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", REPLICA, self.name, str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.port = int(self.process.stdout.readline())

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def send(self, number: int) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Ends it, with kill -9 or another signal."""
        self.process.send_signal(number)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class GatewayProcess:
    """`ranker gateway` as a child process."""

    def __init__(self, arguments: list[str], replicas_file: Path | None, log: Path) -> None:
        self.replicas_file, self._log = replicas_file, log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ranker.cli", "gateway", *arguments],
                stdout=errors,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        wait_until(lambda: "listening on" in self.log or self.process.poll() is not None)
        match = re.search(r"listening on \S+:(\d+), .*metrics on \S+:(\d+)", self.log)
        assert match, self.log
        self.target, self.metrics = (f"127.0.0.1:{port}" for port in match.groups())

    @property
    def log(self) -> str:
        return self._log.read_text()

    def scrape(self, path: str = "/metrics") -> str:
        """A page of the metrics port."""
        with urllib.request.urlopen(f"http://{self.metrics}{path}", timeout=20) as page:
            return page.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        total = 0.0
        for line in self.scrape().splitlines():
            if line.startswith((name + "{", name + " ")) and all(
                f'{key}="{value}"' in line for key, value in labels.items()
            ):
                total += float(line.rpartition(" ")[2])
        return total

    def healthy(self) -> int:
        """How many replicas get calls."""
        return int(self.metric("envoy_cluster_membership_healthy", envoy_cluster_name="replicas"))

    def admin(self) -> Admin:
        """Envoy's administration."""
        state = json.loads(self.replicas_file.with_suffix(".running").read_text())
        return Admin(state["admin"])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stops it; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)

    def end(self) -> None:
        """Stops it in whatever state; a second signal ends the wait for calls under way, the third one all."""
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(5)
        self.process.wait()


class Callers:
    """Threads that call without a pause until the block ends.

    Attributes:
      replicas: who answered, by name.
      errors: what failed, by code and text.
    """

    def __init__(self, target: str, threads: int = 8, timeout: float = 20.0, options=()) -> None:
        self.replicas: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._target, self._timeout, self._options = target, timeout, list(options)
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Callers:
        self._channel = grpc.insecure_channel(self._target, options=self._options)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._channel.close()

    def _run(self) -> None:
        method, body = self._channel.unary_unary(wire.PREDICT.path), request_bytes()
        while not self._stop.is_set():
            try:
                _, sent = method.with_call(body, timeout=self._timeout)
                name = dict(sent.initial_metadata()).get("x-ranker-replica", "nobody")
                with self._lock:
                    self.replicas[name] += 1
            except grpc.RpcError as error:
                with self._lock:
                    self.errors[f"{error.code().name}: {error.details()}"] += 1

    def answered(self, count: int, by: str | None = None) -> None:
        """Waits for so many more answers."""
        start = self._count(by)
        wait_until(lambda: self._count(by) >= start + count)

    def _count(self, by: str | None) -> int:
        with self._lock:
            return self.replicas[by] if by else sum(self.replicas.values())

    def forget(self) -> None:
        """Counts from now on."""
        with self._lock:
            self.replicas.clear()
            self.errors.clear()


@pytest.fixture
def gateway(tmp_path) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts gateways in front of replicas; waits until those that can be reached are healthy."""
    started: list[GatewayProcess] = []

    def start(replicas, *arguments: str, reachable: int | None = None) -> GatewayProcess:
        file = tmp_path / f"gateway-{len(started)}" / "replicas.json"
        defaults = ["--listen=127.0.0.1:0", "--metrics=127.0.0.1:0", f"--replicas-file={file}"]
        named = [f"--replica={replica.name}={replica.target}" for replica in replicas]
        running = GatewayProcess(
            [*defaults, *named, *arguments], file, tmp_path / f"gateway-{len(started)}.log"
        )
        started.append(running)
        expected = len(replicas) if reachable is None else reachable
        wait_until(lambda: running.healthy() == expected)
        return running

    yield start
    for running in started:
        running.end()


@pytest.fixture
def replica_process() -> Iterator[Callable[..., ReplicaProcess]]:
    """Starts replicas as processes; kills them at the end."""
    started: list[ReplicaProcess] = []

    def start(name: str) -> ReplicaProcess:
        started.append(ReplicaProcess(name))
        return started[-1]

    yield start
    for replica in started:
        if replica.process.poll() is None:
            replica.kill()


def ranker(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line."""
    return subprocess.run(
        [sys.executable, "-m", "ranker.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def mistake(*arguments: str) -> str:
    """Runs the command line in this process; returns the one line that it ends with."""
    with pytest.raises(UserError) as caught:
        typer.main.get_command(app).main(list(arguments), standalone_mode=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)
