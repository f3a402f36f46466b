"""`prepare` as a whole: what goes in comes out, once, in the right place, in the same bytes."""

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.prepare import prepare
from pipelines.prepare.manifest import Manifest
from pipelines.prepare.order import runs
from pipelines.prepare.read import lines, reading
from pipelines.runner import RunnerOptions
from tests.pipelines.prepare.small_log import (
    contents,
    item_flags,
    item_title,
    read_blocks,
    read_rejected,
    read_rows,
    user_age,
)


def expected_rows(log):
    rows = []
    for line in (log / "u.data").read_text().splitlines():
        user, item, rating, _ = line.split("\t")
        title = item_title(int(item))
        genres = [
            name
            for name, on in zip(("Action", "Comedy", "Drama"), item_flags(int(item)), strict=True)
            if on == "1"
        ]
        rows.append(
            {
                "__label__": float(int(rating) >= 4),
                "__request__": user,
                "user_id": user,
                "age": float(user_age(int(user))) if user_age(int(user)) else None,
                "gender": "MF"[int(user) % 2],
                "item_id": item,
                "title": title,
                "genres": "|".join(genres),
                "year": float(title[-5:-1]) if title.endswith(")") else None,
            }
        )
    return rows


def bag(rows):
    return Counter(tuple(sorted(row.items())) for row in rows)


def test_every_row_is_in_exactly_one_split_with_its_values(log, make, tmp_path):
    manifest = prepare(make(), tmp_path / "run")
    train, held = read_rows(tmp_path / "run", "train"), read_rows(tmp_path / "run", "eval")
    assert bag(train + held) == bag(expected_rows(log))
    assert manifest.counts == {"read": 240, "train": len(train), "eval": len(held), "rejected": 0}
    assert 20 < len(held) < 80
    assert manifest.positives["train"] == sum(row["__label__"] for row in train)


def test_eval_holds_whole_requests_in_order_and_training_rows_stand_mixed(make, tmp_path):
    prepare(make(), tmp_path / "run")
    shards = sorted((tmp_path / "run/data/eval").iterdir())
    assert len(shards) == 2
    seen = []
    for block in read_blocks(tmp_path / "run", "eval"):
        assert block["__request__"] == sorted(block["__request__"])
        seen += list(dict.fromkeys(block["__request__"]))
    assert len(seen) == len(set(seen)), "a request is in two shards"
    users = [int(row["user_id"]) for row in read_rows(tmp_path / "run", "train")]
    assert users != sorted(users)
    assert abs(np.corrcoef(users, np.arange(len(users)))[0, 1]) < 0.3


def test_the_base_order_follows_its_seed(make, tmp_path):
    orders = {}
    for seed in (0, 1):
        prepare(make(data_order_seed=seed), tmp_path / f"run{seed}")
        orders[seed] = [
            (row["user_id"], row["item_id"]) for row in read_rows(tmp_path / f"run{seed}", "train")
        ]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]


@pytest.mark.parametrize("split", [None, {"by": "time", "eval": 0.25}])
def test_the_same_bytes_for_any_block_size(make, tmp_path, monkeypatch, split):
    changes = {"data_split": split} if split else {}
    prepare(make(**changes), tmp_path / "whole")
    monkeypatch.setattr(reading, "BLOCK_BYTES", 701)
    monkeypatch.setattr(lines, "PIECE_BYTES", 97)
    monkeypatch.setattr(runs, "RANGE_ROWS", 16)
    prepare(make(**changes), tmp_path / "pieces")
    assert contents(tmp_path / "whole") == contents(tmp_path / "pieces")


