"""A Flink mini-cluster behind Beam's job server, for the session."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import free_port, wait_until

POM = Path(__file__).with_name("pom.xml")
# Flink serialises with reflection, which Java 17 allows only where it is told to.
OPENED = (
    "java.lang",
    "java.lang.invoke",
    "java.net",
    "java.nio",
    "java.text",
    "java.time",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "sun.nio.ch",
)
STARTED = 60  # seconds a job server may take


def class_path(pom: Path) -> str:
    """A job server's jars, resolved by Maven once and kept in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "steady-ranker" / pom.parent.name
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / f"class-path-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}.txt"
    if not kept.exists() or not all(Path(jar).exists() for jar in kept.read_text().split(os.pathsep)):
        shutil.copy(pom, cache / "pom.xml")
        command = ["mvn", "-q", "-B", "dependency:build-classpath", f"-Dmdep.outputFile={kept}"]
        resolved = subprocess.run(command, cwd=cache, capture_output=True, text=True)
        if resolved.returncode:
            pytest.skip(f"Maven could not resolve the job server: {resolved.stdout[-300:]}")
    return kept.read_text().strip()


def is_listening(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def pool(python: Path):
    """`localhost:port` of a pool that starts workers as `python`, which is in a directory of its own."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "apache_beam.runners.worker.worker_pool_main",
        f"--service_port={port}",
    ]
    # Beam's pool starts its workers as `python`, whichever comes first.
    path = os.pathsep.join([str(python), os.environ["PATH"]])
    started = subprocess.Popen(command, env={**os.environ, "PATH": path}, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_listening(port) or started.poll() is not None, STARTED)
        assert started.poll() is None, "the worker pool did not start"
        yield f"localhost:{port}"
    finally:
        started.send_signal(signal.SIGINT)
        started.wait(30)


@pytest.fixture
def worker_pool():
    """`localhost:port` of a pool that starts workers where a cluster asks for them, as beside a task manager."""
    with pool(Path(sys.executable).parent) as address:
        yield address


# What a worker's machine has of its own is the installed program. It is bound to where it was, read-only, once the places
# that tests and users write to are hidden.
ISOLATED_PYTHON = r"""#!/bin/sh
exec unshare -rm sh -ec '
mount -t tmpfs tmpfs /mnt
number=0
for directory in {installed}; do
  number=$((number + 1)); mkdir /mnt/$number; mount --bind "$directory" /mnt/$number
done
for directory in {hidden}; do mount -t tmpfs tmpfs "$directory"; done
number=0
for directory in {installed}; do
  number=$((number + 1)); mkdir -p "$directory"
  mount --bind /mnt/$number "$directory"; mount -o remount,bind,ro "$directory"
done
cd /
exec {python} "$@"' python "$@"
"""


@pytest.fixture
def isolated_worker_pool(tmp_path, tmp_path_factory):
    """As `worker_pool`; each worker has a mount namespace of its own, in which /tmp and the home directory are empty."""
    unshare = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if shutil.which("unshare") is None or subprocess.run(unshare, capture_output=True).returncode:
        pytest.skip("this machine lets us mount nothing in a namespace of our own")
    hidden = dict.fromkeys(
        [str(tmp_path_factory.getbasetemp()), tempfile.gettempdir(), "/tmp", str(Path.home())]
    )
    repository = Path(__file__).parents[3]
    installed = dict.fromkeys([sys.base_prefix, sys.prefix, str(repository)])
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(
        ISOLATED_PYTHON.format(python=sys.executable, installed=" ".join(installed), hidden=" ".join(hidden))
    )
    python.chmod(0o755)
    secret = tmp_path / "on-the-client"
    secret.touch()
    check = f"import os, sys; sys.exit(os.path.exists({str(secret)!r}))"
    started = subprocess.run([python, "-c", check], capture_output=True, text=True)
    assert started.returncode == 0, f"an isolated worker must start, and not see {secret}: {started.stderr}"
    with pool(python.parent) as address:
        yield address


@contextmanager
def job_server(pom: Path, driver: str, opened: Sequence[str], directory: Path, *options: str):
    """`localhost:port` of a running job server of Beam."""
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    port = free_port()
    command = [
        "java",
        "-Xmx1g",
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in opened),
        "-cp",
        class_path(pom),
        driver,
        "--job-host=localhost",
        f"--job-port={port}",
        "--artifact-port=0",
        "--expansion-port=0",
        f"--artifacts-dir={directory}/artifacts",
        *options,
    ]
    log = directory / "job-server.log"
    with log.open("wb") as sink:
        server = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
    try:
        wait_until(
            lambda: is_listening(port) or server.poll() is not None, STARTED, lambda: log.read_text()[-1000:]
        )
        assert server.poll() is None, f"the job server did not start: {log.read_text()[-1000:]}"
        yield f"localhost:{port}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="session")
def flink_endpoint(tmp_path_factory):
    """`localhost:port` of a running job server with an embedded Flink cluster."""
    directory = tmp_path_factory.mktemp("flink")
    driver = "org.apache.beam.runners.flink.FlinkJobServerDriver"
    with job_server(POM, driver, OPENED, directory, "--flink-master=[local]") as endpoint:
        yield endpoint
