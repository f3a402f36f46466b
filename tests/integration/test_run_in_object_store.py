"""A whole run in an object store, by the commands: nothing else is shared, and the results are those of a local run."""

import json
import subprocess
import sys

import pytest
import yaml

from ranker import layout, storage
from ranker.config import dump
from tests.object_store import keys
from tests.pipelines.prepare.conftest import log, make  # noqa: F401  (fixtures)
from tests.pipelines.prepare.small_log import contents

pytestmark = pytest.mark.timeout(900)

RUN = "s3://logs/runs/one"


def ranker(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "ranker.cli", *map(str, arguments)], capture_output=True, text=True, cwd=cwd
    )


@pytest.fixture
def configured(make, tmp_path):  # noqa: F811
    experiment = make(
        model={"embedding_dim": 4, "hidden": [8]},
        training={"epochs": 2, "batch_size": 32},
        replicas={"count": 2},
        arms={"smelu": {}},
    )
    path = tmp_path / "config.yaml"
    path.write_text(dump(experiment))
    return path


def test_a_run_in_a_store_is_a_run_on_a_disk(configured, bucket, tmp_path, object_store):
    local = tmp_path / "local"
    for run in (RUN, local):
        done = ranker("run", "--config", configured, "--run-dir", run, "--workers", 1, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    remote = storage.location(RUN)
    expected = contents(local)
    assert {name: (remote / "data" / name).read_bytes() for name in expected} == expected
    published = set(keys(bucket, "runs/one/"))
    on_disk = {path.relative_to(local).as_posix() for path in local.rglob("*") if path.is_file()}
    unlike = {name for name in published ^ on_disk if "/." not in f"/{name}" and "tensorboard" not in name}
    assert not unlike
    for name in ("0", "1"):
        weights = "variables/variables.data-00000-of-00001"
        assert (layout.version_dir(remote, "smelu", name, 1) / weights).read_bytes() == (
            layout.version_dir(local, "smelu", name, 1) / weights
        ).read_bytes()
    reports = [json.loads(layout.report_path(run).read_text(encoding="utf-8")) for run in (remote, local)]
    assert reports[0]["arms"] == reports[1]["arms"]
    assert reports[0]["inputs"] == reports[1]["inputs"]
    deployment = yaml.safe_load(layout.deployment_path(remote).read_text(encoding="utf-8"))
    assert [replica["path"] for replica in deployment["replicas"]] == ["replicas/smelu/0", "replicas/smelu/1"]
    again = ranker("run", "--config", configured, "--run-dir", RUN, "--workers", 1, "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    messages = " ".join(json.loads(line)["message"] for line in again.stderr.splitlines())
    for words in ("data unchanged", "replica smelu/1: version 1 unchanged", "evaluate: unchanged"):
        assert words in messages
    # Nothing is left on the disk of whoever ran the command.
    assert {path.name for path in tmp_path.iterdir()} == {"log", "config.yaml", "local"}
