"""A run is told to stop while it trains: it stops, with all its processes, and the exit code says by which signal."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ranker.synthetic import generate, write
from tests.processes import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
WITHOUT_END = 1_000_000
"""Epochs: a training that ends in the test's time was stopped."""


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    directory = tmp_path_factory.mktemp("log")
    write(generate(200, users=60, items=50), directory)
    return directory


@pytest.mark.parametrize(
    ("number", "settings"),
    [
        (signal.SIGTERM, ()),
        (signal.SIGINT, ()),
        # More rows than a segment holds: each replica has a process of its own, started by Beam.
        (signal.SIGTERM, ("--set", "training.segment_rows=2000", "--set", "training.shuffle_window=1000")),
    ],
    ids=["SIGTERM", "SIGINT", "SIGTERM-process-a-replica"],
)
def test_a_run_that_trains_stops_at_a_signal(number, settings, log, tmp_path):
    overrides = ["--set", f"data.root={log}", "--set", f"training.epochs={WITHOUT_END}", *settings]
    overrides += ["--set", "arms={smelu: {}}", "--set", "replicas.count=2", "--set", "model.hidden=[4]"]
    command = [sys.executable, "-m", "ranker.cli", "run", "--config", "configs/quickstart.yaml", *overrides]
    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen([*command, "--run-dir", str(tmp_path / "run")], cwd=ROOT, stderr=output)
    try:
        wait_until(
            lambda: "examples/s" in (tmp_path / "log").read_text() or process.poll() is not None,
            reason=(tmp_path / "log").read_text,
        )
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        code = process.wait(PATIENCE)
    finally:
        process.kill()
    text = (tmp_path / "log").read_text()
    assert (code, text.splitlines()[-1]) == (128 + number, "ranker: stopped"), text
    wait_until(lambda: not any(child.is_running() for child in children))
