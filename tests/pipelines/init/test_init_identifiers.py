"""What is ranked together, and what is ranked: a column, an entry of a list, or the number of the row."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipelines.init.small_logs import click_rows, proposed, write_table


def test_a_log_without_a_request_says_so(tmp_path):
    text = "".join(f"{n % 40},{n % 3},{n % 2}\n" for n in range(200))
    (tmp_path / "log.csv").write_text("product,colour,clicked\n" + text)
    text, experiment, _ = proposed(tmp_path, [tmp_path / "log.csv"])
    assert "QUESTION" in text
    assert "no column says which rows were shown together" in text
    assert experiment.item == "product"


@pytest.mark.parametrize("kind", ["pairs", "beside", "chosen", "json", "parquet"])
def test_impression_lists_become_a_row_for_each_candidate(tmp_path, kind):
    noise = random.Random(3)
    shown = [[f"N{noise.randint(1, 40)}" for _ in range(noise.randint(2, 6))] for _ in range(200)]
    clicks = [[int(at == len(row) // 2) for at in range(len(row))] for row in shown]
    users = [f"u{n % 17}" for n in range(200)]
    if kind == "pairs":
        pairs = [
            " ".join(f"{i}-{c}" for i, c in zip(*row, strict=True)) for row in zip(shown, clicks, strict=True)
        ]
        rows = [(n, user, pair) for n, (user, pair) in enumerate(zip(users, pairs, strict=True), 1)]
        path = write_table(tmp_path / "behaviors.tsv", rows, ["impression_id", "user", "impressions"])
    elif kind in ("beside", "chosen"):
        last = [
            " ".join(map(str, row)) if kind == "beside" else shown[n][len(row) // 2]
            for n, row in enumerate(clicks)
        ]
        rows = [(n, users[n], " ".join(row), last[n]) for n, row in enumerate(shown)]
        path = write_table(tmp_path / "log.tsv", rows, ["session", "user", "items", "clicks"])
    else:
        entries = [
            {"session": n, "user": users[n], "items": shown[n], "clicks": clicks[n]}
            for n in range(len(shown))
        ]
        path = tmp_path / f"log.{kind}"
        if kind == "json":
            path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        else:
            pq.write_table(pa.Table.from_pylist(entries), path)
    _, experiment, checked = proposed(tmp_path, [path])
    assert checked.rows_read == sum(map(len, shown))
    assert checked.rejections.rows == 0
    assert experiment.data.request == ("impression_id",) if kind == "pairs" else ("session",)
    assert experiment.item == ("item" if kind == "pairs" else "items")
    labels = [row["__label__"] for batch in checked.rows for row in batch.to_pylist()]
    assert sum(labels) == pytest.approx(sum(map(sum, clicks)), rel=0.2), (
        "an item that is shown twice counts twice"
    )


def test_a_log_of_positives_gets_negatives(tmp_path):
    noise = random.Random(23)
    rows = [
        (user, item, f"name of {item}", int(noise.paretovariate(0.5)))
        for _, user, item, _ in click_rows(800, users=40, items=37)
    ]
    (tmp_path / "plays.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    text, experiment, _ = proposed(tmp_path, [tmp_path / "plays.tsv"])
    assert (experiment.data.label, experiment.data.negatives.count) == (None, 4)
    assert {name: feature.role for name, feature in experiment.features.items()} == {
        "column_1": "context",
        "column_2": "item",
        "column_3": "item",
    }
    assert "known of a row that was logged, and of no negative: column_4" in text


def test_a_log_without_a_request_or_a_candidate_numbers_its_rows(tmp_path):
    noise = random.Random(17)
    rows = [(noise.gauss(0, 1), noise.gauss(5, 2), int(noise.random() < 0.3)) for _ in range(400)]
    path = write_table(tmp_path / "log.tsv", rows, ["x1", "x2", "target"])
    _, experiment, checked = proposed(tmp_path, [path])
    data = experiment.data
    assert (data.request, data.item.column, data.item.feature, data.split.of) == (
        None,
        "row",
        False,
        ("row",),
    )
    assert checked.rejections.rows == 0


def test_of_several_ids_the_candidate_differs_within_a_request(tmp_path):
    rows = [
        (n // 8, n // 8 % 3, f"{n % 8}-{n // 8 % 5}", int(n % 5 == 0), int(n % 10 == 0), "" if n % 5 else 7.5)
        for n in range(800)
    ]
    names = ["srch_id", "site_id", "prop_id", "click_bool", "booking_bool", "gross_usd"]
    _, experiment, _ = proposed(tmp_path, [write_table(tmp_path / "log.tsv", rows, names)])
    assert (experiment.data.request, experiment.item) == (("srch_id",), "prop_id")
    assert experiment.data.label == "click_bool == 1"
    assert set(experiment.features) == {"site_id", "prop_id"}, "what follows a click gives it away"


def test_reviews_with_sentences_and_times_in_digits(tmp_path):
    noise = random.Random(11)
    rows = [
        {
            "reviewerID": f"A{noise.randint(0, 90)}",
            "asin": f"B{noise.randint(0, 60)}",
            "overall": float(noise.randint(1, 5)),
            "text": " ".join(noise.choices(["good", "bad", "the", "product"], k=9)),
            "hour": 14102100 + n % 24,
        }
        for n in range(500)
    ]
    (tmp_path / "log.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, experiment, _ = proposed(tmp_path, [tmp_path / "log.json"])
    assert (experiment.data.request, experiment.item) == (("reviewerID",), "asin")
    assert experiment.data.timestamp == "hour"
    assert set(experiment.features) == {"reviewerID", "asin"}
