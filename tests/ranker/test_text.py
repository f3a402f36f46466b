"""The text of a value: the rule itself, and that the scalar and the Arrow form of it are the same rule."""

from __future__ import annotations

import math
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.errors import UserError
from ranker.text import arrow_texts, refused_lists, text, texts

BERLIN = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (math.nan, ""),
        (np.float32("nan"), ""),
        (math.inf, ""),
        (-math.inf, ""),
        (np.datetime64("NaT"), ""),
        (Decimal("NaN"), ""),
        (Decimal("sNaN"), ""),
        (" as it stands ", " as it stands "),
        ("7.0", "7.0"),
        (np.str_("x"), "x"),
        ("\ud800", "\ufffd\ufffd\ufffd"),
        (b"caf\xc3\xa9", "caf\u00e9"),
        (b"\xff", "\ufffd"),
        (np.bytes_(b"x"), "x"),
        (bytearray(b"x"), "x"),
        (True, "true"),
        (np.bool_(False), "false"),
        (7, "7"),
        (-7, "-7"),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        (np.int8(-128), "-128"),
        (7.0, "7"),
        (-0.0, "0"),
        (np.float16(7), "7"),
        (np.float32(7), "7"),
        (np.float32(16777216), "16777216"),
        (0.1, "0.1"),
        (np.float32(0.1), "0.1"),
        (np.float16(0.1), "0.1"),
        (np.float64(0.1), "0.1"),
        (1e-5, "0.00001"),
        (np.float32(1e-5), "0.00001"),
        (1e-7, "0.0000001"),
        (1.5e-10, "0.00000000015"),
        (1e15, "1000000000000000"),
        (1e16, "10000000000000000"),
        (1e22, "10000000000000000000000"),
        (Decimal("7.00"), "7"),
        (Decimal("7.50"), "7.5"),
        (Decimal("1E+2"), "100"),
        (Decimal("1E-8"), "0.00000001"),
        (Decimal("-0.00"), "0"),
        (Decimal("123456789012345678901234567890.12"), "123456789012345678901234567890.12"),
        (date(2024, 1, 31), "2024-01-31"),
        (np.datetime64("2024-01-31"), "2024-01-31"),
        (datetime(2024, 1, 31), "2024-01-31 00:00:00"),
        (np.datetime64("2024-01-31T10"), "2024-01-31 10:00:00"),
        (np.datetime64("2024-01-31T10:20:30.500000000"), "2024-01-31 10:20:30.5"),
        (datetime(2024, 1, 31, 10, 20, 30, 500_000), "2024-01-31 10:20:30.5"),
        (datetime(2024, 1, 31, 0, 20, tzinfo=BERLIN), "2024-01-30 23:20:00Z"),
        (time(1, 2, 3), "01:02:03"),
        (time(1, 2, 3, 40), "01:02:03.00004"),
        (timedelta(minutes=1, milliseconds=500), "60.5"),
        (np.timedelta64(1, "h"), "3600"),
        (np.timedelta64(1500, "ms"), "1.5"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (pa.scalar(7), "7"),
        (pa.scalar(None, pa.string()), ""),
        (pa.scalar(1, pa.timestamp("ns")), "1970-01-01 00:00:00.000000001"),
        (np.array(7.0), "7"),
    ],
)
def test_the_text_of_a_value(value, expected):
    assert text(value) == expected


@pytest.mark.parametrize(
    "value", [{"a": 1}, {1}, 1j, object(), [1], ("a",), np.array(["a"]), np.array([[1]])]
)
def test_values_without_a_text_are_refused_by_name(value):
    with pytest.raises(UserError, match=r"^`genre` must be"):
        text(value, name="`genre`")


def test_lists_are_joined_by_the_separator_of_their_feature():
    assert text(["a", None, 2.0, "", True, np.float32(0.1)], "|") == "a|2|true|0.1"
    assert text(np.array([1.0, 2.5]), ", ") == "1, 2.5"
    assert text([], "|") == text([None], "|") == ""
    assert text("a|b", "|") == "a|b"
    with pytest.raises(UserError, match=r"`genre`: an item .* must not hold the separator '\|'.*'a\|b'"):
        text(["x", "a|b"], "|", "`genre`")
    with pytest.raises(UserError, match="`genre` must be"):
        text([["a"]], "|", "`genre`")


def test_columns_keep_the_precision_of_their_type():
    assert texts(np.array([0.1, 7, np.nan], np.float32)).tolist() == ["0.1", "7", ""]
    assert texts(np.array([3, 4], np.int16)).tolist() == ["3", "4"]
    assert texts(np.array(["2024-01-31"], "datetime64[ns]")).tolist() == ["2024-01-31 00:00:00"]


SCALARS = {
    pa.float64(): st.floats(),
    pa.float32(): st.floats(width=32),
    pa.float16(): st.floats(width=16).map(np.float16),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint8(): st.integers(0, 255),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"])),
    pa.binary(): st.binary(max_size=5),
    pa.large_string(): st.text("ab|", max_size=3),
    pa.decimal128(20, 4): st.decimals(-(10**15), 10**15, places=4),
    pa.decimal128(20, 20): st.decimals(Decimal("-0.99"), Decimal("0.99"), places=20),
    pa.date32(): st.dates(),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("s"): st.datetimes().map(lambda moment: moment.replace(microsecond=0)),
    pa.timestamp("ms", "Europe/Berlin"): st.datetimes(
        datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc)
    ).map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)),
    pa.time64("us"): st.times(),
    pa.duration("us"): st.timedeltas(timedelta(-9), timedelta(9)),
}


@pytest.mark.parametrize("kind", SCALARS, ids=str)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_arrow_columns_follow_the_same_rule(kind, data):
    values = data.draw(st.lists(st.none() | SCALARS[kind], max_size=8))
    expected = [_typed(kind, value) for value in values]
    column = pa.array(values, kind)
    forms = [column, pa.concat_arrays([column, column]).slice(len(column))]
    if not pa.types.is_float16(kind):  # which Arrow cannot encode
        forms.append(column.dictionary_encode())
    for form in forms:
        assert [value or "" for value in arrow_texts(form).to_pylist()] == expected
    # The scalars of the column, too: what a client takes out of a frame.
    assert texts(list(column)).tolist() == expected


def _typed(kind, value):
    return text(np.float32(value) if value is not None and pa.types.is_float32(kind) else value)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.lists(st.none() | st.text("ab|,", max_size=3), max_size=4), max_size=6))
def test_arrow_lists_follow_the_same_rule(rows):
    for kind in (pa.list_(pa.string()), pa.large_list(pa.string())):
        column = pa.array(rows, kind)
        refused = refused_lists(column, "|")
        joined = arrow_texts(column, "|").to_pylist()
        for row, is_refused, value in zip(rows, refused, joined, strict=True):
            if is_refused:
                with pytest.raises(UserError):
                    text(row, "|")
            else:
                assert (value or "") == text(row, "|")
        assert refused_lists(column, None).tolist() == [row is not None for row in rows]


def test_arrow_types_without_a_text_are_refused():
    with pytest.raises(UserError, match="Received: struct"):
        arrow_texts(pa.array([{"a": 1}]))
