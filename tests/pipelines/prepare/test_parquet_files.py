"""Parquet: its types, and values that are no text or no number."""

import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.prepare.read import reading
from ranker.config import build
from ranker.errors import UserError
from tests.pipelines.prepare.small_files import experiment, read_all, read_rejected, rows_of, run, tidy

MOMENT = datetime(2001, 2, 3, 4, 5, 6, tzinfo=timezone.utc)


def test_parquet_types(tmp_path):
    rows = 40
    ids = [uuid.UUID(int=n) for n in range(rows)]
    table = pa.table(
        {
            "user": pa.array([{"id": f"u{n % 5}", "age": n} for n in range(rows)]),
            "item": pa.ExtensionArray.from_storage(
                pa.uuid(), pa.array([value.bytes for value in ids], pa.binary(16))
            ),
            "price": pa.array([Decimal(n) / 4 for n in range(rows)], pa.decimal128(10, 2)),
            "wait": pa.array([timedelta(milliseconds=500 * n) for n in range(rows)], pa.duration("ms")),
            "tags": pa.array([["a", None, f"t{n}"] for n in range(rows)], pa.list_(pa.string(), 3)),
            "code": pa.array([f"c{n % 3}".encode() for n in range(rows)], pa.binary()),
            "day": pa.array([MOMENT.date()] * rows, pa.date32()),
            "half": pa.array(np.arange(rows, dtype=np.float16)),
            "empty": pa.nulls(rows),
            "large": pa.array(["x"] * rows, pa.large_string()),
            "label": pa.array([n % 2 == 1 for n in range(rows)]),
        }
    )
    pq.write_table(table, tmp_path / "f.parquet", row_group_size=7)
    numeric, text = {"kind": "numeric", "role": "item"}, {"kind": "categorical", "role": "item"}
    features = {
        "age": {"kind": "numeric", "role": "item"},
        "wait": numeric,
        "half": numeric,
        "empty": numeric,
        "code": text,
        "tags": {**text, "multivalued": "|"},
        "day": text,
        "large": text,
    }
    events = {"path": "f.parquet", "rename": {"user.id": "user_id", "user.age": "age"}}
    config = experiment(
        tmp_path,
        events,
        label="label",
        features=features,
        request=["user_id"],
        split={"by": "hash", "of": "item", "eval": 0.3},
    )
    tree = config.model_dump(mode="json")
    tree["features"]["user_id"] = tree["features"].pop("user")
    read_all(build(tree, "test"), tmp_path / "run")
    names = (
        "user_id",
        "age",
        "item",
        "price",
        "wait",
        "tags",
        "code",
        "day",
        "half",
        "empty",
        "large",
        "__label__",
    )
    expected = [
        (
            f"u{n % 5}",
            float(n),
            str(ids[n]),
            n / 4,
            n / 2,
            f"a|t{n}",
            f"c{n % 3}",
            "2001-02-03",
            float(n),
            None,
            "x",
            n % 2,
        )
        for n in range(rows)
    ]
    assert rows_of(tmp_path / "run", *names) == tidy(expected)


@pytest.mark.parametrize(
    ("column", "feature", "says"),
    [
        (pa.array([{"a": 1}] * 4), "categorical", r"is a struct; name one of its fields \(a\)"),
        (pa.array([[("k", 1)]] * 4, pa.map_(pa.string(), pa.int64())), "categorical", "is a map"),
        (pa.array([[[1]]] * 4), "categorical", "is a list of list"),
        (pa.array([[1.0]] * 4), "numeric", "is a list; a number needs one value a row"),
    ],
)
def test_a_type_that_cannot_serve_is_one_line_before_any_row_is_read(
    tmp_path, monkeypatch, column, feature, says
):
    table = {
        "user": ["u", "v"] * 2,
        "item": ["i", "j"] * 2,
        "label": [1, 0] * 2,
        "price": [1, 2] * 2,
        "odd": column,
    }
    pq.write_table(pa.table(table), tmp_path / "f.parquet")
    monkeypatch.setattr(reading, "read", None)
    with pytest.raises(UserError, match=f"f.parquet: the column 'odd', which features.odd needs, {says}"):
        run(tmp_path, {"path": "f.parquet"}, features={"odd": {"kind": feature, "role": "item"}})


def test_bad_values_in_parquet_are_rejected_rows(tmp_path):
    rows = 40
    names = pa.array([b"ok", b"\xff\xfe", b"ok", b"fine"] * 10, pa.binary())
    strings = pa.StringArray.from_buffers(rows, names.buffers()[1], names.buffers()[2])
    table = pa.table(
        {
            "user": [f"u{n % 4}" for n in range(rows)],
            "item": strings,
            "label": [n // 2 % 2 for n in range(rows)],
            "price": [str(n) if n % 8 else "free" for n in range(rows)],
        }
    )
    pq.write_table(table, tmp_path / "f.parquet")
    counted, rows_read = run(tmp_path, {"path": "f.parquet"})
    reasons = {entry["reason"] for entry in read_rejected(tmp_path / "run")}
    assert reasons == {"item is not utf-8 text: b'\\xff\\xfe'", "price is not a finite number: 'free'"}
    assert (counted.counts["rejected"], len(rows_read)) == (15, 25)
