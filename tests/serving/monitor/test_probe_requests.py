"""The frozen requests: grouping, order, hash, the Parquet file, slices."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ranker import storage
from ranker.errors import UserError
from serving.monitor.measurement.slices import slices
from serving.monitor.requests.probe import load_probe, probe_set


def write(path, **changes):
    columns = {
        "request": ["b", "b", "a", "a", "a"],
        "label": [1.0, 0.0, 0.0, 1.0, 0.0],
        "item_id": ["2", "1", "3", "3", None],
        "age": pa.array([30.0, 30.0, None, None, None], pa.float32()),
    } | changes
    pq.write_table(pa.table({k: v for k, v in columns.items() if v is not None}), path)
    return path


def test_requests_keep_their_order_and_lose_repeated_items(tmp_path):
    probe = load_probe(write(tmp_path / "probe.parquet"), "item_id")
    assert probe.requests == ("b", "a")
    assert probe.offsets.tolist() == [0, 2, 4]
    assert probe.items.tolist() == ["2", "1", "3", ""]
    assert probe.repeated == 1
    assert "label" not in probe.columns
    assert math.isnan(probe.columns["age"][2])
    assert probe.rows(1, 0)["item_id"].tolist() == ["3", "", "2", "1"]


def test_the_first_n_requests_and_their_hash(tmp_path):
    path = write(tmp_path / "probe.parquet")
    smallest, all_of_them = load_probe(path, "item_id", 1), load_probe(path, "item_id", 99)
    assert smallest.requests == ("b",)
    assert smallest.hash != all_of_them.hash
    assert load_probe(path, "item_id", 1).hash == smallest.hash
    assert load_probe(write(path, item_id=["2", "9", "3", "3", None]), "item_id", 1).hash != smallest.hash
    assert (
        load_probe(write(path, label=[0.0] * 5), "item_id", 1).hash
        == load_probe(write(path), "item_id", 1).hash
        == smallest.hash
    )


def test_rows_of_a_request_need_not_touch():
    probe = probe_set(["x", "y", "x"], {"item_id": ["3", "1", "2"]}, "item_id")
    assert probe.requests == ("x", "y")
    assert probe.items.tolist() == ["3", "2", "1"]


@pytest.mark.parametrize(
    ("requests", "columns", "text"),
    [
        ([], {"item_id": []}, "at least one"),
        (["a"], {"other": ["1"]}, "item_id"),
        (["a"], {"item_id": ["1", "2"]}, "one length"),
    ],
)
def test_what_is_no_probe(requests, columns, text):
    with pytest.raises(UserError, match=text):
        probe_set(requests, columns, "item_id")


def test_files_that_are_no_probe(tmp_path):
    with pytest.raises(UserError, match="must exist"):
        load_probe(tmp_path / "none.parquet", "item_id")
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(UserError, match="Parquet"):
        load_probe(tmp_path / "bad.parquet", "item_id")
    pq.write_table(pa.table({"item_id": ["1"]}), tmp_path / "short.parquet")
    with pytest.raises(UserError, match="`request`"):
        load_probe(tmp_path / "short.parquet", "item_id")


def test_slices_cover_every_row_once_and_keep_the_frequent_values_apart():
    random = np.random.default_rng(1)
    n = 300
    probe = probe_set(
        [str(i // 3) for i in range(n)],
        {
            "item_id": [str(i % 3) for i in range(n)],
            "city": np.repeat([f"c{int(x)}" for x in random.geometric(0.3, n // 3)], 3).astype(object),
            "price": random.exponential(5, n).astype(np.float32),
        },
        "item_id",
    )
    cut = slices(probe, ("city", "price"))
    for feature, by_request in (("city", True), ("price", False)):
        parts_of_feature = [part for part in cut if part.feature == feature]
        assert sum(part.rows.astype(int) for part in parts_of_feature).tolist() == [1] * n
        assert {part.by_request for part in parts_of_feature} == {by_request}
        assert len(parts_of_feature) <= 6
    assert any(part.value == "(other)" for part in cut)
    for part in cut:
        assert np.array_equal(np.unique(probe.owner[part.rows]), np.flatnonzero(part.requests))
    with pytest.raises(UserError, match="must name features"):
        slices(probe, ("nothing",))


def test_a_probe_in_an_object_store(bucket, tmp_path):
    path = write(tmp_path / "probe.parquet")
    stored = storage.location("s3://logs/run/data/probe.parquet")
    with pytest.raises(UserError, match="must exist"):
        load_probe(stored, "item_id")
    storage.put(path, stored)
    assert load_probe(stored, "item_id").hash == load_probe(path, "item_id").hash
