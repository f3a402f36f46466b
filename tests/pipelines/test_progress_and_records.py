"""What is said while a stage works, to people and to machines, and what stays of it."""

import json

import pytest

from pipelines import record
from pipelines.evaluate import progress as evaluating
from pipelines.prepare import watch as preparing
from pipelines.prepare.stages import Directories
from pipelines.progress import duration
from pipelines.train import watch as training
from ranker.seeds import ReplicaSpec, derive
from ranker.terminal import Reporter


@pytest.fixture
def directories(tmp_path):
    made = Directories(tmp_path / "data", tmp_path / "work")
    for name in ("data/train", "work/runs", "work/held"):
        (tmp_path / name).mkdir(parents=True)
    return made


def batches(directory, *rows):
    for index, count in enumerate(rows):
        (directory / f"{index:020d}-{count}.arrow").write_bytes(b"x" * count)


def test_prepare_says_rows_a_second_and_what_is_left(directories):
    assert preparing.progress(directories, 4, 1.0) == (
        "prepare: 0 rows read, 0 rows/s",
        0.0,
        {"rows": 0, "rows_per_second": 0},
    )
    batches(directories.work / "runs", 6000, 4000)
    text, share, figures = preparing.progress(directories, 4, 2.0)
    assert text == "prepare: 10,000 rows read, 5,000 rows/s, about 4 s left"
    assert share == pytest.approx(0.35)
    assert figures == {"rows": 10_000, "rows_per_second": 5000, "seconds_left": 3.7}
    (directories.data / "train/part-00000-of-00001.tfrecord").write_bytes(b"x" * 5000)
    text, share, _ = preparing.progress(directories, 4, 10.0)
    assert text == "prepare: 10,000 rows sorted, 0 MB of shards written, about 2 s left"
    assert share == pytest.approx(0.85)


def test_a_split_by_time_reads_everything_before_it_sorts(directories):
    batches(directories.work / "held", 10, 10, 10, 10)
    _, half, figures = preparing.progress(directories, 4, 1.0)
    batches(directories.work / "runs", 10, 10)
    text, more, _ = preparing.progress(directories, 4, 1.0)
    assert figures["rows"] == 40
    assert text.startswith("prepare: 40 rows read, 40 rows/s")
    assert (half, more) == (pytest.approx(0.35), pytest.approx(0.525))


def test_a_replica_says_its_loss_speed_and_what_is_left(tmp_path):
    spec = ReplicaSpec("smelu", 1, derive(1, 1, ()))
    assert training.standing(tmp_path, spec) is None
    now = {
        "step": 250,
        "steps": 1000,
        "loss": [0.51239],
        "examples_per_second": 81234.5,
        "done": 50,
        "seconds": 2.0,
    }
    path = training.log_path(tmp_path, "smelu", 1)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(now))
    assert training.standing(tmp_path, spec) == (
        "replica smelu/1:  25%, loss 0.5124, 81,234 examples/s, 30 s left",
        0.25,
        {"step": 250, "steps": 1000, "loss": 0.51239, "examples_per_second": 81234, "seconds_left": 30.0},
    )
    path.write_text(json.dumps(now | {"step": 1000}))
    assert training.standing(tmp_path, spec)[0] == "replica smelu/1: trained, loss 0.5124; exporting"
    path.write_text('{"step": 2')  # seen in the middle of a write
    assert training.standing(tmp_path, spec) is None


def test_evaluate_says_rows_a_second_and_what_is_left(tmp_path):
    for shard, rows in (("a", 600), ("b", 400)):
        evaluating.write_rows(tmp_path / f"{shard}.rows", rows)
    said = []
    with evaluating.reported_progress(
        tmp_path, 4000, lambda *line, **figures: said.append((*line, figures)), seconds=0.01
    ):
        while not said:
            pass
    text, share, figures = said[0]
    assert text.startswith("evaluate: 1,000 of 4,000 rows scored, ")
    assert share == 0.25
    assert figures["rows"] == 1000
    assert evaluating.progress_line(1000, 4000, 2.0)[2] == {
        "rows": 1000,
        "rows_per_second": 500,
        "seconds_left": 6.0,
    }


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (600, "10 min"), (12_600, "3.5 h")]
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


def said_by(reporter, capfd):
    reporter.update("prepare: 10 rows", 0.25, rows=10, rows_per_second=5)
    reporter.update("prepare: 20 rows", 0.5, rows=20)  # too soon after the last one on the same subject
    reporter.update("train: nothing known yet")
    reporter.update("prepare: data unchanged", 1.0)
    reporter.line("all: done")
    return capfd.readouterr().err.splitlines()


def test_machines_get_the_figures(capfd):
    lines = [json.loads(line) for line in said_by(Reporter(as_json=True), capfd)]
    assert all(line.pop("time") > 0 for line in lines)
    assert lines == [
        {
            "message": "prepare: 10 rows",
            "subject": "prepare",
            "share": 0.25,
            "rows": 10,
            "rows_per_second": 5,
        },
        {"message": "train: nothing known yet", "subject": "train"},
        {"message": "prepare: data unchanged", "subject": "prepare", "share": 1.0},
        {"message": "all: done"},
    ]


def test_a_log_gets_the_lines(capfd):
    assert said_by(Reporter(), capfd) == [
        "prepare: 10 rows",
        "train: nothing known yet",
        "prepare: data unchanged",
        "all: done",
    ]


def test_records_stay_in_the_order_of_the_story(tmp_path):
    assert record.read_records(tmp_path) == {}
    record.save_record(tmp_path, "train", 2.00049, {"trained": 3, "reused": 1})
    record.save_record(tmp_path, "prepare", 1.5, {})
    records = record.read_records(tmp_path)
    assert list(records) == ["prepare", "train"]
    assert records["train"] == {"seconds": 2.0, "counters": {"trained": 3, "reused": 1}}
    record.save_record(tmp_path, "prepare", 9.0, {"rows": 4})
    assert record.read_records(tmp_path)["prepare"] == {"seconds": 9.0, "counters": {"rows": 4}}
    (tmp_path / "logs/stages/train.json").write_text("{")
    assert list(record.read_records(tmp_path)) == ["prepare"]
