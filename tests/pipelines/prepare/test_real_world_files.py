"""Files as other tools write them: each kind is read from end to end, and what is bad in it is rejected with its line."""

import bz2
import gzip
import json
import lzma
import re
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.prepare.plan import make_plan
from pipelines.prepare.preview import preview
from pipelines.prepare.read import json_lines, lines, reading
from pipelines.prepare.read.columns import as_text, decode
from pipelines.prepare.read.json_lines import JsonFields
from pipelines.prepare.read.lines import Lines
from pipelines.prepare.rows import EVAL, LINE, ORDER, TIME
from ranker.config import build
from ranker.errors import UserError

ROWS = [(f"u{n % 7}", f"i{n % 11}", n % 2, 1.5 * n) for n in range(60)]


def experiment(root, events, **changes):
    data = {
        "root": str(root), "events": {"path": "f.csv", **events}, "label": "label == 1", "request": ["user"],
        "split": {"by": "hash", "of": ["user", "item"], "eval": 0.3}, "shards": 1, "max_rejected": None,
    }  # fmt: skip
    features = {
        "user": {"kind": "categorical", "role": "context"},
        "item": {"kind": "categorical", "role": "item"},
        "price": {"kind": "numeric", "role": "item"},
    }
    data.update({key: value for key, value in changes.items() if key != "features"})
    features.update(changes.get("features", {}))
    return build({"name": "t", "data": data, "features": features}, "test")


def read_all(config, directory):
    """What the readers and the cleaner make of a log, without an engine: quick enough for many kinds of files."""
    directory.mkdir(parents=True, exist_ok=True)
    seen = preview(make_plan(config), directory, 1 << 60)
    rows = [row for batch in seen.rows for row in batch.to_pylist()]
    for row in rows:
        row.update({k: None if v != v else "" if v is None else v for k, v in row.items()})
    split = config.data.split
    if split.by == "time":
        rows.sort(key=lambda row: row[TIME])
        held_out = round(split.eval * len(rows))
        rows = [{**row, EVAL: at >= len(rows) - held_out} for at, row in enumerate(rows)]
    rows.sort(key=lambda row: row[ORDER])
    assert len({row[ORDER] for row in rows}) == len(rows), "two rows have one place in the base order"
    (directory / "rows.json").write_text(json.dumps(rows))
    rejected = seen.rejections.rows
    counts = {"read": len(rows) + rejected, "rejected": rejected, "eval": sum(row[EVAL] for row in rows)}
    counts["train"] = len(rows) - counts["eval"]
    return SimpleNamespace(counts=counts, remarks={remark.subject: remark for remark in seen.remarks})


def rows_of(directory, *names, split=None):
    names = names or ("user", "item", "__label__", "price")
    rows = json.loads((directory / "rows.json").read_text())
    rows = [row for row in rows if split is None or row[EVAL] == (split == "eval")]
    return sorted((tuple(row[name] for name in names) for row in rows), key=repr)


def read_rejected(directory):
    return [json.loads(line) for line in (directory / "events.jsonl").read_text("utf-8").splitlines()]


def contents(directory):
    return [(directory / name).read_bytes() for name in ("rows.json", "events.jsonl")]


def run(tmp_path, events, **changes):
    counted = read_all(experiment(tmp_path, events, **changes), tmp_path / "run")
    return counted, rows_of(tmp_path / "run")


def tidy(rows):
    return sorted(rows, key=repr)


EXPECTED = tidy((user, item, float(label), price) for user, item, label, price in ROWS)


def plain(delimiter=",", number=lambda value: f"{value}", newline="\n", header=True):
    head = [delimiter.join(["user", "item", "label", "price"])] if header else []
    body = [delimiter.join([user, item, str(label), number(price)]) for user, item, label, price in ROWS]
    return newline.join([*head, *body]) + newline


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("sizes", [(1 << 20, 1 << 20), (150, 40)])
def test_a_csv_file_is_quoted_by_default(tmp_path, monkeypatch, newline, sizes):
    monkeypatch.setattr(reading, "BLOCK_BYTES", sizes[0])
    monkeypatch.setattr(lines, "PIECE_BYTES", sizes[1])
    head = '"user","item ""a"", b","label","price"'
    body = [f'"{user}","{item}, ""x""\nnext","{label}","{price}"' for user, item, label, price in ROWS]
    (tmp_path / "f.csv").write_bytes((newline.join([head, *body]) + newline).encode())
    counted, rows = run(tmp_path, {"rename": {'item "a", b': "item"}})
    assert counted.counts["rejected"] == 0
    assert rows == tidy((u, f'{i}, "x"\nnext', label, price) for u, i, label, price in EXPECTED)