def test_the_same_bytes_for_two_workers(make, tmp_path):
    prepare(make(), tmp_path / "one")
    prepare(make(), tmp_path / "two", RunnerOptions(workers=2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_split_by_time_holds_out_exactly_the_latest_share(log, make, tmp_path):
    manifest = prepare(make(data_split={"by": "time", "eval": 0.25}), tmp_path / "run")
    assert manifest.counts["eval"] == 60
    times = {}
    for line in (log / "u.data").read_text().splitlines():
        user, item, _, time = line.split("\t")
        times[user, item] = int(time)
    train = [times[row["user_id"], row["item_id"]] for row in read_rows(tmp_path / "run", "train")]
    held = [times[row["user_id"], row["item_id"]] for row in read_rows(tmp_path / "run", "eval")]
    assert max(train) <= min(held)


def test_split_by_column_rejects_what_is_in_neither_list(log, make, tmp_path):
    text = (log / "u.data").read_text().splitlines()
    parts = ["train", "test", "train", "junk"]
    rows = [f"{line}\t{parts[n % 4]}\n" for n, line in enumerate(text)]
    (log / "u.data").write_text("".join(rows))
    columns = ["user_id", "item_id", "rating", "timestamp", "part"]
    events = {"path": "u.data", "delimiter": "\t", "columns": columns}
    manifest = prepare(make(data_events=events, data_split={"by": "column", "of": "part"}), tmp_path / "run")
    assert manifest.counts == {"read": 240, "train": 120, "eval": 60, "rejected": 60}
    rejected = read_rejected(tmp_path / "run")
    assert [entry["line"] for entry in rejected] == list(range(4, 241, 4))
    assert rejected[0]["reason"] == "part is neither train nor eval nor test: 'junk'"
    assert rejected[0]["text"] == rows[3].rstrip("\n")
    assert {entry["file"] for entry in rejected} == {"u.data"}


def test_vocabularies_and_statistics_are_those_of_the_training_split(make, tmp_path):
    features = dict(make().model_dump()["features"])
    features["item_id"] |= {"min_count": 5, "max_vocabulary": 20}
    prepare(make(features=features), tmp_path / "run")
    train = read_rows(tmp_path / "run", "train")
    data = tmp_path / "run/data"
    counts = Counter(row["item_id"] for row in train)
    kept = sorted((item for item in counts if counts[item] >= 5), key=lambda item: (-counts[item], item))[:20]
    assert (data / "vocabulary/item_id.txt").read_text().splitlines() == kept
    genres = Counter(genre for row in train for genre in row["genres"].split("|") if genre)
    vocabulary = (data / "vocabulary/genres.txt").read_text().splitlines()
    assert vocabulary == sorted(genres, key=lambda genre: (-genres[genre], genre))
    statistics = json.loads((data / "statistics.json").read_text())
    assert statistics["rows"] == len(train)
    item = statistics["features"]["item_id"]
    assert (item["cardinality"], item["count"], item["missing"]) == (len(counts), len(train), 0)
    assert item["top"] == [list(entry) for entry in sorted(counts.items(), key=lambda e: (-e[1], e[0]))[:20]]
    ages = np.array([row["age"] for row in train if row["age"] is not None])
    age = statistics["features"]["age"]
    assert (age["count"], age["missing"]) == (len(ages), len(train) - len(ages))
    np.testing.assert_allclose([age["mean"], age["std"]], [ages.mean(), ages.std()], rtol=1e-12)
    logs = np.log1p(ages)
    np.testing.assert_allclose([age["log1p_mean"], age["log1p_std"]], [logs.mean(), logs.std()], rtol=1e-12)
    np.testing.assert_allclose(age["quantiles"], np.quantile(ages, np.linspace(0, 1, 101)), rtol=1e-12)
    assert (age["min"], age["max"]) == (ages.min(), ages.max())


def test_probe_has_whole_eval_requests_with_at_least_two_candidates(make, tmp_path):
    manifest = prepare(make(), tmp_path / "run")
    probe = pq.read_table(tmp_path / "run/data/probe.parquet")
    experiment = make()
    assert probe.column_names == ["request", "label", *experiment.features]
    assert probe.schema.field("age").type == pa.float32()
    assert probe.schema.field("genres").type == pa.string()
    held = Counter(row["__request__"] for row in read_rows(tmp_path / "run", "eval"))
    requests = probe["request"].to_pylist()
    assert Counter(requests) == {request: n for request, n in held.items() if n > 1}
    assert len(list(dict.fromkeys(requests))) == manifest.probe_requests
    changes = sum(a != b for a, b in pairwise(requests))
    assert changes == manifest.probe_requests - 1, "rows of a request stand together"
    assert list(dict.fromkeys(requests)) != sorted(set(requests)), "requests stand in the order of a hash"


def test_nothing_is_done_twice_and_what_changed_is(log, make, tmp_path):
    said = []
    first = prepare(make(), tmp_path / "run")
    stamp = (tmp_path / "run/data/manifest.json").stat().st_mtime_ns
    again = prepare(make(), tmp_path / "run", progress=lambda text, *_, **__: said.append(text))
    assert again == first == Manifest.read(tmp_path / "run/data/manifest.json")
    assert (tmp_path / "run/data/manifest.json").stat().st_mtime_ns == stamp
    assert any("unchanged" in text for text in said)
    with (log / "u.data").open("a") as sink:
        sink.write("1\t1\t5\t1000\n")
    changed = prepare(make(), tmp_path / "run")
    assert changed.counts["read"] == 241
    assert changed.fingerprint != first.fingerprint
    relabelled = prepare(make(data_label="rating >= 3"), tmp_path / "run")
    assert relabelled.inputs != changed.inputs


def test_the_fingerprint_is_that_of_the_contents_not_of_the_place(log, make, tmp_path):
    first = prepare(make(), tmp_path / "run")
    moved = log.rename(tmp_path / "elsewhere")
    second = prepare(make(data_root=str(moved)), tmp_path / "run2")
    assert first.fingerprint == second.fingerprint
    assert contents(tmp_path / "run")["train/part-00000-of-00002.tfrecord"]


def test_weights_travel_with_their_rows(log, make, tmp_path):
    rows = [f"{line}\t{n / 4}\n" for n, line in enumerate((log / "u.data").read_text().splitlines())]
    rows[5] = rows[5].rsplit("\t", 1)[0] + "\t-1\n"
    rows[6] = rows[6].rsplit("\t", 1)[0] + "\tinf\n"
    rows[7] = rows[7].rsplit("\t", 1)[0] + "\t\n"
    (log / "u.data").write_text("".join(rows))
    events = {
        "path": "u.data",
        "delimiter": "\t",
        "columns": ["user_id", "item_id", "rating", "timestamp", "w"],
    }
    manifest = prepare(make(data_events=events, data_weight="w"), tmp_path / "run")
    assert manifest.schema["__weight__"] == "float"
    weights = {}
    for n, row in enumerate(rows):
        user, item, *_ = row.split("\t")
        weights[user, item] = n / 4
    found = read_rows(tmp_path / "run", "train") + read_rows(tmp_path / "run", "eval")
    assert len(found) == 237
    assert all(row["__weight__"] == weights[row["user_id"], row["item_id"]] for row in found)
    assert [entry["line"] for entry in read_rejected(tmp_path / "run")] == [6, 7, 8]


def test_unmatched_keys_leave_values_missing_and_are_counted(log, make, tmp_path):
    users = (log / "u.user").read_text().splitlines(keepends=True)
    repeated = "1|99|X\n"
    (log / "u.user").write_text("".join([*(u for u in users if not u.startswith("5|")), repeated, "|1|Y\n"]))
    manifest = prepare(make(), tmp_path / "run")
    rows = read_rows(tmp_path / "run", "train") + read_rows(tmp_path / "run", "eval")
    lost = [row for row in rows if row["user_id"] == "5"]
    assert manifest.unmatched == {"users": len(lost), "items": 0}
    assert {(row["age"], row["gender"]) for row in lost} == {(None, "")}
    assert {row["gender"] for row in rows if row["user_id"] == "1"} == {"F"}, "the first row of a key counts"
    assert manifest.tables["users"] == {"rows": 11, "rejected": 2}
    rejects = (tmp_path / "run/data/rejected/tables/users.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in rejects] == [
        {"file": "u.user", "line": 12, "reason": "repeats the key: '1'", "text": "1|99|X"},
        {"file": "u.user", "line": 13, "reason": "has no key", "text": "|1|Y"},
    ]
    assert manifest.counts["rejected"] == 0
