"""`prepare` on a real Flink cluster writes the very bytes it writes on this machine."""

import pytest

from pipelines.prepare import prepare
from pipelines.record import read_records
from pipelines.runner import RunnerOptions
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
