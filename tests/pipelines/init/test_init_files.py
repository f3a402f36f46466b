"""The files of a log, in whatever form: what `ranker init` writes reads every row of them, or one line says why not."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.init import propose
from ranker.errors import UserError
from tests.pipelines.init.small_logs import click_rows, proposed, write_log, write_table


@pytest.mark.parametrize(
    ("delimiter", "number", "encoding"),
    [
        (",", lambda v: f"{v:.2f}", "utf-8"),
        (";", lambda v: f"{v:.2f}".replace(".", ","), "cp1252"),
        ("\t", lambda v: f"{v:,.2f}", "utf-8"),
        ("::", lambda v: f"{v:.0f}", "utf-8"),
    ],
)
def test_a_log_with_names_is_described_from_its_rows(tmp_path, delimiter, number, encoding):
    text, experiment, checked = proposed(tmp_path, write_log(tmp_path, delimiter, number, encoding=encoding))
    data, features = experiment.data, experiment.features
    assert data.events.path == "clicks.csv"
    assert (data.label, data.request, data.item.column) == ("clicked == 1", ("SessionID",), "item_id")
    assert (data.timestamp, data.split.by, data.events.null_values) == ("when", "time", ("NULL",))
    assert data.tables["items"].key == "item_id"
    assert features["price"].kind == "numeric"
    assert features["item_id"].role == "item"
    assert "SessionID" not in features, "no session comes back"
    assert (features["tags"].multivalued, features["tags"].role) == ("|", "item")
    assert "clicked" not in features
    assert checked.rejections.rows == 0
    assert "50 distinct, 8.0 rows each" in text


def test_a_log_without_names_asks_for_them(tmp_path):
    text, experiment, _ = proposed(tmp_path, write_log(tmp_path, header=False)[1:])
    assert experiment.data.events.columns == tuple(f"column_{n}" for n in range(1, 7))
    assert experiment.data.label == "column_6 == 1"
    assert "give the columns their names" in text


def test_parquet_and_json_lists_are_multivalued_features(tmp_path):
    rows = [
        {"user_id": f"u{n % 9}", "doc_id": n % 31, "topics": ["a", f"t{n % 5}"], "label": n % 3 == 0}
        for n in range(300)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    for name in ("log.jsonl", "log.parquet"):
        _, experiment, checked = proposed(tmp_path, [tmp_path / name])
        assert experiment.features["topics"].multivalued == "|"
        assert (experiment.data.request, experiment.item) == (("user_id",), "doc_id")
        assert checked.rejections.rows == 0


def test_lists_in_brackets_names_in_any_letters_and_trailing_delimiters(tmp_path):
    head = "Nutzer ID\tArtikel\tgekauft?\tTags\n"
    body = [f"n{n % 9}\ta{n % 31}\t{['ja', 'nein'][n % 2]}\t['t{n % 3}', 't{n % 4}']\t\n" for n in range(200)]
    (tmp_path / "log.tsv").write_text(head + "".join(body).replace("ja", "yes").replace("nein", "no"))
    _, experiment, checked = proposed(tmp_path, [tmp_path / "log.tsv"])
    assert experiment.data.label == "gekauft == 1"
    assert experiment.features["Tags_list"].multivalued == ", "
    assert checked.rejections.rows == 0


def test_a_directory_stands_for_its_data_files(tmp_path, monkeypatch):
    for day in (1, 2):
        part = tmp_path / "clicks.parquet" / f"dt=2024-01-0{day}"
        part.mkdir(parents=True)
        rows = [
            {"user_id": user, "item_id": item, "clicked": click} for _, user, item, click in click_rows(90)
        ]
        pq.write_table(pa.Table.from_pylist(rows), part / "part-0.snappy.parquet")
        (part / ".part-0.snappy.parquet.crc").write_bytes(b"crc")
    (tmp_path / "clicks.parquet" / "_SUCCESS").write_text("")
    monkeypatch.chdir(tmp_path)
    _, experiment, checked = proposed(tmp_path, [Path("clicks.parquet")])
    assert (experiment.data.events.path, experiment.data.timestamp) == ("clicks.parquet", "dt")
    assert checked.rows_read == 180
    _, experiment, _ = proposed(tmp_path, [Path("clicks.parquet/dt=2024-01-01/part-0.snappy.parquet")])
    assert experiment.data.timestamp is None, "a path from here, and a partition with one value"


def test_objects_that_leave_fields_out_and_lists_of_objects(tmp_path):
    for part in range(2):
        lines = []
        for n, user, item, click in click_rows():
            row = {
                "user_id": user,
                "item_id": item,
                "clicked": bool(click),
                "price": n % 9,
                "seen": [{"id": 1}],
            }
            row["shop"] = {"city": ["Bonn", "Rom"][n % 2]} if n % 3 else None
            if part:
                del row["price"]
            lines.append(json.dumps(dict(sorted(row.items(), reverse=bool(part)))) + "\n")
        (tmp_path / f"export-00{part}.json").write_text("".join(lines))
    paths = sorted(tmp_path.glob("export-*.json"))
    _, experiment, checked = proposed(tmp_path, paths)
    assert len(experiment.data.events.path) == 2
    assert set(experiment.features) == {"user_id", "item_id", "price", "shop.city"}
    assert (checked.rows_read, checked.rejections.rows) == (800, 0)


def test_rows_named_as_r_does_and_numbers_too_large_for_a_model(tmp_path):
    rows = [
        f'"{n}" "{user}" "{item}" {n % 9 if n % 8 else 1e300} {click}\n'
        for n, user, item, click in click_rows()
    ]
    (tmp_path / "log.txt").write_text('"user" "item" "price" "clicked"\n' + "".join(rows))
    _, experiment, checked = proposed(tmp_path, [tmp_path / "log.txt"])
    assert experiment.data.events.columns == ("row_name", "user", "item", "price", "clicked")
    assert experiment.data.events.null_values == ("1e+300",)
    assert checked.rejections.rows == 0


def test_files_of_a_log_that_are_empty_or_differ(tmp_path):
    names = ["user", "item", "clicked", "price"]
    rows = [(user, item, click, n % 7) for n, user, item, click in click_rows()]
    first = write_table(tmp_path / "log-1.tsv", rows, names)
    turned = write_table(tmp_path / "log-2.tsv", [row[::-1] for row in rows], names[::-1])
    (tmp_path / "log-3.tsv").write_text("")
    text, experiment, checked = proposed(tmp_path, [first, turned, tmp_path / "log-3.tsv"])
    assert experiment.data.events.path == ("log-1.tsv", "log-2.tsv")
    assert (checked.rows_read, checked.rejections.rows) == (800, 0)
    assert "log-3.tsv: nothing is in it" in text
    renamed = write_table(tmp_path / "log-4.tsv", rows, [*names[:3], "cost"])
    text, _, _ = proposed(tmp_path, [first, renamed])
    assert "log-4.tsv: is it a part of the log? It has the label, but its columns differ" in text
    (tmp_path / "log.bin").write_bytes(random.Random(1).randbytes(5000))
    with pytest.raises(UserError, match=r"log.bin: is no text"):
        propose([tmp_path / "log.bin"], 100)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'user': 1, 'items': []}\n" * 9, "Python literals and no JSON"),
        ("1:\n" + "7,3,2005-09-06\n" * 9, "stand above the rows that they belong to"),
        (
            "".join(
                ("0 " * 20 + "3 1 5 2 4 ")[at:] + ("0 " * 20 + "3 1 5 2 4 ")[:at] + "\n"
                for at in range(0, 50, 2)
            ),
            "is a matrix of 25 columns, with 0",
        ),
    ],
)
def test_layouts_that_are_no_rows_are_refused(tmp_path, text, message):
    (tmp_path / "log.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        propose([tmp_path / "log.txt"], 1000)


def test_files_that_cannot_be_described_are_one_line(tmp_path):
    (tmp_path / "log.csv").write_text("a,b\nx,y\nz,w\n")
    with pytest.raises(UserError, match=r"no column can be a label: .*there is: a, b"):
        propose([tmp_path / "log.csv"], 100)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match=r"empty.csv: is empty"):
        propose([tmp_path / "empty.csv"], 100)
    with pytest.raises(UserError, match="no such file"):
        propose([tmp_path / "absent.csv"], 100)
