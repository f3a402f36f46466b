"""A run on Flink whose workers see neither the client's disk nor each other's: an object store is all they share."""

import json
import subprocess
import sys

import pytest

from ranker import layout, storage
from ranker.config import dump
from tests.object_store import BUCKET
from tests.pipelines.prepare.conftest import log, make  # noqa: F401  (fixtures)
from tests.pipelines.prepare.small_log import contents

pytestmark = [pytest.mark.flink, pytest.mark.timeout(1800)]


def ranker(cwd, *arguments):
    command = [sys.executable, "-m", "ranker.cli", "run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def test_workers_that_share_nothing_but_a_store(
    flink_endpoint,
    bucket,  # before the workers, which have its credentials from their environment
    isolated_worker_pool,
    log,  # noqa: F811
    make,  # noqa: F811
    tmp_path,
):
    for path in log.iterdir():
        bucket.upload_file(str(path), BUCKET, f"day/{path.name}")
    experiment = make(
        data_root=f"s3://{BUCKET}/day",
        data_split={"by": "time", "eval": 0.25},
        data_shards=3,
        model={"embedding_dim": 4, "hidden": [8]},
        training={"epochs": "auto", "max_epochs": 2, "batch_size": 32},
        replicas={"count": 2},
        arms={"smelu": {}},
    )
    config = tmp_path / "config.yaml"
    config.write_text(dump(experiment))
    run = f"s3://{BUCKET}/runs/one"
    flags = (
        "--runner=FlinkRunner",
        "--workers=2",
        f"--beam=--job_endpoint={flink_endpoint}",
        "--beam=--environment_type=EXTERNAL",
        f"--beam=--environment_config={isolated_worker_pool}",
    )
    there = ranker(tmp_path, "--config", config, "--run-dir", run, *flags)
    assert there.returncode == 0, there.stderr[-3000:]
    local = tmp_path / "local"
    here = ranker(tmp_path, "--config", config, "--run-dir", local, "--workers", 1)
    assert here.returncode == 0, here.stderr[-3000:]
    remote = storage.location(run)
    expected = contents(local)
    assert {name: (remote / "data" / name).read_bytes() for name in expected} == expected
    reports = [json.loads(layout.report_path(place).read_text(encoding="utf-8")) for place in (remote, local)]
    assert reports[0]["counts"] == reports[1]["counts"]
    assert reports[0]["inputs"] == reports[1]["inputs"]
    assert not storage.objects(remote / ".work")
