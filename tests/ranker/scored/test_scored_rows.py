"""Files of scored rows: read, joined and brought to one scale."""

import gzip
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.errors import UserError
from ranker.scored.align import ModelScores, align
from ranker.scored.files import read_models
from ranker.scored.scale import to_probabilities

ROWS = {
    "session": ["s1", "s1", "s1", "s2", "s2"],
    "sku": ["007", "7", "a,b", "007", "x"],
    "p": [0.1, 0.5, 0.9, 0.25, 0.75],
    "clicked": [0, 1, 0, 0, 1],
}


def write(path, rows):
    """Writes rows in the format that the path's suffix names."""
    table = pa.table(rows)
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        pq.write_table(table, path)
        return path
    if name.endswith(".arrow"):
        with pa.OSFile(str(path), "w") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return path
    if name.endswith(".feather"):
        with pa.OSFile(str(path), "w") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return path
    if name.endswith(".jsonl"):
        text = "".join(json.dumps(row) + "\n" for row in table.to_pylist())
    else:
        separator = "\t" if ".tsv" in name else ","
        lines = [table.column_names, *([row[c] for c in table.column_names] for row in table.to_pylist())]
        quoted = [[f'"{v}"' if "," in str(v) else str(v) for v in line] for line in lines]
        text = "".join(separator.join(line) + "\n" for line in quoted)
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


FORMATS = ["a.parquet", "a.csv", "a.tsv", "a.csv.gz", "a.jsonl", "a.jsonl.gz", "a.arrow", "a.feather"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path, name):
    path = write(tmp_path / name, ROWS)
    (tmp_path / "b").mkdir()
    second = write(tmp_path / "b" / "a.parquet", {**ROWS, "p": [0.2, 0.5, 0.8, 0.25, 0.75]})
    models = read_models([str(path), str(second)], ["session"], "sku", ["p"], "clicked")
    aligned = align(models)
    assert aligned.request_ids.to_pylist() == ["s1", "s2"]
    assert aligned.item_ids.to_pylist() == ["007", "7", "a,b", "x"]
    assert aligned.scores[0].tolist() == ROWS["p"]
    assert aligned.label.tolist() == ROWS["clicked"]
    assert len(set(aligned.models)) == 2


def test_one_file_with_a_column_a_model(tmp_path):
    path = write(tmp_path / "scores.csv", {**ROWS, "q": [0.3] * 5})
    models = read_models([str(path)], ["session"], "sku", ["p", "q"])
    assert [model.model for model in models] == ["p", "q"]
    assert align(models).scores.tolist() == [ROWS["p"], [0.3] * 5]


def test_globs_directories_and_names_that_tell_models_apart(tmp_path):
    for model in ("first", "second"):
        (tmp_path / model).mkdir()
        for part in range(2):
            rows = {key: values[part * 3 : part * 3 + 3] for key, values in ROWS.items()}
            write(tmp_path / model / f"part-{part}.parquet", rows)
    by_glob = read_models(
        [str(tmp_path / m / "*.parquet") for m in ("first", "second")], ["session"], "sku", ["p"]
    )
    by_directory = read_models([str(tmp_path / m) for m in ("first", "second")], ["session"], "sku", ["p"])
    assert [model.model for model in by_directory] == ["first", "second"]
    assert len({model.model for model in by_glob}) == 2
    for models in (by_glob, by_directory):
        assert align(models).scores[0].tolist() == ROWS["p"]


def test_several_request_columns_make_one_request(tmp_path):
    path = write(tmp_path / "a.csv", {**ROWS, "day": [1, 2, 1, 1, 1], "q": ROWS["p"]})
    aligned = align(read_models([str(path)], ["session", "day"], "sku", ["p", "q"]))
    assert len(aligned.request_ids) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": ["none.csv"]}, r"none.csv: no such file"),
        ({"item": "product"}, r"must have the column product\. Received: session, sku, p, clicked"),
        ({"score": ["sku"]}, r"column sku must hold numbers\. Received in row 3: 'a,b'"),
        ({"sources": ["a.txt"]}, r"a.txt: a file's name must end in one of"),
        ({"sources": ["a.csv"], "score": ["p"]}, "at least two models"),
        ({"score": ["p", "clicked"]}, "one score column"),
        ({"sources": ["a.csv", "broken.parquet"]}, "broken.parquet: cannot be read"),
        ({"sources": ["a.csv", "a.csv"]}, "sources must differ"),
        ({"request": []}, "at least one request column"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.csv", ROWS)
    write(tmp_path / "b.csv", ROWS)
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "broken.parquet").write_text("no parquet")
    call = {"sources": ["a.csv", "b.csv"], "request": ["session"], "item": "sku", "score": ["p"], **change}
    if len(call["sources"]) == 1 and "score" not in change:
        call["score"] = ["p", "clicked"]
    with pytest.raises(UserError, match=message) as caught:
        read_models(**call)
    assert "\n" not in str(caught.value)


