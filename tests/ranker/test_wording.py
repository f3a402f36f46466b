"""Measures and numbers in words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker import wording
from ranker.divergence import CATALOGUE, Interval


def test_every_measure_has_a_name_of_its_own() -> None:
    titles = [wording.title(name.replace("@k", "@10").replace("@t", "@0.5")) for name in CATALOGUE]
    assert len(set(titles)) == len(titles)
    assert not any("{" in title or "_" in title for title in titles)


@settings(deadline=None)
@given(st.floats(1e-5, 2.0))
def test_a_share_keeps_two_digits_that_count(share: float) -> None:
    shown = float(wording.percent(share)) / 100
    assert abs(shown - share) <= 0.051 * share


@settings(deadline=None)
@given(st.floats(1e-300, 0.99e-5))
def test_a_share_too_small_to_show_is_never_zero(share: float) -> None:
    assert wording.amount("consensus_regret", share) == "under 0.001%"


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_an_interval_never_leaves_what_the_measure_can_be(a: float, b: float, c: float) -> None:
    low, value, high = sorted((a, b, c))
    clipped = wording.clipped("top1_swap", Interval(value, low - 0.5, high + 0.5))
    assert 0 <= clipped.low <= value <= clipped.high <= 1


@pytest.mark.parametrize(
    ("label", "interval", "text"),
    [
        ("top1_swap", Interval(0.013, 0.0, 0.026), "1.3% (95%: 0.0 to 2.6)"),
        ("top1_swap", Interval(0.0, 0.0, 0.018), "0% (95%: 0.0 to 1.8)"),
        ("pd_logit", Interval(0.1234, 0.1, 0.15), "0.123 (95%: 0.1 to 0.15)"),
        ("bias", Interval(-0.01, -0.02, 0.001), "-1.0% (95%: -2.0 to 0.1)"),
        ("top1_swap", Interval(0.01, -math.inf, math.inf), "1.0% (95%: interval unknown)"),
    ],
)
def test_a_value_with_its_interval(label: str, interval: Interval, text: str) -> None:
    assert wording.with_interval(label, interval) == text
