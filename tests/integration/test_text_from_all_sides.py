"""One value has one text in prepared data, in a request, in the probe and in what the monitor shows."""

from __future__ import annotations

from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.prepare.read.columns import as_text
from serving.client.answers import Signature, TensorSpec
from serving.client.columns import to_arrays
from serving.monitor.requests.probe import load_probe, probe_set

TEXT_INPUT = Signature({"item_id": TensorSpec("DT_STRING", (-1,))}, {}, "")

COLUMNS = {
    "bool": pa.array([True, False, None]),
    "int64": pa.array([7, 2**53 + 1, None]),
    "uint64": pa.array([2**64 - 1, 0, None], pa.uint64()),
    "float64": pa.array([7.0, 0.1, 1e-5, 1e16, 1e-7, 1e22, 2.0**60, float("nan"), float("inf")]),
    "float32": pa.array(np.array([7, 0.1, 1e-5, 1e16, 16777216, np.nan, 1 / 3], np.float32)),
    "text": pa.array(["7", "7.0", " a ", "true", "", None]),
    "bytes": pa.array([b"caf\xc3\xa9", b"\xff", None]),
    "date": pa.array([date(2024, 1, 31), None]),
    "seconds": pa.array([datetime(2024, 1, 31, 10), None], pa.timestamp("s")),
    "nanoseconds": pa.array([1, 1_500_000_000, None], pa.timestamp("ns")),
    "decimal": pa.array(["7.00", "0.10"]).cast(pa.decimal128(10, 2)),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_one_text_from_all_sides(kind, tmp_path):
    column = COLUMNS[kind]
    expected = [value or "" for value in as_text(column).to_pylist()]
    arrow_scalars = to_arrays({"item_id": list(column)}, TEXT_INPUT)
    assert arrow_scalars["item_id"].tolist() == expected
    if kind not in ("int64", "bool", "uint64"):  # where NumPy has no missing value and would change the type
        values = column.to_numpy(zero_copy_only=False)
        assert to_arrays({"item_id": values}, TEXT_INPUT)["item_id"].tolist() == expected
    distinct = list(dict.fromkeys(expected))
    probe = probe_set(["r"] * len(column), {"item_id": list(column)}, "item_id")
    assert probe.items.tolist() == distinct
    pq.write_table(pa.table({"request": ["r"] * len(column), "item_id": column}), tmp_path / "probe.parquet")
    assert load_probe(tmp_path / "probe.parquet", "item_id").items.tolist() == distinct
