"""`ranker run` on a real Flink cluster: the same examples, the same replicas, the same report as on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.runner import RunnerOptions
from ranker import layout
from ranker.errors import UserError
from tests.pipelines.prepare.small_log import contents

pytestmark = [pytest.mark.flink, pytest.mark.timeout(1800)]

CONFIG = Path(__file__).parents[3] / "configs/movielens-100k.yaml"
# Fewer rows and steps than the configuration's own: what may differ between engines does so at once.
SMALLER = ("training.epochs=1", "replicas.count=2", "data.shards=3", "arms={smelu: {}}")
USERS, ITEMS, RATINGS = 120, 300, 6000


@pytest.fixture(scope="module")
def movielens(tmp_path_factory):
    """MovieLens 100K where `MOVIELENS_100K` names its directory, else generated files of the same form."""
    if "MOVIELENS_100K" in os.environ:
        return Path(os.environ["MOVIELENS_100K"])
    root = tmp_path_factory.mktemp("ml-100k")
    random = np.random.default_rng(1)
    pairs = random.choice(USERS * ITEMS, RATINGS, replace=False)
    taste, quality = random.normal(0, 1, USERS), random.normal(0, 1, ITEMS)
    stars = 3.5 + taste[pairs % USERS] + quality[pairs // USERS] + random.normal(0, 0.5, RATINGS)
    ratings = [
        f"{pair % USERS + 1}\t{pair // USERS + 1}\t{star}\t{880_000_000 + index}\n"
        for index, (pair, star) in enumerate(zip(pairs, stars.clip(1, 5).astype(int), strict=True))
    ]
    users = [
        f"{u}|{random.integers(7, 74)}|{'MF'[u % 2]}|{('writer', 'other', 'student')[u % 3]}|{u:05d}\n"
        for u in range(1, USERS + 1)
    ]
    items = []
    for item in range(1, ITEMS + 1):
        flags = "|".join(random.choice(["0", "1"], 19, p=[0.8, 0.2]))
        released = f"01-Jan-{1940 + item % 60}" if item % 50 else ""
        items.append(f"{item}|Café {item}|{released}||http://example.org/{item}|{flags}\n")
    (root / "u.data").write_text("".join(ratings))
    (root / "u.user").write_text("".join(users))
    (root / "u.item").write_text("".join(items), encoding="latin-1")
    return root


def ranker(movielens, run, *options):
    """Runs the command to its end: its result, and its lines of progress."""
    command = [
        sys.executable,
        "-m",
        "ranker.cli",
        "run",
        "--config",
        str(CONFIG),
        "--run-dir",
        str(run),
        "--json",
    ]
    settings = [f"--set={setting}" for setting in (f"data.root={movielens}", *SMALLER)]
    done = subprocess.run([*command, *settings, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:] + (run / "logs/beam.log").read_text()[-2000:]
    return json.loads(done.stdout), [json.loads(line) for line in done.stderr.splitlines()]


@pytest.fixture(scope="module")
def runs(movielens, flink_endpoint, tmp_path_factory):
    """A run on this machine, one on Flink with parallelism 2, and what each command said."""
    local, remote = (tmp_path_factory.mktemp(name) / "run" for name in ("here", "there"))
    flink = ("--runner=FlinkRunner", "--workers=2", f"--beam=--job_endpoint={flink_endpoint}")
    return local, remote, ranker(movielens, local, "--workers=1"), ranker(movielens, remote, *flink)


def predictions(run):
    tables = [pq.read_table(path) for path in sorted(layout.predictions_dir(run).glob("*.parquet"))]
    return pa.concat_tables(tables)


def test_examples_vocabularies_and_statistics_are_the_same_bytes(runs):
    local, remote, *_ = runs
    assert contents(remote) == contents(local)


def test_replicas_of_equal_seeds_predict_the_same(runs):
    local, remote = (predictions(run) for run in runs[:2])
    replicas = [name for name in local.column_names if name.startswith("smelu/")]
    assert len(replicas) == 2
    assert local.select(["request", "item", "label"]).equals(remote.select(["request", "item", "label"]))
    for name in replicas:
        np.testing.assert_allclose(remote[name].to_numpy(), local[name].to_numpy(), rtol=0, atol=1e-6)
        assert local[name].to_numpy().std() > 0.01


def test_the_report_says_the_same_and_what_the_engine_counted(runs):
    local, remote = (json.loads(layout.report_path(run).read_text()) for run in runs[:2])
    for report in (local, remote):
        assert list(report.pop("stages")) == ["prepare", "train", "evaluate"]
    counted = remote.pop("counters")
    assert counted == local.pop("counters")
    assert counted["prepare"]["rows"] == RATINGS or "MOVIELENS_100K" in os.environ
    assert counted["train"] == {"trained": 2}
    assert counted["evaluate"]["rows"] == remote["counts"]["rows"]
    same_within(remote, local, 1e-6)


def same_within(a, b, tolerance):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
    if isinstance(a, dict | list):
        assert len(a) == len(b)
        for key in a if isinstance(a, dict) else range(len(a)):
            same_within(a[key], b[key], tolerance)
    else:
        assert a == (pytest.approx(b, abs=tolerance) if isinstance(a, float) else b)


def test_progress_is_seen_while_flink_works(runs):
    _, _, _, (result, lines) = runs
    assert list(result["stages"]) == ["prepare", "train", "evaluate"]
    subjects = {line.get("subject") for line in lines}
    assert {"prepare", "train", "replica smelu/0", "replica smelu/1"} <= subjects


def test_a_second_run_finds_everything_done(runs, movielens, flink_endpoint):
    _, remote, *_ = runs
    _, lines = ranker(movielens, remote, "--runner=FlinkRunner", f"--beam=--job_endpoint={flink_endpoint}")
    messages = [line["message"] for line in lines]
    assert "prepare: data unchanged, nothing to do" in messages
    assert "replica smelu/0: version 1 unchanged, kept" in messages
    assert "evaluate: unchanged, kept" in messages


def refuse(element):
    raise UserError(f"element: must not be {element}. Received: {element!r}")


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # Beam leaves its worker's pipe open when a job fails
def test_a_mistake_found_by_a_worker_is_one_line_on_flink_too(flink_endpoint):
    options = RunnerOptions("FlinkRunner", flags=(f"--job_endpoint={flink_endpoint}",))
    pipeline = options.pipeline()
    _ = pipeline | beam.Create(["x"]) | beam.Map(refuse)
    with pytest.raises(UserError) as raised:
        options.run(pipeline)
    assert str(raised.value).startswith("element: must not be x. Received: 'x'")
    assert "\n" not in str(raised.value)
