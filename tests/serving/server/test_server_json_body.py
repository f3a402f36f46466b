"""JSON of request bodies: what is taken, and what is refused by its reason."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.transports.json_requests import parse_object
from serving.status import StatusError

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), values), st.booleans())
def test_any_object_is_read_as_python_reads_it(document, ascii_only):
    try:
        body = json.dumps(document, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    if any("\ud800" <= char <= "\udfff" for char in json.dumps(document, ensure_ascii=False)):
        with pytest.raises(StatusError, match="surrogate pair"):
            parse_object(body)
    else:
        assert parse_object(body) == document


def test_literals_of_what_is_no_number():
    values = parse_object(b'{"a": [NaN, Infinity, -Infinity, "Infinity"]}')["a"]
    assert math.isnan(values.pop(0))
    assert values == [math.inf, -math.inf, "Infinity"]


def test_text_that_is_not_utf8_keeps_its_bytes():
    text = parse_object(b'{"a": "\xff\xc3\xa4"}')["a"]
    assert text.encode("utf-8", "surrogateescape") == b"\xff\xc3\xa4"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a": [1.0}', "Expecting ',' delimiter"),
        (b'{"a": 1', "Expecting ',' delimiter"),
        (b'{"a": [1.0]} x', "Extra data"),
        (b"nonsense", "Expecting value"),
        (b"  ", "Expecting value"),
        (b'{"a": Inf}', "Expecting value"),
        (b'{"a": [0, 1e400]}', "Number too big to be stored in double."),
        (b'{"a": [0, -1e+400]}', "Number too big to be stored in double."),
        (b'{"a": ' + b"9" * 400 + b"}", "Number too big to be stored in double."),
        (b'{"a": ' + b"9" * 5000 + b"}", "Number too big to be stored in double."),
        (rb'{"1e400": "\ud83d\ude00 \\ud800 \ud800"}', "The surrogate pair in string is invalid."),
        (rb'{"a": "\x"}', "Invalid \\escape"),
        (b"[" * 100_000, "maximum recursion depth exceeded"),
    ],
)
def test_broken_json_says_what(body, reason):
    with pytest.raises(StatusError) as caught:
        parse_object(body)
    assert caught.value.message.startswith(f"JSON Parse error: {reason}")


def test_large_numbers_that_a_double_holds_are_taken():
    assert parse_object(b'{"a": [0, 1e300, 3, 0.5, 1e-400]}')["a"] == [0, 1e300, 3, 0.5, 0.0]
