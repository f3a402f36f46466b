"""Label expressions and column conversions against Python's own arithmetic."""

import math
from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.prepare.clean.expressions import check, evaluate, reads_numbers
from pipelines.prepare.read.columns import as_numbers, as_text, as_times

COLUMNS = {
    "rating": pa.array(["5", "3", "", "x", "4.0", " 4 "]),
    "skipped": pa.array(["0", "1", "0", "0", "true", "FALSE"]),
    "event": pa.array(["buy", "click", None, "view", "buy", ""]),
    "other": pa.array(["buy", "buy", "", "view", "", ""]),
    "length": pa.array([10.0, 0.0, 5.0, None, 8.0, 4.0]),
}
NAN = math.nan


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rating >= 4", [1, 0, NAN, NAN, 1, 1]),
        ("not rating >= 4", [0, 1, NAN, NAN, 0, 0]),
        ("3 < rating <= 5", [1, 0, NAN, NAN, 1, 1]),
        ("rating >= 4 and not skipped", [1, 0, NAN, NAN, 0, 1]),
        ("rating >= 4 or skipped", [1, 1, NAN, NAN, 1, 1]),
        ("skipped", [0, 1, 0, 0, 1, 0]),
        ("event == 'buy'", [1, 0, 0, 0, 1, 0]),
        ("event != ''", [1, 1, 0, 1, 1, 0]),
        ("event in ('click', 'buy')", [1, 1, 0, 0, 1, 0]),
        ("event not in ('click', 'buy')", [0, 0, 1, 1, 0, 1]),
        ("rating in (3, 4)", [0, 1, NAN, NAN, 1, 1]),
        ("event == other", [1, 0, 1, 1, 0, 1]),
        ("rating / length > 0.45", [1, NAN, NAN, NAN, 1, 1]),
        ("rating - -1 > 5", [1, 0, NAN, NAN, 0, 0]),
        ("rating * 2 + 1", [11, 7, NAN, NAN, 9, 9]),
        ("rating", [5, 3, NAN, NAN, 4, 4]),
        ("rating and skipped", [NAN] * 6),
    ],
)
def test_expressions(text, expected):
    for columns in (COLUMNS, {name: as_text(column) for name, column in COLUMNS.items()}):
        np.testing.assert_array_equal(evaluate(text, columns, 6), np.array(expected, float))


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=1),
    st.sampled_from(
        [
            "a > b",
            "a + b >= 2",
            "a - b < 3 or a == 2",
            "a * b > 4 and b != 1",
            "not (a > 1 and b > 1)",
            "-a < b",
            "a in (1, 2)",
        ]
    ),
)
def test_whole_numbers_are_compared_as_python_compares_them(rows, text):
    a, b = zip(*rows, strict=True)
    columns = {"a": pa.array(a).cast(pa.string()), "b": pa.array(b)}
    expected = [float(bool(eval(text, {"a": x, "b": y}))) for x, y in rows]
    assert evaluate(text, columns, len(rows)).tolist() == expected


def test_which_columns_are_numbers_only():
    assert reads_numbers("rating >= 4 and event == 'buy' and not skipped") == {"rating", "skipped"}
    assert reads_numbers("event == other") == set()


@pytest.mark.parametrize("text", ["1 > 0", "rating > ('a' + 'b') == 'c'"])
def test_what_can_never_work_is_found_without_data(text):
    with pytest.raises(ValueError, match=r"column|text"):
        check(text)


@pytest.mark.parametrize("kind", ["text", "dictionary"])
def test_text_as_numbers(kind):
    column = pa.array(["1", " 2.5\t", "", None, "-1e3", "nan", "abc", "1,5", "0x10", "1_000", "inf", "+7"])
    column = column.dictionary_encode() if kind == "dictionary" else column
    values, bad = as_numbers(column)
    assert bad.tolist()[:6] == [False] * 6
    assert bad.tolist()[6:10] == [True] * 4
    np.testing.assert_array_equal(values[:6], [1, 2.5, NAN, NAN, -1000, NAN])
    assert values[10] == math.inf


@given(
    st.lists(
        st.one_of(st.floats().map(repr), st.integers().map(str), st.text(max_size=5), st.just("")),
        max_size=40,
    )
)
def test_one_bad_number_does_not_touch_its_neighbours(texts):
    values, bad = as_numbers(pa.array(texts, pa.string()))
    for text, value, wrong in zip(texts, values, bad, strict=True):
        alone, alone_bad = as_numbers(pa.array([text], pa.string()))
        assert (alone_bad[0], repr(alone[0])) == (wrong, repr(value))
        try:
            number = float(text)
        except ValueError:
            assert math.isnan(value)
            continue
        assert wrong or repr(float(value)) == repr(number)


def test_any_type_as_text():
    cases = {
        "1|2": pa.array([[1, 2]]),
        "": pa.array([None], pa.int32()),
        "7": pa.array([7.0]),
        "2.5": pa.array([2.5]),
        "true": pa.array([True]),
        "x": pa.array(["x"], pa.large_string()),
        "a": pa.array([["a", None]]),
    }
    for expected, column in cases.items():
        assert (as_text(column).to_pylist()[0] or "") == expected


def test_times():
    column = pa.array(
        [
            "978300760",
            "2001-01-01",
            "2001-01-01T00:00:10Z",
            "2001-01-01 01:00:00+01:00",
            "2001-01-01T00:00:00.5",
            "2024-02-30",
            "99999-01-01",
            "noon",
            "",
            "inf",
        ]
    )
    values, bad = as_times(column)
    start = datetime(2001, 1, 1, tzinfo=timezone.utc).timestamp()
    assert values[:5].tolist() == [978300760, start, start + 10, start, start + 0.5]
    assert bad.tolist() == [False] * 5 + [True] * 5
    moments = pa.array([datetime(2001, 1, 1), None], pa.timestamp("ms"))
    values, bad = as_times(moments)
    assert values[0] == start
    assert bad.tolist() == [False, True]
