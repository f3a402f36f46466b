"""Replica training under faults: every process is a real one, every kill a SIGKILL."""

import math
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from pipelines.runner import RunnerOptions
from pipelines.train import fan_out
from pipelines.train.launcher import launch
from ranker import layout
from ranker.config import build
from ranker.errors import UserError
from ranker.training import checkpoint
from ranker.training.specs import replica_specs
from tests.ranker.conftest import ROWS, raw_rows, tiny_tree, write_prepared

pytestmark = pytest.mark.timeout(900)  # Each training is a process of its own, and loads TensorFlow.

EPOCHS = 150
"""Enough for a kill to find a training in its middle; a checkpoint follows every epoch."""
STEPS = EPOCHS * math.ceil(ROWS / 32)


ONE = {"count": 1}
BAD = {"model.interaction": "dot", "features.user.embedding_dim": 8}
"""An arm that cannot be trained: products of embeddings of different lengths."""


def tree(**changes):
    base = tiny_tree()
    base["training"] |= {"epochs": EPOCHS, "checkpoint_minutes": 1e-9}
    return base | changes


@pytest.fixture(scope="module")
def prepared_run(tmp_path_factory):
    return write_prepared(tmp_path_factory.mktemp("train") / "run")


@pytest.fixture
def fresh(prepared_run, tmp_path):
    """A prepared run of one's own with its configuration, and its one replica."""
    run = Path(shutil.copytree(prepared_run, tmp_path / "run"))
    experiment = build(tree(replicas=ONE, arms={"smelu": {}}), "test")
    fan_out.write_config(experiment, run)
    return run, replica_specs(experiment)[0]


@pytest.fixture(scope="module")
def trained(prepared_run, tmp_path_factory):
    """A run after `train`, with an arm that cannot be trained; its good replica; what was raised."""
    run = Path(shutil.copytree(prepared_run, tmp_path_factory.mktemp("trained") / "run"))
    experiment = build(tree(replicas=ONE, arms={"smelu": {}, "bad": BAD}), "test")
    with pytest.raises(UserError) as raised:
        fan_out.train(experiment, run, RunnerOptions())
    return run, replica_specs(experiment)[0], str(raised.value)


def predictions(run, spec):
    """The bytes of a replica's scores of some rows, from its SavedModel."""
    from ranker.backend import tf

    (version,) = versions(run, spec)
    served = tf.saved_model.load(str(layout.version_dir(run, spec.arm, spec.replica, version)))
    rows = {name: tf.constant(values) for name, values in raw_rows(50, seed=3).items()}
    return served.signatures["serving_default"](**rows)["score"].numpy().tobytes()


def versions(run, spec):
    base = layout.replica_dir(run, spec.arm, spec.replica)
    return sorted(int(child.name) for child in base.iterdir() if child.name.isdigit())


def hidden(run, spec):
    """What no training may leave behind beside a replica."""
    base = layout.replica_dir(run, spec.arm, spec.replica)
    return [child.name for child in base.glob(".*") if child.name != ".outcome.json"]


@pytest.fixture(scope="module")
def reference(trained):
    run, spec, _ = trained
    return predictions(run, spec)


def test_one_bad_recipe_is_one_line_and_the_others_stand(trained):
    run, spec, message = trained
    assert message.startswith("replica bad/0 could not be trained in 1 attempt(s): model.interaction 'dot'")
    assert "\n" not in message
    assert "while running" not in message
    assert versions(run, spec) == [1]
    assert hidden(run, spec) == []


