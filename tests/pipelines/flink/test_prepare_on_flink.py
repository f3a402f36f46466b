"""`prepare` on a real Flink cluster writes the very bytes it writes on this machine."""

import pytest

from pipelines.prepare import prepare
from pipelines.record import read_records
from pipelines.runner import RunnerOptions
from ranker.errors import UserError
from tests.pipelines.flink.conftest import pool
from tests.pipelines.prepare.conftest import log, make  # noqa: F401  (fixtures)
from tests.pipelines.prepare.small_log import contents

pytestmark = [
    pytest.mark.flink,
    pytest.mark.timeout(600),
    # Beam's artifact service and worker pool leave files and threads to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*subprocess.*is still running:ResourceWarning"),
]


@pytest.mark.parametrize(
    "split", [{"by": "hash", "of": "item_id", "eval": 0.2}, {"by": "time", "eval": 0.25}]
)
def test_flink_and_this_machine_write_the_same_bytes(flink_endpoint, make, tmp_path, split):  # noqa: F811
    experiment = make(data_split=split)
    here = prepare(experiment, tmp_path / "here")
    flags = (f"--job_endpoint={flink_endpoint}",)
    there = prepare(experiment, tmp_path / "there", RunnerOptions("FlinkRunner", workers=2, flags=flags))
    assert there == here
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert (
        read_records(tmp_path / "there")["prepare"]["counters"]
        == read_records(tmp_path / "here")["prepare"]["counters"]
    )


def test_workers_of_a_pool_write_the_same_bytes(flink_endpoint, worker_pool, make, tmp_path):  # noqa: F811
    here = prepare(make(), tmp_path / "here")
    flags = (
        f"--job_endpoint={flink_endpoint}",
        "--environment_type=EXTERNAL",
        f"--environment_config={worker_pool}",
    )
    there = prepare(make(), tmp_path / "there", RunnerOptions("FlinkRunner", workers=2, flags=flags))
    assert there == here
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_a_pool_whose_workers_cannot_start_is_said_in_one_line(
    flink_endpoint,
    make,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr("pipelines.runner._WORKER_SECONDS", 20.0)
    with pool(python.parent) as address:
        flags = (
            f"--job_endpoint={flink_endpoint}",
            "--environment_type=EXTERNAL",
            f"--environment_config={address}",
        )
        with pytest.raises(UserError, match=f"no worker has started in 20 s.*Received: '{address}'"):
            prepare(make(), tmp_path / "there", RunnerOptions("FlinkRunner", flags=flags))
