"""`ranker run` killed between its stages, then the same command: the same artefacts, and the counts add up."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ranker import layout
from ranker.config import dump
from tests.pipelines.prepare.conftest import log, make  # noqa: F401  (fixtures)
from tests.pipelines.prepare.small_log import contents

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
# Runs the command line and kills its own process when a function is called: before or after it has worked.
PROGRAM = """
import importlib, os, signal, sys
from ranker.cli import main

module, name, moment, *sys.argv[1:] = sys.argv[1:]
owner = importlib.import_module(module)
worked = getattr(owner, name)

def killing(*arguments, **keywords):
    if moment == "after":
        worked(*arguments, **keywords)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, killing)
main()
"""
BOUNDARIES = [
    ("pipelines.run", "write_config", "before"),  # prepared, nothing says for what
    ("pipelines.run", "train", "before"),
    ("pipelines.train.together", "show", "before"),  # in training
    ("pipelines.run", "train", "after"),
    ("pipelines.train.together", "forward", "before"),  # in the evaluation
    ("serving.run_directory", "deploy", "before"),
]


def ranker(config, run, *program):
    arguments = ["run", "--config", str(config), "--run-dir", str(run), "--workers=1", "--json"]
    command = [sys.executable, "-c", PROGRAM, *program] if program else [sys.executable, "-m", "ranker.cli"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run([*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


def artefacts(run):
    """What a run has made, without what differs from one training to the next: times, and bytes of a SavedModel's graph."""
    report = json.loads(layout.report_path(run).read_text())
    assert list(report.pop("stages")) == ["prepare", "train", "evaluate"]
    del report["counters"]  # of the process that did the work
    scores = {p.name: p.read_bytes() for p in sorted(layout.predictions_dir(run).iterdir())}
    return {
        "data": contents(run),
        "report": report,
        "scores": scores,
        "config": layout.config_path(run).read_text(),
        "deployment": layout.deployment_path(run).read_text(),
        "files": sorted(str(p.relative_to(run)) for p in run.rglob("*") if "logs" not in p.parts),
    }


def test_a_run_killed_at_every_boundary_is_finished_by_the_same_command(make, tmp_path):  # noqa: F811
    config = tmp_path / "config.yaml"
    config.write_text(dump(make(replicas={"count": 2}, training={"epochs": 2, "batch_size": 32})))
    whole = tmp_path / "whole"
    done = ranker(config, whole)
    assert done.returncode == 0, done.stderr
    expected = artefacts(whole)
    counts = json.loads(layout.manifest_path(whole).read_text())["counts"]
    assert counts["read"] == counts["train"] + counts["eval"] + counts["rejected"] == 240
    run = tmp_path / "run"
    for boundary in BOUNDARIES:  # each command goes on from what the one before has left
        killed = ranker(config, run, *boundary)
        assert killed.returncode == -signal.SIGKILL, (boundary, killed.stderr)
        assert not layout.deployment_path(run).exists()
    finished = ranker(config, run)
    assert finished.returncode == 0, finished.stderr
    assert artefacts(run) == expected
