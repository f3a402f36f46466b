"""`null_values` in every format."""

import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.prepare.read import lines
from tests.pipelines.prepare.small_files import rows_of, run


@pytest.mark.parametrize("marker", ["NULL", "\\N", "NA", "n/a", "-"])
@pytest.mark.parametrize("format_", ["csv", "json", "parquet"])
def test_null_values_are_missing_in_text(tmp_path, marker, format_):
    values = {
        "user": ["a", marker, "b", "c"] * 5,
        "item": ["x", "y", marker, "z"] * 5,
        "label": ["1", "0", "1", "0"] * 5,
        "price": ["1", "2", "3", marker] * 5,
    }
    table = pa.table(values)
    if format_ == "parquet":
        pq.write_table(table, tmp_path / "f.parquet")
    elif format_ == "json":
        (tmp_path / "f.json").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        text = "\n".join(",".join(row.values()) for row in table.to_pylist())
        (tmp_path / "f.csv").write_text("user,item,label,price\n" + text + "\n")
    events = {"path": f"f.{format_}", "null_values": [marker]}
    counted, rows = run(tmp_path, events, split={"by": "hash", "of": "item"})
    assert counted.counts["rejected"] == 5  # no request
    assert {row[1] for row in rows} == {"x", "", "z"}
    assert {row[3] for row in rows} == {1.0, 3.0, None}


@pytest.mark.parametrize("format_", ["parquet", "json", "csv"])
def test_null_values_are_missing_among_typed_values(tmp_path, monkeypatch, format_):
    prices = [-999, 1, 2, -999, 3] * 4
    table = pa.table(
        {
            "user": [0, 1, 2, 3, 4] * 4,
            "item": [-999, 7, 8, 9, 5] * 4,
            "label": [1, 0, 1, 1, 0] * 4,
            "price": prices,
            "half": [price / 2 for price in prices],
            "tags": [["NULL", "a"], ["b"]] * 10,
        }
    )
    if format_ == "parquet":
        decimals = pa.array([Decimal(price) for price in prices], pa.decimal128(9, 2))
        pq.write_table(table.set_column(3, "price", decimals), tmp_path / "f.parquet")
    elif format_ == "json":
        (tmp_path / "f.json").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        rows = [[*list(row.values())[:-1], "ab"["b" in row["tags"]]] for row in table.to_pylist()]
        text = [",".join(map(str, row)) for row in [table.schema.names, *rows]]
        (tmp_path / "f.csv").write_text("\n".join(text) + "\n")
    features = {
        "half": {"kind": "numeric", "role": "item"},
        "tags": {"kind": "categorical", "role": "item", "multivalued": "|"},
    }
    events = {"path": f"f.{format_}", "null_values": [-999, -499.5, "NULL"]}
    for piece in (1 << 20, 150):
        monkeypatch.setattr(lines, "PIECE_BYTES", piece)
        run(tmp_path, events, features=features)
        rows = rows_of(tmp_path / "run", "item", "price", "half", "tags")
        assert {row[0] for row in rows} == {"", "7", "8", "9", "5"}
        assert {row[1] for row in rows} == {None, 1.0, 2.0, 3.0}
        assert {row[2] for row in rows} == {None, 0.5, 1.0, 1.5}
        assert {row[3] for row in rows} == {"a", "b"}