def test_quoted_and_broken_lines_are_told_apart_the_same_for_any_block(tmp_path, monkeypatch):
    random = np.random.default_rng(3)
    kinds = [
        'u{0},"i, {1}",1,2', 'u{0},i{1},0,"3.5"', 'u{0},"i\n{1}\nx",1,4', 'u{0},"i{1},1,5', 'u{0},i"{1}",1,6',
        '"u{0}",i{1},0,7',
        'u{0},"a ""b"" {1}",1,8', 'u{0},"i{1}"x,1,9', '', 'u{0},i{1},1', 'u{0},"i\n\n{1}",0,"10"',
    ]  # fmt: skip
    body = [kinds[random.integers(len(kinds))].format(n % 5, n) for n in range(400)]
    (tmp_path / "f.csv").write_text("user,item,label,price\n" + "\n".join(body) + "\n")
    read_all(experiment(tmp_path, {}), tmp_path / "whole")
    for block, piece in [(1700, 190), (640, 3000)]:
        monkeypatch.setattr(reading, "BLOCK_BYTES", block)
        monkeypatch.setattr(lines, "PIECE_BYTES", piece)
        read_all(experiment(tmp_path, {}), tmp_path / f"pieces{block}")
        assert contents(tmp_path / "whole") == contents(tmp_path / f"pieces{block}")
    texts = (tmp_path / "f.csv").read_text().split("\n")
    for entry in read_rejected(tmp_path / "whole"):
        assert entry["text"].split("\n")[0] == texts[entry["line"] - 1]


@pytest.mark.parametrize("marker", ["NULL", "\\N", "NA", "n/a", "-"])
@pytest.mark.parametrize("format_", ["csv", "json", "parquet"])
def test_null_values_are_missing_everywhere(tmp_path, marker, format_):
    values = {"user": ["a", marker, "b", "c"] * 5, "item": ["x", "y", marker, "z"] * 5,
              "label": ["1", "0", "1", "0"] * 5, "price": ["1", "2", "3", marker] * 5}  # fmt: skip
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
def test_null_values_are_missing_among_typed_values_too(tmp_path, monkeypatch, format_):
    prices = [-999, 1, 2, -999, 3] * 4
    table = pa.table({
        "user": [0, 1, 2, 3, 4] * 4, "item": [-999, 7, 8, 9, 5] * 4, "label": [1, 0, 1, 1, 0] * 4, "price": prices,
        "half": [price / 2 for price in prices], "tags": [["NULL", "a"], ["b"]] * 10,
    })  # fmt: skip
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
        "half": {"kind": "numeric", "role": "item"}, "tags": {"kind": "categorical", "role": "item", "multivalued": "|"},
    }  # fmt: skip
    events = {"path": f"f.{format_}", "null_values": [-999, -499.5, "NULL"]}
    for piece in (1 << 20, 150):
        monkeypatch.setattr(lines, "PIECE_BYTES", piece)
        run(tmp_path, events, features=features)
        rows = rows_of(tmp_path / "run", "item", "price", "half", "tags")
        assert {row[0] for row in rows} == {"", "7", "8", "9", "5"}
        assert {row[1] for row in rows} == {None, 1.0, 2.0, 3.0}
        assert {row[2] for row in rows} == {None, 0.5, 1.0, 1.5}
        assert {row[3] for row in rows} == {"a", "b"}


