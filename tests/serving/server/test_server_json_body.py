"""JSON of request bodies: what RapidJSON takes, and its mistakes by reason and place."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.json_body import parse_object
from serving.status import ServingError

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
        with pytest.raises(ServingError, match="surrogate pair"):
            parse_object(body)
    else:
        assert parse_object(body) == document


def test_literals_of_what_is_no_number():
    body = b'{"Inf": [Inf, -Inf, Infinity, -Infinity, NaN, "Inf", "\\"Inf", {"a":Inf}]}'
    read = parse_object(body)["Inf"]
    assert math.isnan(read.pop(4))
    assert read == [math.inf, -math.inf, math.inf, -math.inf, "Inf", '"Inf', {"a": math.inf}]


def test_text_that_is_not_utf8_keeps_its_bytes():
    text = parse_object(b'{"a": "\xff\xc3\xa4"}')["a"]
    assert text.encode("utf-8", "surrogateescape") == b"\xff\xc3\xa4"


@pytest.mark.parametrize(
    ("body", "reason", "offset"),
    [
        (b'{"a": [1.0}', "Missing a comma or ] after an array element.", 10),
        (b'{"a": [1 2]}', "Missing a comma or ] after an array element.", 9),
        (b'{"a": [{"b": [0]}, 1}', "Missing a comma or ] after an array element.", 20),
        (b'{"a": "[" "b"}', "Missing a comma or } after an object member.", 10),
        (b'{"a": 1', "Missing a comma or } after an object member.", 7),
        (b'{"a": [Inf, -Inf}', "Missing a comma or ] after an array element.", 16),
        (b'{"\xc3\xa4": [1.0}', "Missing a comma or ] after an array element.", 11),
        (b'{"a": [1.0]} x', "The document root must not be followed by other values.", 13),
        (b'{"a" [1.0]}', "Missing a colon after a name of object member.", 5),
        (b"{a: 1}", "Missing a name for object member.", 1),
        (b"nonsense", "Invalid value.", 0),
        (b"  ", "The document is empty.", 2),
        (b'{"a": 1.}', "Miss fraction part in number.", 8),
        (b'{"a": 1e}', "Miss exponent in number.", 8),
        (b'{"a": 1e+}', "Miss exponent in number.", 9),
        (b'{"a": [0, 1e400]}', "Number too big to be stored in double.", 10),
        (b'{"a": ' + b"9" * 400 + b"}", "Number too big to be stored in double.", 6),
        (b'{"a": ' + b"9" * 5000 + b"}", "Number too big to be stored in double.", 6),
        (rb'{"1e400": "\ud83d\ude00 \\ud800 \ud800"}', "The surrogate pair in string is invalid.", 32),
        (rb'{"a": "\uZZZZ"}', "Incorrect hex digit after \\u escape in string.", 8),
        (rb'{"a": "\x"}', "Invalid escape character in string.", 7),
        (b"[" * 100_000, "Terminate parsing due to Handler error.", 0),
    ],
)  # fmt: skip
def test_broken_json_says_what_and_where(body, reason, offset):
    with pytest.raises(ServingError) as caught:
        parse_object(body)
    assert caught.value.message == f"JSON Parse error: {reason} at offset: {offset}"
