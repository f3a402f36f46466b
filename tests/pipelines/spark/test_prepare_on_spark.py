"""`prepare` on real Spark in local mode writes the very bytes it writes on this machine."""

import pytest

from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.pipelines.prepare.conftest import log, make  # noqa: F401  (fixtures)
from tests.pipelines.prepare.small_log import contents

pytestmark = [
    pytest.mark.spark,
    pytest.mark.timeout(600),
    # Beam's artifact service and workers leave files and threads to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*subprocess.*is still running:ResourceWarning"),
]


@pytest.mark.parametrize(
    "split", [{"by": "hash", "of": "item_id", "eval": 0.2}, {"by": "time", "eval": 0.25}]
)
def test_spark_and_this_machine_write_the_same_bytes(spark_endpoint, make, tmp_path, split):  # noqa: F811
    experiment = make(data_split=split)
    here = prepare(experiment, tmp_path / "here")
    flags = (
        f"--job_endpoint={spark_endpoint}",
        "--environment_type=LOOPBACK",
        "--experiments=use_loopback_process_worker",
    )
    there = prepare(experiment, tmp_path / "there", RunnerOptions("PortableRunner", flags=flags))
    assert there == here
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