def test_text_that_says_missing_is_a_missing_score(tmp_path):
    scores = ["0.1", "", "NaN", "null", " 0.5 "]
    path = write(tmp_path / "a.csv", {**ROWS, "p": scores, "q": [0.1] * 5})
    p, _ = read_models([str(path)], ["session"], "sku", ["p", "q"])
    np.testing.assert_array_equal(p.score, [0.1, math.nan, math.nan, math.nan, 0.5])


def rows(model, keys, scores, label=None):
    requests, items = zip(*keys, strict=True)
    return ModelScores(
        model,
        pa.chunked_array([list(requests)]),
        pa.chunked_array([list(items)]),
        np.array(scores, float),
        label,
    )


def test_missing_repeated_contradicted_and_not_finite_rows_are_counted():
    a = rows("a", [("q", "x"), ("q", "y"), ("q", "x"), ("r", "x"), ("r", "x")], [0.1, 0.2, 0.1, 0.3, 0.4])
    b = rows("b", [("q", "y"), ("q", "z")], [0.5, math.inf])
    aligned = align([a, b])
    assert aligned.scores[0].tolist()[:2] == [0.1, 0.2]
    assert np.isnan(aligned.scores[0, 2:]).all()  # z is b's alone, and r contradicts itself
    assert aligned.missing.tolist() == [1, 2]
    assert aligned.repeated.tolist() == [2, 0]
    assert aligned.contradicted.tolist() == [1, 0]
    assert aligned.not_finite.tolist() == [0, 1]
    assert aligned.request_bounds().tolist() == [0, 3, 4]


def test_two_labels_of_one_row_are_refused():
    a = rows("a", [("q", "x")], [0.1], np.array([1.0]))
    b = rows("b", [("q", "x")], [0.1], np.array([0.0]))
    with pytest.raises(UserError, match=r"one label\. Received for request q, item x: 1 and, from b, 0"):
        align([a, b])
    unknown = rows("b", [("q", "x")], [0.1], np.array([math.nan]))
    assert align([a, unknown]).label.tolist() == align([unknown, a]).label.tolist() == [1.0]


@given(st.permutations(range(6)), st.permutations(range(6)))
def test_the_order_of_the_rows_does_not_matter(first, second):
    keys = [("q", "x"), ("q", "y"), ("r", "x"), ("r", "z"), ("q", "z"), ("s", "x")]
    scores = np.linspace(0.1, 0.6, 6)
    shuffled = [
        rows(model, [keys[i] for i in order], scores[list(order)])
        for model, order in (("a", first), ("b", second))
    ]
    straight = align([rows("a", keys, scores), rows("b", keys, scores)])
    aligned = align(shuffled)
    assert aligned.scores.tolist() == straight.scores.tolist()
    assert aligned.request.tolist() == sorted(aligned.request.tolist())


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_every_scale_keeps_order_and_ties(values):
    scores = np.array([values])
    scaled = to_probabilities(scores, "order").scores
    assert ((scaled > 0) & (scaled < 1)).all()
    for i in range(len(values)):
        np.testing.assert_array_equal(np.sign(scaled[0] - scaled[0, i]), np.sign(scores[0] - scores[0, i]))


def test_scales():
    assert to_probabilities(np.array([[0.0, 1.0]])).scale == "probability"
    assert to_probabilities(np.array([[0.0, 1.5]])).scale == "order"
    assert "logit" in to_probabilities(np.array([[0.0, 1.5]])).note
    logits = to_probabilities(np.array([[0.0, -800.0, math.nan]]), "logit")
    assert logits.scores[0, :2].tolist() == [0.5, 0.0]
    assert math.isnan(logits.scores[0, 2])
    with pytest.raises(UserError, match=r"within \[0, 1\].*Received: 0 to 1.5"):
        to_probabilities(np.array([[0.0, 1.5]]), "probability")
    with pytest.raises(
        UserError,
        match=r"must be one of auto, .* order or range:LOW:HIGH\. Received: 'odds'",
    ):
        to_probabilities(np.array([[0.0]]), "odds")
