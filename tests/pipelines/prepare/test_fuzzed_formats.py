"""Dirty files of every format: a line is one row or one rejected line, whatever stands beside it and however it is cut."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.prepare.read import lines, reading
from ranker.config import build
from tests.pipelines.prepare.small_files import contents, read_all, read_rejected

CSV = {"columns": ["user", "item", "label", "price"]}
GOOD = {  # lines that are one row each
    "csv": ["u1,i1,1,2", '"u 2","i,""2""",0,"3"', "u3,,1,", "ü,é,true,1e3", "u5,i5,no,\\N", "  u6,i6,1, 7 "],
    "thousands": ['u1,i1,1,"3,830.50"', "u2,i2,0,830", "u3,i3,1,-1", 'u4,i4,yes,"1,000,000"', "u5,i5,f,NULL"],
    "json": [
        '{"user": 1, "item": "a", "label": true, "price": 2.5}',
        '{"user": "x", "item": null, "label": 0}',
        ' {"item": 7.0, "user": 12345678901234567890, "label": 1, "price": "3"}',
        '{"user":"é","item":"é","label":"yes"}',
        '{"user": "2024-01-01", "item": "2024-01-01T00:00:00", "label": false, "more": {"x": [1]}}',
    ],
    "german": [
        "u1;i1;1;3.830,50",
        "u2;i2;0;0,5",
        "u3;ü;t;-1",
        "u4;i4;Y;n.a.",
        "0012;i5;FALSE;1.000.000",
        "u6;;N;",
    ],
    "latin": ["u1,é,1,2", '"ü","i,2",no,3', "u3,i3,1,", "u4,i4,T,-"],
    "wide": ["u1,é,1,2", '"ü","i,2",no,3', "u3,i3,1,", "u4,日本,F,-"],
    "lists": [
        '{"user": 1, "item": ["a", "b"], "label": [0, 1], "price": -999}',
        '{"user": "é", "item": [1, null], "label": [true, false]}',
        '{"user": 2, "item": ["2024-01-01", "x"], "label": ["yes", "N"], "price": 1.5}',
    ],
    "libsvm": ["1 qid:1 1:0.5 3:2", "-1 qid:2 2:1e-3 # note", "0 qid:1", "1\tqid:9\t300:1", "2 1:1 2:3"],
}
BAD = {
    "csv": [
        "u1,i1,1",
        "u1,i1,1,2,3",
        'u1,"i1,1,2',
        'u1,"i"x,1,2',
        "u1,i1,maybe,2",
        "u1,i1,1,x",
        ",i,1,2",
        "a\0,i,1,2",
    ],
    "thousands": ["u1,i1,1,3,830.50", 'u1,i1,1,"3.830,5"', 'u1,i1,1,"1,2"', "u1,i1,1,N/A"],
    "json": [
        "{",
        "[1]",
        "7",
        '"text"',
        '{"user": {"a": 1}, "label": 1}',
        '{"user": 1, "label": 1} {}',
        '{"user": "", "label": 1}',
        "nope",
        '{"user":"é","item":[1,"b"],"label":"yes"}',
        '{"user": 1, "item": [[1]], "label": 1}',
        '{"user": 1, "label": 3}',
    ],
    "german": ["u1;i1;1;3,830.50", "u1;i1;1;1.5", "u1;i1;1", "u1;i1;1;2;", "u1;i1;oui;1", ";i1;1;1"],
    "latin": ["u1,i1,1", "u1,i1,é,2", "u1,i1,1,x", '"é'],
    "wide": ["u1,i1,1", "u1,i1,é,2", "u1,i1,1,x", '"é', "a\0,i,1,2"],
    "lists": [
        '{"user": 1, "item": ["a", "b"], "label": [0]}',
        '{"user": 1, "item": [], "label": []}',
        '{"user": 1, "item": "a", "label": []}',
        '{"user": 1, "item": [{"a": 1}], "label": [1]}',
    ],
    "libsvm": ["1 qid:1 x", "1 qid:1 1:2 1:3", "1 qid:1 1:a", "one qid:1 1:2", "7 qid:1 1:2:3", "1 qid:1 :3"],
}
SOURCES = {
    "csv": {"path": "f.csv", "quote": '"', "comment": "#", "null_values": ["\\N"], **CSV},
    "thousands": {"path": "f.csv", "thousands": ",", "null_values": ["NULL"], **CSV},
    "german": {
        "path": "f.csv",
        "delimiter": ";",
        "decimal": ",",
        "thousands": ".",
        "integers": ["user"],
        "null_values": ["n.a."],
        **CSV,
    },
    "latin": {"path": "f.csv", "encoding": "latin-1", "null_values": ["-"], **CSV},
    "wide": {"path": "f.csv", "encoding": "utf-16", "null_values": ["-"], **CSV},
    "lists": {
        "path": "f.jsonl",
        "explode": {"columns": ["item", "label"]},
        "null_values": [-999],
        "columns": ["user", "item", "label", "price"],
    },
    "json": {"path": "f.jsonl", "columns": ["user", "item", "label", "price"]},
    "libsvm": {"path": "f.svm", "rename": {"qid": "user", "f1": "price"}, "row_id": "item"},
}
ENTRIES = {"lists": 2}  # rows of one good line
LABELS = {"libsvm": "label >= 1"}


def experiment(root, kind):
    return build(
        {
            "name": "t",
            "data": {
                "root": str(root),
                "events": SOURCES[kind],
                "label": LABELS.get(kind, "label"),
                "max_rejected": None,
                "request": ["item"] if kind == "libsvm" else ["user"],
                "split": {"by": "hash", "of": "user"},
            },
            "features": {
                "user": {"kind": "categorical", "role": "context"},
                "item": {"kind": "categorical", "role": "item"},
                "price": {"kind": "numeric", "role": "item"},
            },
        },
        "t",
    )


@pytest.mark.parametrize("kind", sorted(GOOD))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_each_line_is_a_row_or_rejected(tmp_path, monkeypatch, kind, data):
    empty = ["", "# a, comment"] if kind in ("csv", "libsvm") else [""]
    choices = st.one_of(*(st.sampled_from(pool) for pool in (GOOD[kind], BAD[kind], empty)))
    body = data.draw(st.lists(choices, min_size=1, max_size=30))
    body.append(GOOD[kind][0])
    newline = data.draw(st.sampled_from(["\n", "\r\n"]))
    (tmp_path / SOURCES[kind]["path"]).write_bytes(
        newline.join(body).encode(SOURCES[kind].get("encoding", "utf-8"))
    )
    expected = [number for number, line in enumerate(body, 1) if line in BAD[kind]]
    if kind in (
        "csv",
        "latin",
        "wide",
    ):  # two broken quotes may make one record of several lines: then both are where a writer put them
        pairs = [line.count('"') % 2 for line in body]
        expected = None if sum(pairs) > 1 else expected
    seen = []
    for block, piece in [
        (1 << 20, 1 << 20),
        (data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300))),
    ]:
        monkeypatch.setattr(reading, "BLOCK_BYTES", block)
        monkeypatch.setattr(lines, "PIECE_BYTES", piece)
        counted = read_all(experiment(tmp_path, kind), tmp_path / "run")
        seen.append(contents(tmp_path / "run"))
        if expected is not None:
            assert [entry["line"] for entry in read_rejected(tmp_path / "run")] == expected
            good_rows = ENTRIES.get(kind, 1) * sum(line in GOOD[kind] for line in body)
            assert counted.counts["read"] == good_rows + sum(line in BAD[kind] for line in body)
    assert seen[0] == seen[1]