@pytest.mark.parametrize(
    ("events", "number"),
    [
        ({"delimiter": ";", "decimal": ",", "thousands": "."}, lambda v: f"{v + 3830:,.2f}".translate({44: 46, 46: 44})),
        ({"thousands": ",", "quote": '"'}, lambda v: f'"{v + 3830:,.2f}"'),
        ({"delimiter": "\t", "thousands": " ", "decimal": ","}, lambda v: f"{v + 3830:,.1f}".translate({44: 32, 46: 44})),
        ({"delimiter": "\t", "thousands": "'"}, lambda v: f"{v + 3830:,.1f}".replace(",", "'")),
        ({"delimiter": "|", "thousands": ","}, lambda v: f"{v + 3830:.1f}"),
    ],
)  # fmt: skip
def test_numbers_as_other_countries_write_them(tmp_path, events, number):
    (tmp_path / "f.csv").write_text(plain(events.get("delimiter", ","), number))
    counted, rows = run(tmp_path, events, label="label == 1 and price >= 3830")
    assert counted.counts["rejected"] == 0
    assert rows == [(u, i, label, price + 3830) for u, i, label, price in EXPECTED]


def test_a_number_in_another_format_is_rejected_and_not_another_number(tmp_path):
    body = "u;i;1;1,5\nv;j;0;1.5\nw;k;1;1.234,5\nx;l;0;1.2.345\n" * 3
    (tmp_path / "f.csv").write_text("user;item;label;price\n" + body)
    counted, rows = run(tmp_path, {"delimiter": ";", "decimal": ",", "thousands": "."})
    assert sorted({row[3] for row in rows}) == [1.5, 1234.5]
    assert {entry["reason"] for entry in read_rejected(tmp_path / "run")} == {
        "price is not a finite number: '1.5'", "price is not a finite number: '1.2.345'",
    }  # fmt: skip
    assert counted.counts["rejected"] == 6


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ({"skip_lines": 2}, 'made by "x, 3\nmade on, Monday\n' + plain()),
        ({"comment": "#"}, "# made by x, y, z\n#\n" + plain().replace("\nu3", "\n# no row\nu3", 3)),
        ({"header": True, "columns": ["user", "item", "label", "price"]}, "a,b,c,d\n" + plain(header=False)),
        ({"header": False, "columns": ["user", "item", "label", "price"]}, plain(header=False)),
        (
            {"columns": ["user", "item", "label", "price"], "skip_lines": 1},
            "nonsense\n" + plain(header=False),
        ),
        ({"skip_lines": 1, "comment": "//"}, "x\n// y\n\n" + plain()),
        ({"path": "f.tsv"}, plain("\t")),
    ],
)
@pytest.mark.parametrize("block", [1 << 20, 50])
def test_what_stands_before_and_between_the_rows(tmp_path, monkeypatch, events, text, block):
    monkeypatch.setattr(reading, "BLOCK_BYTES", block)
    (tmp_path / events.get("path", "f.csv")).write_text(text)
    counted, rows = run(tmp_path, events)
    assert (counted.counts["rejected"], rows) == (0, EXPECTED)


