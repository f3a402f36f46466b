"""Sums, histograms and intervals: merging loses nothing, and the database gets plain numbers."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.divergence import (
    Comparison,
    Histogram,
    PairedDifference,
    RatioDifference,
    RequestBatch,
    Statistic,
    compare,
    confidence_sequence,
    difference,
    exceeds,
    holm,
    measure_requests,
    poisson_bootstrap_quantile,
    replicas_then_pairs,
    wilson,
)
from ranker.divergence.histogram import bucket_edges
from ranker.divergence.sequence import half_width
from ranker.errors import UserError

values = st.lists(st.floats(0, 2), max_size=30)


def assert_same(a, b):
    assert a.n == b.n
    np.testing.assert_allclose(a.interval(), b.interval(), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(a.histogram.counts, b.histogram.counts)


@settings(max_examples=80, deadline=None)
@given(values, values, values)
def test_merge_is_associative_commutative_and_equals_computing_directly(x, y, z):
    a, b, c = (Statistic.of(v, np.arange(len(v)) % 5 + 1) for v in (x, y, z))
    weights = np.concatenate([np.arange(len(v)) % 5 + 1 for v in (x, y, z)])
    direct = Statistic.of(x + y + z, weights)
    assert_same(a.merge(b).merge(c), direct)
    assert_same(a.merge(b.merge(c)), direct)
    assert_same(c.merge(a).merge(b), direct)
    assert_same(a.merge(Statistic.empty()), a)


def test_a_database_row_comes_back():
    statistic = Statistic.of([0.0, 0.25, 1.5], [3, 4, 5])
    row = json.loads(json.dumps(statistic.as_dict()))
    assert set(row) == {"n", "total", "total_sq", "weight", "weight_sq", "cross", "histogram"}
    assert_same(Statistic.from_dict({**row, "measure": "pd_abs"}), statistic)
    with pytest.raises(UserError, match="bucket"):
        Histogram.from_dict({"101": 1})


def test_a_comparison_comes_back_from_json():
    rng = np.random.default_rng(0)
    batch = RequestBatch.from_rows(np.repeat(np.arange(9), 4), np.tile(np.arange(4), 9), rng.random((3, 36)))
    result = compare(batch)
    back = Comparison.from_dict(json.loads(json.dumps(result.as_dict())))
    assert back.summary() == result.summary()
    assert back.coverage == result.coverage
    assert back.replicas["1"]["component"].value == result.replicas["1"]["component"].value
    assert back.merge(result).coverage.requests == 18


def test_interval_of_a_mean_is_students():
    x = np.random.default_rng(1).random(500)
    value, low, high = Statistic.of(x).interval()
    assert value == pytest.approx(x.mean())
    assert (high - low) / 2 == pytest.approx(1.964729 * x.std(ddof=1) / math.sqrt(500), rel=1e-6)


def test_interval_of_a_ratio_is_that_of_the_jackknife_over_requests():
    rng = np.random.default_rng(2)
    weights = rng.integers(1, 60, 400)
    x = rng.random(400) * 0.1 * weights
    ratio = x.sum() / weights.sum()
    left_out = (x.sum() - x) / (weights.sum() - weights)
    jackknife = math.sqrt(399 / 400 * ((left_out - left_out.mean()) ** 2).sum())
    statistic = Statistic.of(x / weights, weights)
    assert statistic.value == pytest.approx(ratio)
    assert statistic.standard_error == pytest.approx(jackknife, rel=0.02)


def test_zero_one_values_get_wilson():
    statistic = Statistic.of([0.0] * 990 + [1.0] * 10)
    assert statistic.interval() == wilson(10, 1000)
    assert not Statistic.of([0.5, 0.0, 1.0]).zero_or_one
    assert Statistic.of([0.0] * 1000).interval().high == pytest.approx(0.003827, abs=5e-7)


def test_too_few_requests_know_no_spread():
    assert all(math.isnan(x) for x in Statistic.empty().interval())
    assert Statistic.of([0.3]).interval()[1:] == (-math.inf, math.inf)
    assert all(math.isnan(x) for x in wilson(0, 0))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-6, 25), min_size=1, max_size=60), st.floats(0, 1))
def test_histogram_quantiles_are_right_to_half_a_bucket(x, q):
    exact = np.quantile(x, q, method="inverted_cdf")
    assert Histogram.of(x).quantile(q) == pytest.approx(exact, rel=0.0906)


def test_histogram_buckets():
    edges = bucket_edges()
    assert len(edges) == 101
    assert edges[-1] == pytest.approx(28, rel=0.01)
    assert Histogram.of([0.0, 1e-9]).as_dict() == {"0": 2}
    assert Histogram.of([100.0, -100.0]).as_dict() == {"100": 2}
    assert math.isnan(Histogram.empty().quantile(0.5))


def test_bootstrap_of_a_quantile_covers_it():
    rng = np.random.default_rng(3)
    truth = -math.log(0.05)  # 95% quantile of an exponential
    covered = 0
    for seed in range(120):
        x = rng.exponential(size=400)
        _, low, high = poisson_bootstrap_quantile(x, 0.95, replicates=200, seed=seed)
        covered += low <= truth <= high
    assert covered >= 105


def test_confidence_sequence_has_the_stated_width_and_merges_as_its_statistic_does():
    assert half_width(1.0, 10_000) / (1.959964 / 100) == pytest.approx(1.55, abs=0.01)
    ratios = [half_width(1.0, t) / (1.959964 / math.sqrt(t)) for t in (2_000, 10_000, 60_000)]
    assert all(1.5 < ratio < 2.01 for ratio in ratios)
    statistic = Statistic.of(np.tile([0.0, 1.0], 500))
    value, low, high = confidence_sequence(statistic)
    assert value == 0.5
    assert (
        high - value == value - low == pytest.approx(half_width(statistic.standard_error * 1000**0.5, 1000))
    )
    assert confidence_sequence(Statistic.of([0.1])).high == math.inf


def test_confidence_sequence_holds_at_all_times_where_a_fixed_interval_does_not():
    """Looked at 40 times, the fixed interval is wrong somewhere for many streams, the sequence for few."""
    rng = np.random.default_rng(4)
    left_sequence = left_interval = 0
    for _ in range(200):
        statistic = Statistic.empty()
        outside_sequence = outside_interval = False
        for _ in range(40):
            statistic = statistic.merge(Statistic.of(rng.random(100)))
            _, low, high = confidence_sequence(statistic, tightest_at=1000)
            outside_sequence |= not low <= 0.5 <= high
            _, low, high = statistic.interval()
            outside_interval |= not low <= 0.5 <= high
        left_sequence += outside_sequence
        left_interval += outside_interval
    assert left_sequence <= 10
    assert left_interval >= 30


def test_holm_and_the_order_replicas_then_pairs():
    assert holm([]).tolist() == []
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    with pytest.raises(UserError, match="Received"):
        holm([1.2])
    noisy, quiet = Statistic.of([1.0] * 60 + [0.0] * 140), Statistic.of([1.0] * 4 + [0.0] * 196)
    pairs = {("a", "b"): noisy, ("a", "c"): noisy, ("b", "c"): quiet}
    found, theirs = replicas_then_pairs({"a": noisy, "b": quiet, "c": quiet}, pairs, 0.05)
    assert set(found) == {"a"}
    assert set(theirs) == {("a", "b"), ("a", "c")}
    assert replicas_then_pairs({"a": quiet}, {("b", "c"): noisy}, 0.05) == ({}, {})
    assert exceeds(Statistic.empty(), 0.1) == 1.0
    assert exceeds(noisy, 0.3) == pytest.approx(0.5)


def test_difference_keeps_the_asymmetry_of_wilson():
    excess = difference(wilson(20, 1000), wilson(0, 1000))
    assert excess.value == pytest.approx(0.02)
    assert 0 < excess.low < excess.value < excess.high
    assert difference(wilson(0, 1000), wilson(0, 1000)).low < 0


def test_what_a_notebook_prints_is_a_line():
    scores = np.random.default_rng(1).random((3, 600))
    batch = RequestBatch.from_rows(np.repeat(np.arange(60), 10), np.tile(np.arange(10), 60), scores)
    result = compare(batch)
    printed = [Statistic.of([0.0, 1.0, 0.0, 0.0]), Statistic.empty(), result, batch, measure_requests(batch)]
    printed += [PairedDifference.of([1.0], [0.0]), RatioDifference.of([1.0], [1.0], [0.5], [1.0])]
    printed += [result.means["rpd_sym"].histogram]
    for thing in printed:
        text = repr(thing)
        assert "\n" not in text
        assert len(text) < 200, text
    assert repr(printed[0]) == "<Statistic: 0.25 (95%: 0.04559 to 0.6994), 4 requests>"
