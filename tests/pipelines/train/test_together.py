"""The stages of a small run in one process: what it makes, what a kill costs, and what is said of a mistake."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from pipelines.evaluate import evaluate
from pipelines.run import run_stages
from pipelines.runner import RunnerOptions
from pipelines.train import together
from pipelines.train.fan_out import train, write_config
from ranker import layout
from ranker.config import build
from ranker.errors import UserError
from ranker.files import write_whole
from ranker.training.specs import content_key, read_manifest, replica_specs
from tests.pipelines.evaluate.conftest import tree, write_prepared

pytestmark = pytest.mark.timeout(900)  # Each training is a process of its own, and loads TensorFlow.

TRAINING = {"epochs": "auto", "batch_size": 32, "max_epochs": 2, "checkpoint_minutes": 1e-9}


class Lines:
    """Receives the progress of a run."""

    def __init__(self):
        self.texts = []

    def line(self, text):
        self.texts.append(text)

    def update(self, text, share=None, **figures):
        self.texts.append(text)


def experiment(**changes):
    return build(tree(**{"training": TRAINING, **changes}), "small")


@pytest.fixture(scope="module")
def prepared_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("together") / "run"
    write_prepared(run)
    return run


@pytest.fixture(scope="module")
def ran(prepared_run, tmp_path_factory):
    """A run after its stages; what they returned; what was said; the processes that they started.

    Beside the run, `temporary` is where all of them had their temporary files.
    """
    run = shutil.copytree(prepared_run, tmp_path_factory.mktemp("ran") / "run")
    (run.parent / "temporary").mkdir()
    lines, started = Lines(), []
    popen = subprocess.Popen

    def counted(command, **options):
        started.append(popen(command, **options))
        return started[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(together.subprocess, "Popen", counted)
        patch.setenv("TMPDIR", str(run.parent / "temporary"))
        patch.setattr(tempfile, "tempdir", None)  # it reads the variable again
        result = run_stages(["train", "evaluate"], experiment(), run, RunnerOptions(workers=2), lines)
    return run, result, lines.texts, started


def test_one_process_trains_and_evaluates_all_replicas(ran):
    run, result, texts, started = ran
    assert set(result["train"].values()) == {1}
    assert len(result["train"]) == 4
    assert len(started) == 1
    assert started[0].poll() is not None
    assert "evaluate: fitting a logistic regression for comparison" in texts
    assert result["evaluate"] == json.loads(layout.report_path(run).read_text(encoding="utf-8"))
    assert sorted(result["evaluate"]["stages"]) == ["evaluate", "train"]
    assert not list(layout.replicas_dir(run).rglob(".checkpoint*"))
    assert not list(layout.replicas_dir(run).rglob(".progress*"))
    assert not list((run.parent / "temporary").iterdir())


def test_predictions_are_those_of_the_saved_models(ran, tmp_path):
    """This process has trained nothing: it loads what was exported."""
    run, result, *_ = ran
    again = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))
    report = evaluate(experiment(), again)
    assert report["counts"] == result["evaluate"]["counts"]
    tables = zip(*(sorted(layout.predictions_dir(r).glob("*.parquet")) for r in (run, again)), strict=True)
    for before, after in (map(pq.read_table, pair) for pair in tables):
        assert before.schema == after.schema
        for name in before.column_names:
            if before[name].type == "float":
                # One graph, compiled twice: see docs/architecture.md.
                np.testing.assert_allclose(before[name].to_numpy(), after[name].to_numpy(), rtol=0, atol=1e-6)
            else:
                assert before[name].equals(after[name])


def test_a_second_run_starts_no_process(ran, monkeypatch):
    run, result, *_ = ran
    monkeypatch.setattr(together, "_Process", None)
    lines = Lines()
    again = run_stages(["train", "evaluate"], experiment(), run, RunnerOptions(workers=2), lines)
    assert again["evaluate"] == result["evaluate"]
    assert "replica relu/1: version 1 unchanged, kept" in lines.texts
    assert "evaluate: unchanged, kept" in lines.texts


def test_a_mistake_in_one_arm_is_one_line_and_the_others_stand(ran, tmp_path):
    """The kept replicas, and an arm of the same features that cannot be trained beside one that can."""
    run = shutil.copytree(ran[0], tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))
    arms = {"smelu": {}, "relu": {"model.activation": {"name": "relu"}}}
    arms |= {
        "bad": {"mitigation": {"name": "anchor", "replica": "replicas/nobody"}},
        "wide": {"model.hidden": [12]},
    }
    now = experiment(arms=arms)
    with pytest.raises(UserError) as raised, together.StageProcesses(run) as processes:
        train(now, run, RunnerOptions(workers=2), processes=processes)
    message = str(raised.value)
    assert message.startswith(
        "replica bad/0 could not be trained in 1 attempt(s): mitigation.replica: must be"
    )
    assert message.endswith("(and 1 more)")
    assert [layout.newest_version(layout.replica_dir(run, arm, 1)) for arm in arms] == [1, 1, 0, 1]


def test_a_killed_process_is_tried_again(prepared_run, tmp_path, monkeypatch):
    run = shutil.copytree(prepared_run, tmp_path / "run")
    now = experiment(arms={"smelu": {}}, training=TRAINING | {"epochs": 3})
    write_config(now, run)
    killed = []

    def show_and_kill(path, line):
        write_whole(path, line)
        if not killed:
            killed.extend(
                child
                for child in psutil.Process().children()
                if "pipelines.train.together" in child.cmdline()
            )
            killed[0].send_signal(signal.SIGKILL)

    monkeypatch.setattr(together, "show", show_and_kill)
    manifest = read_manifest(run)
    keys = {spec: content_key(now, spec, manifest) for spec in replica_specs(now)}
    with together.StageProcesses(run) as processes:
        outcomes = processes.train(keys, 600, 1)
    assert len(killed) == 1
    assert [(outcome.version, outcome.attempts, outcome.error) for outcome in outcomes] == [(1, 2, "")] * 2
    assert not list(layout.replicas_dir(run).rglob(".checkpoint*"))


def test_a_process_ends_with_its_stdin(prepared_run):
    command = [sys.executable, "-m", "pipelines.train.together", str(prepared_run)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("rows", "training", "small"),
    [
        (10_000, {}, True),
        (1_000_001, {}, False),
        (10_000, {"segment_rows": 9_999}, False),
        # In one process every replica has one thread, and then other bytes than with several.
        (10_000, {"threads": 2}, False),
        (10_000, {"distribution": "multi_worker", "epochs": 1}, False),
    ],
)
def test_what_is_a_small_run(rows, training, small):
    now = build(tree(training={"epochs": 1, **training}), "small")
    assert together.is_small(now, {"counts": {"train": rows}}) == small


def test_a_process_starts_ahead_only_where_replicas_are_missing(prepared_run, tmp_path):
    def children():
        return [c for c in psutil.Process().children() if "pipelines.train.together" in c.cmdline()]

    run = shutil.copytree(prepared_run, tmp_path / "run")
    with together.StageProcesses(run) as processes:
        processes.start()
        (child,) = children()
        assert not processes.hold_models
    assert not child.is_running()
    layout.replicas_dir(run).mkdir()
    with together.StageProcesses(run) as processes:
        processes.start()
        assert not children()