def test_lines_are_counted_from_the_beginning_of_the_file(tmp_path, monkeypatch):
    text = "x\nx\nx\n# c\n" + plain().replace("u3,i3,1,4.5", "u3,i3") + "bad\n"
    expected = [n for n, line in enumerate(text.split("\n"), 1) if line in ("u3,i3", "bad")]
    (tmp_path / "f.csv").write_text(text)
    for block in (1 << 20, 40, 3):
        monkeypatch.setattr(reading, "BLOCK_BYTES", block)
        for quote in ('"', None):
            events = {"skip_lines": 3, "comment": "#", "quote": quote}
            read_all(experiment(tmp_path, events), tmp_path / f"run{block}{quote}")
            assert [e["line"] for e in read_rejected(tmp_path / f"run{block}{quote}")] == expected


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress),
        (".zst", zstandard.ZstdCompressor().compress),
    ],
)  # fmt: skip
def test_compressed_files_whole_in_parts_and_cut(tmp_path, suffix, compress):
    data = plain().encode()
    (tmp_path / f"f.csv{suffix}").write_bytes(compress(data[:500]) + compress(data[500:]))
    counted, rows = run(tmp_path, {"path": f"f.csv{suffix}"})
    assert (counted.counts["rejected"], rows) == (0, EXPECTED)
    noise = "".join(f"u{n},i{n},1,{n * 7919 % 10007}\n" for n in range(20_000)).encode()
    whole = compress(b"user,item,label,price\n" + noise)
    (tmp_path / f"f.csv{suffix}").write_bytes(whole[: len(whole) // 2])
    if suffix == ".bz2":  # which works in blocks of 900 kB: nothing of the first one can be had
        with pytest.raises(UserError, match="truncated bzip2"):
            run(tmp_path, {"path": f"f.csv{suffix}"})
    else:
        counted, _ = run(tmp_path, {"path": f"f.csv{suffix}"})
        assert counted.counts["train"] > 4_000
        assert read_rejected(tmp_path / "run")[-1]["reason"].startswith("truncated ")
    damaged = bytearray(compress(data))
    damaged[len(damaged) // 2] ^= 0xFF
    (tmp_path / f"f.csv{suffix}").write_bytes(bytes(damaged))
    try:
        counted, _ = run(tmp_path, {"path": f"f.csv{suffix}"})
        assert counted.counts["rejected"]
    except UserError as error:  # nothing but damage
        assert re.search("damaged|truncated|no such|unreadable", str(error))  # noqa: PT017


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x04\x22\x4d\x18", b"7z\xbc\xaf", b"\x1f\x9d"])
def test_other_compressions_are_refused_by_name(tmp_path, head):
    (tmp_path / "f.csv").write_bytes(head + b"\0" * 100)
    with pytest.raises(UserError, match=r"is compressed with .*, which cannot be read; use gzip"):
        run(tmp_path, {})


def test_names_in_any_letters(tmp_path):
    (tmp_path / "f.csv").write_text(
        plain().replace("user,item,label,price", "User ID,Produit №,gekauft?,Prix (€)")
    )
    rename = {"User ID": "user", "Produit №": "item", "Prix (€)": "price"}
    _, rows = run(tmp_path, {"rename": rename}, label="`gekauft?` == 1")
    assert rows == EXPECTED
    with pytest.raises(UserError, match=r"no column 'Usr', which rename names; it has: User ID, "):
        run(tmp_path, {"rename": {"Usr": "user"}})
    with pytest.raises(UserError, match=r"no column 'user', which features.user needs"):
        run(tmp_path, {})


def test_json_lines(tmp_path, monkeypatch):
    objects = [
        {"user": {"id": user, "tags": ["a", "b"]}, "item": n % 11, "label": bool(label), "price": price,
         "when": "2024-01-01"}
        for n, (user, _, label, price) in enumerate(ROWS)
    ]  # fmt: skip
    objects[3]["item"], objects[4]["item"] = "3", 4.0
    del objects[5]["price"]
    text = [json.dumps(entry) for entry in objects]
    bad = [
        "{", "[1]", '{"user": 3, "item": 1}', "nope", '{"user": {"id": "u"}, "item": {"x": 1}, "label": true}',
        '{"user": {"id": "u"}, "item": 1, "label": "maybe"}',
    ]  # fmt: skip
    for place, line in zip((0, 10, 20, 30, 40, 50), bad, strict=True):
        text.insert(place, line)
    text.insert(7, "")
    (tmp_path / "f.jsonl").write_text("\n".join(text))
    features = {
        "tags": {"kind": "categorical", "role": "context", "multivalued": "|"},
        "when": {"kind": "categorical", "role": "context"},
    }
    events = {"path": "f.jsonl", "rename": {"user.id": "user", "user.tags": "tags"}}
    changes = {"label": "label", "features": features}
    counted, rows = run(tmp_path, events, **changes)
    expected = [
        (user, str(n % 11), float(label), None if n == 5 else price) for n, (user, _, label, price) in enumerate(ROWS)
    ]  # fmt: skip
    assert rows == tidy(expected)
    assert rows_of(tmp_path / "run", "tags", "when")[0] == ("a|b", "2024-01-01")
    rejected = read_rejected(tmp_path / "run")
    assert [entry["line"] for entry in rejected] == [n for n, line in enumerate(text, 1) if line in bad]
    assert [entry["reason"].partition(":")[0] for entry in rejected] == [
        "is not a JSON object", "is not a JSON object", "user has no field 'id'", "is not a JSON object",
        "item is an object; name one of its fields, such as item.x", "label cannot be computed",
    ]  # fmt: skip
    assert counted.counts["read"] == 66
    monkeypatch.setattr(reading, "BLOCK_BYTES", 300)
    monkeypatch.setattr(lines, "PIECE_BYTES", 100)
    read_all(experiment(tmp_path, events, **changes), tmp_path / "pieces")
    assert contents(tmp_path / "run") == contents(tmp_path / "pieces")


def test_json_pieces_and_lines_give_the_same(tmp_path, monkeypatch):
    values = [
        1,
        2.5,
        "7",
        "2024-01-01T00:00:00",
        True,
        None,
        12345678901234567890,
        9007199254740993,
        1e300,
        "é",
        7.0,
        -0.0,
    ]
    objects = [
        {"user": values[n % 12], "item": values[n // 12 % 12], "label": n % 2, "price": n} for n in range(144)
    ]
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in objects))
    read_all(experiment(tmp_path, {"path": "f.jsonl"}), tmp_path / "run")
    for piece in (1, 100, 1000):
        monkeypatch.setattr(lines, "PIECE_BYTES", piece)
        read_all(experiment(tmp_path, {"path": "f.jsonl"}), tmp_path / f"run{piece}")
        assert contents(tmp_path / "run") == contents(tmp_path / f"run{piece}")
    users = {row[0] for row in rows_of(tmp_path / "run")}
    assert {"1", "2.5", "7", "true", "12345678901234567890", "9007199254740993"} <= users


JSON_TEXTS = ["", "7", "NULL", "2024-01-01", "2024-01-01T00:00:00Z", "12:00:00", "é"]
JSON_NUMBERS = (
    st.integers(-(2**70), 2**70) | st.integers(0, 9) | st.floats(allow_nan=False, allow_infinity=False)
)
JSON_VALUES = st.none() | st.booleans() | JSON_NUMBERS | st.sampled_from(JSON_TEXTS)
JSON_OBJECTS = st.fixed_dictionaries({}, optional={"x": JSON_VALUES})
JSON_FIELDS = {
    "user": st.fixed_dictionaries({}, optional={"id": JSON_VALUES, "more": JSON_OBJECTS}),
    "item": JSON_VALUES,
    "tags": st.lists(JSON_VALUES, max_size=3),
    "price": JSON_VALUES,
}


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_json_lines_together_and_each_alone_give_the_same(data):
    kinds = {
        name: data.draw(st.sampled_from([values, JSON_VALUES, st.none()]))
        for name, values in JSON_FIELDS.items()
    }
    rows = data.draw(st.lists(st.fixed_dictionaries({}, optional=kinds), min_size=1, max_size=6))
    lines_of_text = [json.dumps(row) for row in rows]
    odd = st.sampled_from(
        ["", " ", "{} {}", '{"user":', "1}", '{"item": "x"', "}", " {} ", "{}\r", "{", "[{}"]
    )
    for line in data.draw(st.lists(odd, max_size=3)):
        lines_of_text.insert(data.draw(st.integers(0, len(lines_of_text))), line)
    text = "".join(line + "\n" for line in lines_of_text).encode()
    paths = {
        ".".join(path): path
        for path in (("user", "id"), ("user", "more", "x"), ("item",), ("tags",), ("price",))
    }
    piece = Lines(text, 0, 0, len(lines_of_text))
    good, bad = json_lines.parse(piece, JsonFields(paths), 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "_read_together", lambda *_: None)
        good_alone, bad_alone = json_lines.parse(piece, JsonFields(paths), 0)
    assert (bad is None) == (bad_alone is None)
    assert bad is None or bad.equals(bad_alone), "in the order of the lines"
    assert texts_of(good, paths) == texts_of(good_alone, paths)


def texts_of(batches, names):
    rows = {}
    for batch in batches:
        columns = [decode(as_text(batch.column(name))).to_pylist() for name in names]
        rows.update(zip(batch.column(LINE).to_pylist(), zip(*columns, strict=True), strict=True))
    return rows


def svm(tmp_path, name="f.svm", groups=False, start=0):
    text = ["# made by x"]
    for n in range(40):
        query = "" if groups else f" qid:{n // 4}"
        text.append(f"{n % 3}{query} 1:{n} 3:{n / 2} {10 + n % 5}:1 # doc{n + start}")
    (tmp_path / name).write_text("\n".join(text) + "\n")
    return text


SVM = {"label": "label >= 1", "request": ["qid"], "split": {"by": "hash", "of": "qid", "eval": 0.3}}


def svm_features(*names):
    features = {name: {"kind": "numeric", "role": "item"} for name in names}
    return {"features": {**features, "document": {"kind": "categorical", "role": "item"}}}


def without_defaults(config):
    tree = config.model_dump(mode="json")
    for name in ("user", "item", "price"):
        del tree["features"][name]
    return build(tree, "test")


def test_libsvm_with_query_ids(tmp_path):
    svm(tmp_path)
    with (tmp_path / "f.svm").open("a") as sink:
        sink.write("1 qid:3 1:x 3:1\n1 qid:3 1\n2 qid:3 1:1 1:2\n")
    changes = {**SVM, **svm_features("f1", "f3", "f12", "f99")}
    config = without_defaults(experiment(tmp_path, {"path": "f.svm", "row_id": "document"}, **changes))
    read_all(config, tmp_path / "run")
    rows = rows_of(tmp_path / "run", "__request__", "__label__", "f1", "f3", "f12", "f99")
    assert rows == tidy(
        (str(n // 4), float(n % 3 >= 1), float(n), n / 2, float(n % 5 == 2), 0.0) for n in range(40)
    )
    assert [(e["line"], e["reason"]) for e in read_rejected(tmp_path / "run")] == [
        (42, "has an entry that is not index:number: '1:x'"), (43, "has an entry that is not index:number: '1'"),
        (44, "has an index twice: 1"),
    ]  # fmt: skip
    assert len({row[0] for row in rows_of(tmp_path / "run", "document")}) == 40


def test_libsvm_with_a_file_of_group_sizes_and_a_split_by_file(tmp_path):
    for name in ("rank.train", "rank.test"):
        svm(tmp_path, name, groups=True)
        text = (tmp_path / name).read_text().replace("# made by x\n", "")
        (tmp_path / name).write_text(text)
        (tmp_path / f"{name}.query").write_text("5\n15\n20\n")
    split = {"by": "file", "train": ["rank.train"], "eval": ["*.test"]}
    events = {
        "path": ["rank.train", "rank.test"],
        "format": "svmlight",
        "groups": ".query",
        "row_id": "document",
    }
    changes = {**SVM, **svm_features("f1..f3"), "split": split}
    config = without_defaults(experiment(tmp_path, events, **changes))
    assert list(config.features) == ["f1", "f2", "f3", "document"]
    counted = read_all(config, tmp_path / "run")
    assert (counted.counts["train"], counted.counts["eval"]) == (40, 40)
    requests = [request for (request,) in rows_of(tmp_path / "run", "__request__", split="eval")]
    assert {name: requests.count(name) for name in set(requests)} == {
        "rank.test:0": 5, "rank.test:1": 15, "rank.test:2": 20,
    }  # fmt: skip


def test_libfm_with_fixed_places(tmp_path):
    text = [f"{n % 2 * 2 - 1} {n}:1 {100 + n % 9}:1 {200 + n % 3}:0.5\n" for n in range(50)]
    (tmp_path / "f.libfm").write_text("".join(text) + "1 2:1\n")
    events = {"path": "f.libfm", "columns": ["label", "user", "item", "price"]}
    features = {"price": {"kind": "categorical", "role": "item"}}
    counted, rows = run(tmp_path, events, features=features)
    assert rows == tidy((str(n), str(100 + n % 9), float(n % 2), f"{200 + n % 3}:0.5") for n in range(50))
    assert counted.counts["rejected"] == 1


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
            changes = {"derive": {
                "item": {"extract": "impressions", "pattern": "^(.*)-[01]$"},
                "label": {"extract": "impressions", "pattern": "-([01])$"},
            }, "split": {"by": "hash", "of": "user", "eval": 0.3}}  # fmt: skip
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
        (22, "explode has lists of different lengths: 2 and 1"), (23, "explode has an empty list"),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_partition_columns_come_from_the_path(tmp_path, kind):
    root = tmp_path / "odd [root] x=1"
    for day in ("2024-01-01", "2024-01-02", "__HIVE_DEFAULT_PARTITION__"):
        for country in ("DE", "a%2Fb"):
            folder = root / f"day={day}" / f"country={country}"
            folder.mkdir(parents=True)
            if kind == "csv":
                (folder / "part[0].csv").write_text("user,item,label,price\nu,i,1,2\nv,j,0,3\n")
            else:
                pq.write_table(
                    pa.table({"user": ["u", "v"], "item": ["i", "j"], "label": [1, 0], "price": [2, 3]}),
                    folder / "part[0].parquet",
                )
    features = {name: {"kind": "categorical", "role": "context"} for name in ("day", "country")}
    split = {"by": "hash", "of": "country", "eval": 0.5}
    config = experiment(root, {"path": f"**/*.{kind}"}, features=features, split=split)
    read_all(config, tmp_path / "run")
    rows = rows_of(tmp_path / "run", "day", "country", "user")
    assert rows == tidy(
        (day, country, user) for day in ("2024-01-01", "2024-01-02", "") for country in ("DE", "a/b") for user in "uv"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("yes", "no"),
    [("true", "false"), ("True", "False"), ("TRUE", "FALSE"), ("t", "f"), ("yes", "no"), ("Y", "N"), ("1.0", "0")],
)  # fmt: skip
@pytest.mark.parametrize(
    "label", ["label", "label == 1", "label == true", "label == True and price >= 0", "not (label == false)"]
)
def test_truth_values_in_labels(tmp_path, yes, no, label):
    text = plain().replace(",1,", f",{yes},").replace(",0,", f",{no},")
    (tmp_path / "f.csv").write_text(text)
    counted, rows = run(tmp_path, {}, label=label)
    assert (counted.counts["rejected"], rows) == (0, EXPECTED)


MOMENT = datetime(2001, 2, 3, 4, 5, 6, tzinfo=timezone.utc)


@pytest.mark.parametrize("form", [
    "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S.%f+00:00", "%Y-%m-%d %H:%M:%S UTC", "%Y/%m/%d %H:%M:%S",
    "%d/%b/%Y:%H:%M:%S +0000",
    "%a, %d %b %Y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S UTC %Y", "%d-%b-%Y %H:%M:%S", "%Y%m%dT%H%M%S",
    "%b %d, %Y %I:%M:%S %p", "%s",
])  # fmt: skip
def test_common_forms_of_times(tmp_path, form):
    times = [MOMENT + timedelta(seconds=37 * n) for n in range(60)]
    text = [
        f"{row[0]}|{row[1]}|{row[2]}|{row[3]}|{time:{form}}" for row, time in zip(ROWS, times, strict=True)
    ]
    (tmp_path / "f.txt").write_text("user|item|label|price|at\n" + "\n".join(text) + "\n")
    changes = {"timestamp": "at", "split": {"by": "time", "eval": 0.25}}
    counted, _ = run(tmp_path, {"path": "f.txt", "delimiter": "|"}, **changes)
    assert (counted.counts["rejected"], counted.counts["eval"]) == (0, 15)
    held_out = rows_of(tmp_path / "run", "price", split="eval")
    assert held_out == tidy((row[3],) for row in ROWS[45:])


def test_a_form_that_could_be_mistaken_must_be_named(tmp_path):
    text = "".join(f"u{n},i,{n % 2},{n},{n % 28 + 1:02d}/{n // 28 + 1:02d}/2001\n" for n in range(56))
    (tmp_path / "f.csv").write_text("user,item,label,price,at\n" + text)
    changes = {"timestamp": "at", "split": {"by": "time", "eval": 0.5}}
    counted, _ = run(tmp_path, {}, **changes)
    remark = str(counted.remarks["events"])
    assert re.search(r"56 rejected .*at is not a time: '01/01/2001' .*set data.time_format", remark)
    run(tmp_path, {}, **changes, time_format="%d/%m/%Y")
    assert rows_of(tmp_path / "run", "price", split="eval") == tidy((float(n),) for n in range(28, 56))
    with pytest.raises(UserError, match=r"time_format"):
        experiment(tmp_path, {}, **changes, time_format="day first")


def test_parquet_types(tmp_path):
    rows = 40
    ids = [uuid.UUID(int=n) for n in range(rows)]
    table = pa.table({
        "user": pa.array([{"id": f"u{n % 5}", "age": n} for n in range(rows)]),
        "item": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([value.bytes for value in ids], pa.binary(16))),
        "price": pa.array([Decimal(n) / 4 for n in range(rows)], pa.decimal128(10, 2)),
        "wait": pa.array([timedelta(milliseconds=500 * n) for n in range(rows)], pa.duration("ms")),
        "tags": pa.array([["a", None, f"t{n}"] for n in range(rows)], pa.list_(pa.string(), 3)),
        "code": pa.array([f"c{n % 3}".encode() for n in range(rows)], pa.binary()),
        "day": pa.array([MOMENT.date()] * rows, pa.date32()),
        "half": pa.array(np.arange(rows, dtype=np.float16)),
        "empty": pa.nulls(rows), "large": pa.array(["x"] * rows, pa.large_string()),
        "label": pa.array([n % 2 == 1 for n in range(rows)]),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "f.parquet", row_group_size=7)
    numeric, text = {"kind": "numeric", "role": "item"}, {"kind": "categorical", "role": "item"}
    features = {
        "age": {"kind": "numeric", "role": "item"}, "wait": numeric, "half": numeric, "empty": numeric, "code": text,
        "tags": {**text, "multivalued": "|"}, "day": text, "large": text,
    }  # fmt: skip
    events = {"path": "f.parquet", "rename": {"user.id": "user_id", "user.age": "age"}}
    config = experiment(tmp_path, events, label="label", features=features, request=["user_id"],
                        split={"by": "hash", "of": "item", "eval": 0.3})  # fmt: skip
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
        (f"u{n % 5}", float(n), str(ids[n]), n / 4, n / 2, f"a|t{n}", f"c{n % 3}", "2001-02-03", float(n), None, "x", n % 2)
        for n in range(rows)
    ]  # fmt: skip
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
    table = pa.table({
        "user": [f"u{n % 4}" for n in range(rows)], "item": strings, "label": [n // 2 % 2 for n in range(rows)],
        "price": [str(n) if n % 8 else "free" for n in range(rows)],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "f.parquet")
    counted, rows_read = run(tmp_path, {"path": "f.parquet"})
    reasons = {entry["reason"] for entry in read_rejected(tmp_path / "run")}
    assert reasons == {"item is not utf-8 text: b'\\xff\\xfe'", "price is not a finite number: 'free'"}
    assert (counted.counts["rejected"], len(rows_read)) == (15, 25)


def test_integers_with_a_fraction_of_zeros_join(tmp_path):
    (tmp_path / "f.csv").write_text(
        "user,item,label,price\n" + "".join(f"{n % 9}.0,i{n},{n % 2},1\n" for n in range(60))
    )
    (tmp_path / "users.csv").write_text("user,age\n" + "".join(f"{n},{20 + n}\n" for n in range(9)))
    table = {"users": {"path": "users.csv", "key": "user"}}
    features = {"age": {"kind": "numeric", "role": "context"}}
    counted, _ = run(tmp_path, {}, tables=table, features=features)
    assert re.search(
        r"0 of 60 rows .*'0.0' .*data.events.integers: \[user\]", str(counted.remarks["joins.users"])
    )
    counted, _ = run(tmp_path, {"integers": ["user"]}, tables=table, features=features)
    assert counted.remarks["joins.users"].rows == 0
    assert {row[0] for row in rows_of(tmp_path / "run", "user")} == {str(n) for n in range(9)}


def test_a_split_by_file_names_what_is_in_no_part(tmp_path):
    for name in ("a.csv", "b.csv", "c.csv"):
        (tmp_path / name).write_text(plain())
    events = {"path": "*.csv"}
    with pytest.raises(UserError, match=r"the file c.csv is in neither data.split.train nor data.split.eval"):
        run(tmp_path, events, split={"by": "file", "train": ["a.csv"], "eval": ["b.csv"]})
    with pytest.raises(UserError, match=r"the file b.csv is in both"):
        run(tmp_path, events, split={"by": "file", "train": ["a.csv", "b.csv"], "eval": ["b.csv", "c.csv"]})
    with pytest.raises(
        UserError, match=r"data.split.eval: no file of data.events matches d.csv; there is: a.csv"
    ):
        run(tmp_path, events, split={"by": "file", "train": ["*"], "eval": ["d.csv"]})
    counted, _ = run(tmp_path, events, split={"by": "file", "train": ["[ab].csv"], "eval": ["c.csv"]})
    assert (counted.counts["train"], counted.counts["eval"]) == (120, 60)