def test_a_second_run_trains_nothing(trained, monkeypatch):
    run, spec, _ = trained
    files = sorted(layout.replica_dir(run, spec.arm, spec.replica).rglob("*"))
    before = {path: path.stat().st_mtime_ns for path in files if path.name != ".outcome.json"}
    monkeypatch.setattr("pipelines.train.launcher.subprocess.Popen", None)  # no process can start
    lines = []
    experiment = build(tree(replicas=ONE, arms={"smelu": {}}), "test")
    outcomes = fan_out.train(experiment, run, RunnerOptions(), lambda line, *_, **__: lines.append(line))
    assert [(o.version, o.reused, o.attempts) for o in outcomes] == [(1, True, 0)]
    assert lines == ["replica smelu/0: version 1 unchanged, kept"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


class Killer(threading.Thread):
    """Kills this process's trainings, one a trigger, as soon as it holds."""

    def __init__(self, base, triggers):
        super().__init__(daemon=True)
        self._base, self._triggers = base, list(triggers)
        self.killed, self._stop_asked = [], False

    def run(self):
        while self._triggers and not self._stop_asked:
            for child in psutil.Process().children():
                if self._is_training(child) and self._triggers[0](self._base):
                    child.kill()
                    # Seen to be dead, never waited for: whoever reaps it first has its exit code.
                    while self._is_training(child):
                        time.sleep(0.001)
                    self.killed.append(self._triggers.pop(0))
                    break
            time.sleep(0.001)

    def stop(self):
        self._stop_asked = True
        self.join()

    @staticmethod
    def _is_training(child):
        try:
            return "ranker.training" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def after_step(step):
    def reached(base):
        for path in base.glob(".checkpoint-*.npz"):
            saved = checkpoint.restore(path)
            if saved is not None and saved[0] >= step:
                return True
        return False

    return reached


def while_exporting(base):
    return any(path.is_dir() for path in base.glob(".tmp-*"))


def launch_and_kill(run, spec, triggers, workers=1):
    """Launches one replica on several workers at once, and kills a training at each trigger."""
    killer = Killer(layout.replica_dir(run, spec.arm, spec.replica), triggers)
    killer.start()
    try:
        with ThreadPoolExecutor(workers) as pool:
            launches = [pool.submit(launch, run, spec, len(triggers) + 1) for _ in range(workers)]
            outcomes = [launched.result() for launched in launches]
    finally:
        killer.stop()
    assert len(killer.killed) == len(triggers)
    assert sum(outcome.attempts for outcome in outcomes) == len(triggers) + workers
    return outcomes


def test_two_workers_on_one_replica_and_a_kill_at_a_random_step(fresh, reference):
    run, spec = fresh
    step = random.Random(4).randrange(1, STEPS // 2)
    outcomes = launch_and_kill(run, spec, [after_step(step)], workers=2)
    assert [outcome.version for outcome in outcomes] == [1, 1]
    assert predictions(run, spec) == reference
    assert hidden(run, spec) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills(fresh, reference):
    run, spec = fresh
    steps = [random.Random(seed).randrange(STEPS) for seed in range(19)]
    launch_and_kill(run, spec, [*(after_step(step) for step in sorted(steps)), while_exporting])
    assert predictions(run, spec) == reference
    assert hidden(run, spec) == []


def can_mount():
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(mount, capture_output=True).returncode == 0


FAULTS = {
    # A real file system where this machine lets us mount one, else limits that any user may set.
    ("full", True): (
        "mount -t tmpfs -o size=400k tmpfs $DISK && cp -r $RUN $DISK/run"
        " && head -c $(($(df --output=avail -k $DISK | tail -n 1) - 64))k /dev/zero > $DISK/filling"
    ),
    ("full", False): "cp -r $RUN $DISK/run && ulimit -f 64",
    ("read-only", True): "mount -t tmpfs tmpfs $DISK && cp -r $RUN $DISK/run && mount -o remount,ro $DISK",
    ("read-only", False): "cp -r $RUN $DISK/run && chmod -R a-w $DISK/run",
}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("full", "cannot be (written|used): .*(No space left|File too large)"),
        ("read-only", "cannot be (written|used): (Read-only file system|Permission denied)"),
    ],
)
def test_a_disk_that_takes_no_more_is_one_line_and_nothing_half_visible(fresh, tmp_path, fault, message):
    run, spec = fresh
    mounts = can_mount()
    script = (
        f"{FAULTS[fault, mounts]}; $TRAIN; echo exit $?; ls -A $DISK/run/replicas/*/* | grep -v checkpoint"
    )
    disk = tmp_path / "disk"
    disk.mkdir()
    python = f"{sys.executable} -m ranker.training {disk}/run {spec.arm} {spec.replica}"
    done = subprocess.run(
        [*(["unshare", "-rm"] if mounts else []), "sh", "-c", script],
        env={**os.environ, "DISK": str(disk), "RUN": str(run), "TRAIN": python},
        capture_output=True,
        encoding="utf-8",
    )
    ended = done.stdout.splitlines()
    assert ended[[line.startswith("exit") for line in ended].index(True) :] == ["exit 1"]
    noise = ("WARNING:", "I0000", "E0000", "ls:")  # of TensorFlow's start, on machines with and without a GPU
    said = [line for line in done.stderr.splitlines() if not line.startswith(noise)]
    assert len(said) == 1
    assert re.search(message, said[0])
