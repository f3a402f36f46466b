"""JSON lines: nested objects, lists, lines that cannot be read, and the same rows for any block size."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.prepare.read import json_lines, lines, reading
from pipelines.prepare.read.columns import as_text, decode
from pipelines.prepare.read.json_lines import JsonFields
from pipelines.prepare.read.lines import Lines
from pipelines.prepare.rows import LINE
from tests.pipelines.prepare.small_files import (
    ROWS,
    contents,
    experiment,
    read_all,
    read_rejected,
    rows_of,
    run,
    tidy,
)

JSON_EVENTS = {"path": "f.jsonl", "rename": {"user.id": "user", "user.tags": "tags"}}
JSON_CHANGES = {
    "label": "label",
    "features": {
        "tags": {"kind": "categorical", "role": "context", "multivalued": "|"},
        "when": {"kind": "categorical", "role": "context"},
    },
}
NOT_READ = {
    "{": "is not a JSON object",
    "[1]": "is not a JSON object",
    '{"user": 3, "item": 1}': "user has no field 'id'",
    "nope": "is not a JSON object",
    '{"user": {"id": "u"}, "item": {"x": 1}, "label": true}': (
        "item is an object; name one of its fields, such as item.x"
    ),
    '{"user": {"id": "u"}, "item": 1, "label": "maybe"}': "label cannot be computed",
}


@pytest.fixture
def json_text(tmp_path):
    """The lines of `f.jsonl`: 60 objects, of one the price is missing, and lines that cannot be read."""
    objects = [
        {
            "user": {"id": user, "tags": ["a", "b"]},
            "item": n % 11,
            "label": bool(label),
            "price": price,
            "when": "2024-01-01",
        }
        for n, (user, _, label, price) in enumerate(ROWS)
    ]
    objects[3]["item"], objects[4]["item"] = "3", 4.0
    del objects[5]["price"]
    text = [json.dumps(entry) for entry in objects]
    for place, line in zip((0, 10, 20, 30, 40, 50), NOT_READ, strict=True):
        text.insert(place, line)
    text.insert(7, "")
    (tmp_path / "f.jsonl").write_text("\n".join(text))
    return text


def test_json_lines_become_rows(tmp_path, json_text):
    counted, rows = run(tmp_path, JSON_EVENTS, **JSON_CHANGES)
    assert counted.counts["read"] == 66
    assert rows == tidy(
        (user, str(n % 11), float(label), None if n == 5 else price)
        for n, (user, _, label, price) in enumerate(ROWS)
    )
    assert rows_of(tmp_path / "run", "tags", "when")[0] == ("a|b", "2024-01-01")


def test_json_lines_that_cannot_be_read_are_rejected_with_line_and_reason(tmp_path, json_text):
    run(tmp_path, JSON_EVENTS, **JSON_CHANGES)
    rejected = read_rejected(tmp_path / "run")
    assert [entry["line"] for entry in rejected] == [
        n for n, line in enumerate(json_text, 1) if line in NOT_READ
    ]
    assert [entry["reason"].partition(":")[0] for entry in rejected] == list(NOT_READ.values())


def test_json_lines_read_in_small_blocks_are_the_same(tmp_path, monkeypatch, json_text):
    run(tmp_path, JSON_EVENTS, **JSON_CHANGES)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 300)
    monkeypatch.setattr(lines, "PIECE_BYTES", 100)
    read_all(experiment(tmp_path, JSON_EVENTS, **JSON_CHANGES), tmp_path / "pieces")
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
