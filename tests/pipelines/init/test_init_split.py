"""Which rows are held out: by time, by the files' names, or by a column."""

import random
from datetime import datetime, timedelta

import pytest

from tests.pipelines.init.small_logs import proposed, write_table


def test_files_of_one_log_go_together_and_are_split_by_their_names(tmp_path):
    rows = [(f"u{n % 9}", f"i{n % 31}", n % 2) for n in range(90)]
    names = ["user", "item", "clicked"]
    paths = [write_table(tmp_path / f"{part}.tsv", rows, names) for part in ("train", "valid", "test")]
    _, experiment, _ = proposed(tmp_path, paths)
    assert (experiment.data.split.train, experiment.data.split.eval) == (
        ("train.tsv", "valid.tsv"),
        ("test.tsv",),
    )
    text, experiment, _ = proposed(tmp_path, paths[:1])
    assert experiment.data.split.by == "hash"
    assert "test.tsv, valid.tsv lies beside train.tsv" in text
    days = [write_table(tmp_path / f"day=2024-01-0{day}" / "part-0.tsv", rows, names) for day in (1, 2, 3)]
    _, experiment, _ = proposed(tmp_path, days)
    assert len(experiment.data.events.path) == 3
    assert experiment.data.timestamp == "day"


def test_a_column_of_parts_is_the_split_and_other_outcomes_are_no_features(tmp_path):
    noise = random.Random(5)
    rows = []
    for n in range(400):
        clicked = int(noise.random() < 0.3)
        seconds = noise.randint(1, 300) if clicked else ""
        rows.append(
            (f"q{n // 5}", f"d{n % 31}", n % 5 + 1, clicked, seconds, ["Train", "val", "TEST"][n % 3], 0.2)
        )
    names = ["query_id", "doc_id", "position", "clicked", "dwell", "part", "propensity"]
    text, experiment, _ = proposed(tmp_path, [write_table(tmp_path / "log.tsv", rows, names)])
    assert (experiment.data.split.by, experiment.data.split.eval) == ("column", ("TEST",))
    assert set(experiment.data.split.train) == {"Train", "val"}
    assert list(experiment.features) == ["doc_id", "position"]
    assert experiment.features["position"].training_only
    assert "it alone gives the label away" in text


@pytest.mark.parametrize(
    ("form", "expected"), [("%d/%m/%Y", "%d/%m/%Y"), ("%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M")]
)
def test_times_whose_day_and_month_change_places(tmp_path, form, expected):
    days = [datetime(2021, 1, 1) + timedelta(days=n) for n in range(300)]
    rows = [(f"u{n % 40}", f"i{n % 31}", n % 2, day.strftime(form)) for n, day in enumerate(days)]
    path = write_table(tmp_path / "log.tsv", rows, ["user_id", "item_id", "clicked", "date"])
    _, experiment, _ = proposed(tmp_path, [path])
    assert (experiment.data.timestamp, experiment.data.time_format) == ("date", expected)
