"""Impression lists: one row a shown candidate."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.prepare.read import reading
from tests.pipelines.prepare.small_files import read_rejected, run, tidy


@pytest.mark.parametrize("kind", ["text", "parquet", "fixed", "json", "pairs"])
@pytest.mark.parametrize("block", [1 << 20, 60])
def test_impression_lists_become_rows(tmp_path, monkeypatch, kind, block):
    monkeypatch.setattr(reading, "BLOCK_BYTES", block)
    items = [[f"i{(n * k) % 11}" for k in range(1, 4 if kind == "fixed" else 2 + n % 4)] for n in range(30)]
    clicks = [[int((n + k) % 3 == 0) for k in range(len(row))] for n, row in enumerate(items)]
    users = [f"u{n}" for n in range(30)]
    explode = {"columns": ["item", "label"], "separator": " ", "position": "price"}
    changes = {}
    if kind in ("text", "pairs"):
        events = {"path": "f.tsv", "explode": explode}
        lines_ = ["user\titem\tlabel"]
        lines_ += [
            f"{u}\t{' '.join(i)}\t{' '.join(map(str, c))}"
            for u, i, c in zip(users, items, clicks, strict=True)
        ]
        if kind == "pairs":
            pairs = [
                [f"{i}-{c}" for i, c in zip(*row, strict=True)] for row in zip(items, clicks, strict=True)
            ]
            lines_ = [
                "user\timpressions",
                *(f"{u}\t{' '.join(p)}" for u, p in zip(users, pairs, strict=True)),
            ]
            explode["columns"] = ["impressions"]
            changes = {
                "derive": {
                    "item": {"extract": "impressions", "pattern": "^(.*)-[01]$"},
                    "label": {"extract": "impressions", "pattern": "-([01])$"},
                },
                "split": {"by": "hash", "of": "user", "eval": 0.3},
            }
        (tmp_path / "f.tsv").write_text("\n".join(lines_) + "\n")
    elif kind == "json":
        events = {"path": "f.jsonl", "explode": explode}
        entries = [{"user": u, "item": i, "label": c} for u, i, c in zip(users, items, clicks, strict=True)]
        (tmp_path / "f.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    else:
        events = {"path": "f.parquet", "explode": explode}
        column = pa.array(items, pa.list_(pa.string(), 3)) if kind == "fixed" else pa.array(items)
        pq.write_table(
            pa.table({"user": users, "item": column, "label": pa.array(clicks)}), tmp_path / "f.parquet"
        )
    counted, rows = run(tmp_path, events, **changes)
    assert counted.counts["rejected"] == 0
    assert rows == tidy(
        (u, i, float(c), float(at))
        for u, row, clicked in zip(users, items, clicks, strict=True)
        for at, (i, c) in enumerate(zip(row, clicked, strict=True), 1)
    )


def test_lists_that_do_not_fit_are_one_rejected_row_each(tmp_path):
    good = "".join(f"u{n}\ta|b|c\t1|0|1\t2\n" for n in range(20))
    (tmp_path / "f.tsv").write_text("user\titem\tlabel\tprice\n" + good + "v\ta|b\t1\t2\nw\t\t\t2\n")
    counted, _ = run(tmp_path, {"path": "f.tsv", "explode": {"columns": ["item", "label"]}})
    assert counted.counts["read"] == 62
    assert [(e["line"], e["reason"]) for e in read_rejected(tmp_path / "run")] == [
        (22, "explode has lists of different lengths: 2 and 1"),
        (23, "explode has an empty list"),
    ]
