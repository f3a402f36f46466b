"""JSON that any parser reads."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.divergence import Interval
from ranker.json_text import json_text

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


def refuse(literal):
    raise AssertionError(f"not JSON: {literal}")


@given(values)
def test_any_value_is_valid_json(value):
    json.loads(json_text(value), parse_constant=refuse)


@given(
    st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text() | st.booleans() | st.none()
)
def test_what_json_has_comes_back(value):
    assert json.loads(json_text({"value": value})) == {"value": value}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("nan"), "null"),
        (np.float32("inf"), "null"),
        (np.float64(0.5), "0.5"),
        (np.int64(3), "3"),
        (np.bool_(True), "true"),
        (np.array([1.0, np.nan]), "[1.0, null]"),
        (Interval(0.5, float("-inf"), float("inf")), "[0.5, null, null]"),
        (Path("a/b"), '"a/b"'),
        ({1: (2,)}, '{"1": [2]}'),
    ],
)
def test_numbers_of_any_kind(value, text):
    assert json_text(value) == text
