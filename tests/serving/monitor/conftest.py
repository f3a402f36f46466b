"""Simulated rounds with known truth, stores on both databases, probes, and fake replicas that disagree."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving import wire
from serving.monitor.collection.answers import Answers, Collected
from serving.monitor.requests.probe import ProbeSet, probe_set
from serving.monitor.store import Store, open_store

START = 1_700_000_000 - 1_700_000_000 % 86_400
"""A midnight (UTC), seconds since 1970."""


def small_probe(requests: int = 40, candidates: int = 8) -> ProbeSet:
    """A probe that the fake replicas understand; `age` slices it by request."""
    rows = requests * candidates
    return probe_set(
        np.repeat([f"r{n}" for n in range(requests)], candidates),
        {
            "user_id": np.repeat([f"u{n}" for n in range(requests)], candidates).astype(object),
            "age": np.repeat(np.arange(requests) % 2 * 10 + 20, candidates).astype(np.float32),
            "item_id": np.array([f"i{(n * 7) % 97}" for n in range(rows)], dtype=object),
        },
        "item_id",
    )


class Simulation:
    """Replicas whose log-odds are a common truth plus normal noise of their own.

    Args:
        noise: standard deviation of each replica's noise.
        seed: of truth and noise.
    """

    def __init__(
        self, noise: Sequence[float], *, requests: int = 60, candidates: int = 8, seed: int = 0
    ) -> None:
        self.noise = list(noise)
        self.probe = small_probe(requests, candidates)
        self.random = np.random.default_rng(seed)
        self.truth = self.random.normal(-1.0, 1.0, int(self.probe.offsets[-1]))
        self.versions = [1] * len(self.noise)

    def scores(self, replica: int) -> np.ndarray:
        logit = self.truth + self.random.normal(0, self.noise[replica], len(self.truth))
        return 1 / (1 + np.exp(-logit))

    def answers(self, replica: int, **changes: Any) -> Answers:
        scores, all_of_them = self.scores(replica), np.ones(len(self.probe), dtype=bool)
        labels = {"arm": "smelu", "replica": str(replica), "init_seed": "1", "shuffle_seed": str(replica)}
        values: dict[str, Any] = {
            "replica": f"m{replica}",
            "labels": labels,
            "version": self.versions[replica],
            "description": {"version": self.versions[replica]},
            "scores": scores,
            "answered": all_of_them,
            "again": scores,
            "again_answered": all_of_them,
            "batched": scores,
            "batched_answered": all_of_them,
            "errors": Counter(),
        }
        return Answers(**(values | changes))

    def round(self, time: float, **changes: Any) -> Collected:
        """One round; `changes` by replica: m1={"errors": ...}."""
        answers = [self.answers(m, **changes.get(f"m{m}", {})) for m in range(len(self.noise))]
        return Collected(self.probe, float(time), 1.0, tuple(answers))


@pytest.fixture
def simulate() -> type[Simulation]:
    return Simulation


@pytest.fixture
def start() -> int:
    return START


@pytest.fixture
def probe() -> ProbeSet:
    return small_probe()


def disagree(seed: int, noise: float) -> Callable[[Any], Any]:
    """Makes a fake replica's scores differ by its own noise: the same for the same place, whatever the batch."""

    def mangle(response: Any) -> Any:
        if not isinstance(response, wire.PredictResponse) or "score" not in response.outputs:
            return response
        scores = wire.to_array(response.outputs["score"]).astype(np.float64).ravel()
        moved = scores + np.random.default_rng(seed).normal(0, noise, 4096)[: len(scores)]
        response.outputs["score"].CopyFrom(
            wire.to_tensor(np.clip(moved, 0.001, 0.999).astype(np.float32)[:, None])
        )
        return response

    return mangle


@pytest.fixture
def noisy() -> Callable[[int, float], Callable[[Any], Any]]:
    return disagree


BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


class PostgresServer:
    """A PostgreSQL server of our own on a socket in a temporary directory.

    Attributes:
        url: with a place for the database's name.
    """

    def __init__(self) -> None:
        if BINARIES is None or not (BINARIES / "initdb").exists():
            pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
        self._as_user: list[str] = []
        self._frozen: list[int] = []
        self._directory = Path(tempfile.mkdtemp(prefix="ranker-postgres-"))
        if os.geteuid() == 0:  # the server refuses root; Debian's package made a user for it
            if shutil.which("runuser") is None:
                pytest.skip("PostgreSQL does not run as root, and there is no runuser")
            self._as_user = ["runuser", "-u", "postgres", "--"]
            shutil.chown(self._directory, "postgres")
        self.url = f"postgresql://ranker@/%s?host={self._directory}"
        options = "-A trust -U ranker -E UTF8 --no-sync --locale=C"
        self._call("initdb", "-D", str(self._directory / "data"), *options.split())

    def start(self) -> None:
        """Starts it and waits until it answers."""
        options = (
            f"-c listen_addresses='' -c unix_socket_directories='{self._directory}'"
            " -c fsync=off -c shared_buffers=16MB"
        )
        self._control("-l", str(self._directory / "log"), "-o", options, "-w", "start")

    def stop(self) -> None:
        """Ends it at once, with all connections."""
        self._control("-m", "immediate", "-w", "stop")

    def freeze(self) -> None:
        """Stops all its processes with SIGSTOP: connections stay, and nothing answers."""
        main = int((self._directory / "data" / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        # the first process first, so that it starts no other
        self._frozen = [main, *map(int, children)]
        for process in self._frozen:
            os.kill(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets its processes go on."""
        for process in self._frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
        self._frozen = []

    def remove(self) -> None:
        """Removes its files."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _control(self, *arguments: str) -> None:
        self._call("pg_ctl", "-D", str(self._directory / "data"), *arguments)

    def _call(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, f"{BINARIES}/{program}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self._directory)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL, without a database, of a server that all tests share."""
    server = PostgresServer()
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
        server.remove()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that a test may stop and start; it runs."""
    server = PostgresServer()
    server.start()
    try:
        yield server
    finally:
        server.thaw()
        with contextlib.suppress(RuntimeError):
            server.stop()
        server.remove()


@pytest.fixture
def postgres_url(postgres_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database."""
    from sqlalchemy import create_engine, text

    name = f"t{os.getpid()}_{abs(hash(request.node.nodeid)):x}"
    admin = create_engine(
        (postgres_server % "postgres").replace("postgresql:", "postgresql+psycopg:"),
        isolation_level="AUTOCOMMIT",
    )
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield postgres_server % name
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store, on each database."""
    url = (
        request.getfixturevalue("postgres_url") if request.param == "postgresql" else tmp_path / "monitor.db"
    )
    opened = open_store(url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "monitor.db")
    yield opened
    opened.close()
