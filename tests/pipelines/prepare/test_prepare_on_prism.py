"""`prepare` on Beam's Prism writes the very bytes it writes on this machine."""

import os

import pytest

from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.pipelines.prepare.small_log import contents

PRISM = os.environ.get("STEADY_RANKER_PRISM", "")

pytestmark = [
    pytest.mark.skipif(not PRISM, reason="needs Prism (`make test-prism` builds it with Go)"),
    # Beam's artifact service and workers leave files and threads to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*subprocess.*is still running:ResourceWarning"),
]


@pytest.mark.parametrize(
    "split", [{"by": "hash", "of": "item_id", "eval": 0.2}, {"by": "time", "eval": 0.25}]
)
def test_prism_and_this_machine_write_the_same_bytes(make, tmp_path, split):
    experiment = make(data_split=split)
    local = prepare(experiment, tmp_path / "local")
    flags = (f"--prism_location={PRISM}", "--environment_type=LOOPBACK")
    on_prism = prepare(experiment, tmp_path / "prism", RunnerOptions("PrismRunner", flags=flags))
    assert on_prism == local
    assert contents(tmp_path / "prism") == contents(tmp_path / "local")
