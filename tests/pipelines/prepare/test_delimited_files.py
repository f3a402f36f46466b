"""Delimited text as other tools write it: quotes, number formats, headers, comments, names."""

import re

import numpy as np
import pytest

from pipelines.prepare.read import lines, reading
from ranker.errors import UserError
from tests.pipelines.prepare.small_files import (
    EXPECTED,
    ROWS,
    contents,
    experiment,
    plain,
    read_all,
    read_rejected,
    rows_of,
    run,
    tidy,
)


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
        'u{0},"i, {1}",1,2',
        'u{0},i{1},0,"3.5"',
        'u{0},"i\n{1}\nx",1,4',
        'u{0},"i{1},1,5',
        'u{0},i"{1}",1,6',
        '"u{0}",i{1},0,7',
        'u{0},"a ""b"" {1}",1,8',
        'u{0},"i{1}"x,1,9',
        "",
        "u{0},i{1},1",
        'u{0},"i\n\n{1}",0,"10"',
    ]
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


@pytest.mark.parametrize(
    ("events", "number"),
    [
        (
            {"delimiter": ";", "decimal": ",", "thousands": "."},
            lambda v: f"{v + 3830:,.2f}".translate({44: 46, 46: 44}),
        ),
        ({"thousands": ",", "quote": '"'}, lambda v: f'"{v + 3830:,.2f}"'),
        (
            {"delimiter": "\t", "thousands": " ", "decimal": ","},
            lambda v: f"{v + 3830:,.1f}".translate({44: 32, 46: 44}),
        ),
        ({"delimiter": "\t", "thousands": "'"}, lambda v: f"{v + 3830:,.1f}".replace(",", "'")),
        ({"delimiter": "|", "thousands": ","}, lambda v: f"{v + 3830:.1f}"),
    ],
)
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
        "price is not a finite number: '1.5'",
        "price is not a finite number: '1.2.345'",
    }
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


@pytest.fixture
def odd_names(tmp_path):
    text = plain().replace("user,item,label,price", "User ID,Produit №,gekauft?,Prix (€)")
    (tmp_path / "f.csv").write_text(text)


@pytest.mark.usefixtures("odd_names")
def test_names_in_any_letters_can_be_renamed(tmp_path):
    rename = {"User ID": "user", "Produit №": "item", "Prix (€)": "price"}
    _, rows = run(tmp_path, {"rename": rename}, label="`gekauft?` == 1")
    assert rows == EXPECTED


@pytest.mark.usefixtures("odd_names")
@pytest.mark.parametrize(
    ("events", "message"),
    [
        ({"rename": {"Usr": "user"}}, "no column 'Usr', which rename names; it has: User ID, "),
        ({}, "no column 'user', which features.user needs"),
    ],
)
def test_a_missing_column_is_named(tmp_path, events, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, events)


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ("true", "false"),
        ("True", "False"),
        ("TRUE", "FALSE"),
        ("t", "f"),
        ("yes", "no"),
        ("Y", "N"),
        ("1.0", "0"),
    ],
)
@pytest.mark.parametrize(
    "label", ["label", "label == 1", "label == true", "label == True and price >= 0", "not (label == false)"]
)
def test_truth_values_in_labels(tmp_path, yes, no, label):
    text = plain().replace(",1,", f",{yes},").replace(",0,", f",{no},")
    (tmp_path / "f.csv").write_text(text)
    counted, rows = run(tmp_path, {}, label=label)
    assert (counted.counts["rejected"], rows) == (0, EXPECTED)


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
