"""Training where workers share an object store and nothing else."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.train import fan_out, remote
from pipelines.train.launcher import Outcome, is_undecided, launch
from pipelines.train.memory import free_bytes, needed_bytes
from ranker import layout, storage
from ranker.config import build
from ranker.errors import UserError
from ranker.files import local_file
from ranker.training import checkpoint
from ranker.training.specs import (
    content_key,
    decision_path,
    pilot_arm,
    pilot_key,
    read_manifest,
    replica_specs,
)
from ranker.working_copy import data_fingerprint, fetch_version
from tests.object_store import keys
from tests.processes import wait_until
from tests.ranker.conftest import raw_rows, tiny_tree, write_prepared

pytestmark = pytest.mark.timeout(900)

RUN = "s3://logs/runs/one"
BASE = "runs/one/replicas/smelu/0/"
WORKER = """
import sys
from pipelines.train.launcher import launch
from pipelines.train.remote import local_run
from ranker import layout
from ranker.config import load
from ranker.storage import location
from ranker.training.specs import replica_specs
run = location(sys.argv[1])
spec = replica_specs(load(layout.config_path(run)))[0]
with local_run(run, [spec], seconds=0.05) as local:
    outcome = launch(local, spec)
print(outcome.version, outcome.reused, outcome.error)
"""
"""A worker of a cluster: all that it has of the run is its URI."""


def tree(**changes):
    base = tiny_tree()
    base["training"] |= {"epochs": 150, "checkpoint_minutes": 1e-9}
    return base | {"replicas": {"count": 1}, "arms": {"smelu": {}}} | changes


@pytest.fixture(scope="module")
def prepared_run(tmp_path_factory):
    """A prepared run with a manifest as `prepare` writes it."""
    run = write_prepared(tmp_path_factory.mktemp("prepared") / "run")
    data = layout.data_dir(run)
    shards = [
        {"name": path.relative_to(data).as_posix(), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in layout.shard_paths(run, "train")
    ]
    fingerprint = data_fingerprint({shard["name"]: shard["sha256"] for shard in shards}, data)
    layout.manifest_path(run).write_text(
        json.dumps({"fingerprint": fingerprint, "shards": {"train": shards}})
    )
    return run


@pytest.fixture
def run(prepared_run, bucket):
    """The prepared run in the store, with the configuration of one replica."""
    stored = storage.location(RUN)
    storage.put_tree(layout.data_dir(prepared_run), layout.data_dir(stored), "manifest.json")
    fan_out.write_config(build(tree(), "test"), stored)
    return stored


def predictions(directory):
    from ranker.backend import tf

    served = tf.saved_model.load(str(directory))
    rows = {name: tf.constant(values) for name, values in raw_rows(50, seed=3).items()}
    return served.signatures["serving_default"](**rows)["score"].numpy().tobytes()


def worker(tmp_path, name):
    """Starts a worker with a disk of its own; all its processes are one group."""
    disk = tmp_path / name
    disk.mkdir()
    with (disk / "stderr").open("wb") as stderr:
        return disk, subprocess.Popen(
            [sys.executable, "-c", WORKER, RUN],
            env={**os.environ, "TMPDIR": str(disk)},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )


def stored_step(run, key):
    """Steps of the checkpoint in the store; 0 without one."""
    path = layout.replica_dir(run, "smelu", 0) / f".checkpoint-{key}.npz"
    try:
        with local_file(path) as copy:
            saved = checkpoint.restore(copy)
    except FileNotFoundError:
        return 0
    return saved[0] if saved else 0


def test_another_worker_goes_on_where_a_killed_one_stopped(run, prepared_run, bucket, tmp_path):
    experiment = build(tree(), "test")
    (spec,) = replica_specs(experiment)
    key = content_key(experiment, spec, read_manifest(run))
    _, first = worker(tmp_path, "first")
    wait_until(lambda: stored_step(run, key) >= 40 or first.poll() is not None, 300)
    assert first.poll() is None, (tmp_path / "first/stderr").read_text()
    os.killpg(first.pid, signal.SIGKILL)  # the worker and its training
    first.communicate()
    reached = stored_step(run, key)
    assert layout.newest_version(layout.replica_dir(run, "smelu", 0)) == 0
    shutil.rmtree(tmp_path / "first")

    disk, second = worker(tmp_path, "second")
    first_step, deadline = None, time.monotonic() + 300
    while second.poll() is None:
        for path in disk.glob(".tmp-*/replicas/smelu/0/.progress.jsonl"):
            try:
                first_step = first_step or json.loads(path.read_text().splitlines()[-1]).get("step")
            except (OSError, ValueError, IndexError):
                continue
        assert time.monotonic() < deadline
        time.sleep(0.002)
    assert second.communicate()[0].split() == ["2", "False"], (disk / "stderr").read_text()
    assert first_step is None or first_step >= reached  # None: it was over between two looks
    # The number that the killed worker had claimed is never written under.
    assert layout.newest_version(layout.replica_dir(run, "smelu", 0)) == 2
    assert not [name for name in keys(bucket, BASE) if name.startswith(".")]

    local = Path(shutil.copytree(prepared_run, tmp_path / "local"))
    fan_out.write_config(experiment, local)
    assert launch(local, spec).version == 1
    stored = fetch_version(layout.version_dir(run, "smelu", 0, 2))
    assert predictions(stored) == predictions(layout.version_dir(local, "smelu", 0, 1))

    # A worker that comes late finds it finished, and claims nothing.
    _, third = worker(tmp_path, "third")
    assert third.communicate()[0].split() == ["2", "True"]
    assert not [name for name in keys(bucket, BASE) if name.startswith((".", "3"))]


def test_the_number_of_epochs_that_one_worker_chose_holds_for_all(run):
    training = {**tree()["training"], "epochs": "auto", "max_epochs": 3}
    experiment = build(tree(training=training), "test")
    fan_out.write_config(experiment, run)
    assert is_undecided(run)
    with remote.local_run(run, ()) as local:
        manifest = read_manifest(local)
        decision = decision_path(local, pilot_key(experiment, manifest, pilot_arm(experiment, manifest, run)))
        decision.write_text('{"epochs": 3}')
    assert not is_undecided(run)
    with remote.local_run(run, replica_specs(experiment)) as local:
        assert (layout.replicas_dir(local) / decision.name).read_text() == '{"epochs": 3}'


def test_two_workers_never_write_under_one_number(run, bucket):
    experiment = build(tree(), "test")
    (spec,) = replica_specs(experiment)
    with remote.local_run(run, [spec]) as first, remote.local_run(run, [spec]) as second:
        for local in (first, second):
            base = layout.replica_dir(local, "smelu", 0)
            version = base / str(layout.newest_version(base) + 1)
            version.mkdir()
            for name in ("saved_model.pb", "variables"):
                (version / name).write_text(local.name)
    base = layout.replica_dir(run, "smelu", 0)
    texts = {
        version: {(directory / name).read_text() for name in ("saved_model.pb", "variables")}
        for version, directory in layout.model_versions(base).items()
    }
    assert texts == {1: {first.name}, 2: {second.name}}
    assert keys(bucket, BASE) == ["1/saved_model.pb", "1/variables", "2/saved_model.pb", "2/variables"]


def test_a_worker_without_enough_memory_says_so_before_it_starts(prepared_run, tmp_path):
    local = Path(shutil.copytree(prepared_run, tmp_path / "local"))
    config = tree()
    config["features"]["user"] |= {"oov_buckets": 4_000_000_000, "embedding_dim": 64}
    experiment = build(config, "test")
    fan_out.write_config(experiment, local)
    (spec,) = replica_specs(experiment)
    outcome = launch(local, spec)
    assert isinstance(outcome, Outcome)
    assert outcome.attempts == 0
    assert outcome.version is None
    assert outcome.error.startswith("needs about 9216")
    assert "this worker has" in outcome.error
    assert needed_bytes(build(tree(), "test"), local, "smelu") < 1 << 30


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/meminfo": "MemTotal: 99 kB\nMemAvailable: 50 kB\n"}, 50 * 1024),
        ({"proc/meminfo": "MemAvailable: 50 kB\n", "sys/fs/cgroup/memory.max": "max\n"}, 50 * 1024),
        (
            {
                "proc/meminfo": "MemAvailable: 50 kB\n",
                "sys/fs/cgroup/memory.max": "9000\n",
                "sys/fs/cgroup/memory.current": "4000\n",
            },
            5000,
        ),
        (
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "700\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "900\n",
            },
            0,
        ),
        ({}, None),
    ],
)
def test_the_memory_of_a_container_counts(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert free_bytes(tmp_path) == expected


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"distribution": "multi_worker"}, "multi_worker needs a run directory"),
        ({"warm_start": "../last/replicas/smelu/0"}, "training.warm_start: needs a run directory on a file"),
    ],
)
def test_what_needs_a_mounted_directory_is_refused(run, setting, message):
    experiment = build(tree(training={**tree()["training"], **setting}), "test")
    fan_out.write_config(experiment, run)
    (spec,) = replica_specs(experiment)
    with pytest.raises(UserError, match=message), remote.local_run(run, [spec]):
        pass
