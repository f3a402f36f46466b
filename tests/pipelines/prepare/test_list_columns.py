"""Lists from Parquet: joined where the feature is multivalued, else the row is rejected by the feature's name."""

from __future__ import annotations

import pyarrow as pa

from pipelines.prepare.clean.cleaner import Cleaner
from pipelines.prepare.rows import LINE, PLACE
from ranker.config import build

EXPERIMENT = {
    "name": "lists",
    "data": {
        "events": {"path": "events.parquet", "format": "parquet"},
        "label": "label",
        "request": ["user_id"],
        "split": {"by": "hash", "of": "user_id", "eval": 0.5},
    },
    "features": {
        "user_id": {"kind": "categorical", "role": "context"},
        "item_id": {"kind": "categorical", "role": "item"},
        "tags": {"kind": "categorical", "role": "item", "multivalued": "|"},
    },
}


def test_lists_are_joined_or_rejected_by_name():
    raw = pa.RecordBatch.from_pydict(
        {
            PLACE: pa.array([0, 1, 2], pa.uint64()),
            LINE: pa.array([1, 2, 3], pa.int64()),
            "label": pa.array([1, 0, 1]),
            "user_id": pa.array(["a", "b", "c"]),
            "item_id": pa.array([["i"], None, None], pa.list_(pa.string())),
            "tags": pa.array([["x"], ["a|b"], ["x", None, "y"]]),
        }
    )
    (cleaned,) = Cleaner(build(EXPERIMENT, "lists"), {}, (), ())(raw)
    assert cleaned.rows["tags"].to_pylist() == ["x|y"]
    of_item, of_tags = cleaned.rejected["reason"].to_pylist()
    assert of_item.startswith("item_id is a list, but the feature is not multivalued: ")
    assert of_tags.startswith("tags has a list item that holds the separator '|': ")
