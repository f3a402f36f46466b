"""`ranker run` on real Spark in local mode: the same examples, replicas and counts as on this machine."""

import json
import subprocess
import sys

import pytest

from ranker import layout
from ranker.config import dump
from tests.pipelines.prepare.conftest import log, make  # noqa: F401  (fixtures)
from tests.pipelines.prepare.small_log import contents

pytestmark = [pytest.mark.spark, pytest.mark.timeout(1800)]


def run(config, run_dir, *options):
    command = [sys.executable, "-m", "ranker.cli", "run", "--config", config, "--run-dir", run_dir, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_run_on_spark_is_a_run_on_this_machine(spark_endpoint, make, tmp_path):  # noqa: F811
    experiment = make(
        model={"embedding_dim": 4, "hidden": [8]},
        training={"epochs": 1, "batch_size": 32},
        replicas={"count": 2},
        arms={"smelu": {}},
    )
    config = tmp_path / "config.yaml"
    config.write_text(dump(experiment))
    local, on_spark = tmp_path / "local", tmp_path / "on-spark"
    run(config, local, "--workers=1")
    run(
        config,
        on_spark,
        "--runner=PortableRunner",
        f"--beam=--job_endpoint={spark_endpoint}",
        "--beam=--environment_type=LOOPBACK",
        "--beam=--experiments=use_loopback_process_worker",
    )
    assert contents(on_spark) == contents(local)
    reports = [
        json.loads(layout.report_path(place).read_text(encoding="utf-8")) for place in (on_spark, local)
    ]
    for key in ("counts", "inputs"):
        assert reports[0][key] == reports[1][key]
    for name in ("0", "1"):
        weights = "variables/variables.data-00000-of-00001"
        assert (layout.version_dir(on_spark, "smelu", name, 1) / weights).read_bytes() == (
            layout.version_dir(local, "smelu", name, 1) / weights
        ).read_bytes()
