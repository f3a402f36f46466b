"""Intervals against independent code, and what they cover: computed exactly, or simulated."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ranker.divergence import Interval, PairedDifference, RatioDifference, Statistic, wilson
from ranker.divergence.intervals import nonnegative, paired_difference, quantile_of_student, standing


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_students_quantile_is_scipys(level):
    for freedom in (1, 2, 3, 4, 5, 6, 9, 36, 299, 4999):
        want = stats.t.ppf((1 + level) / 2, freedom)
        assert quantile_of_student(level, freedom) == pytest.approx(want, rel=3e-4)
    assert quantile_of_student(level, 0) == math.inf


@pytest.mark.parametrize(("successes", "n"), [(0, 6), (1, 6), (6, 6), (3, 37), (150, 300), (1, 5000)])
def test_wilson_is_scipys(successes, n):
    want = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n)[1:] == pytest.approx((want.low, want.high), abs=1e-12)


def test_standing():
    assert standing(Interval(0.1, 0.05, 0.2), 0.2) == "within"
    assert standing(Interval(0.1, 0.05, 0.2), 0.05) == "undecided"
    assert standing(Interval(0.1, 0.05, 0.2), 0.04) == "above"
    assert standing(Interval(math.nan, math.nan, math.nan), 0.04) == "undecided"


def of_counts(higher: int, lower: int, n: int) -> Interval:
    """0/1 measures: so many requests where the first alone has 1, and where the second alone has."""
    a = np.zeros(n)
    a[:higher], a[higher : higher + lower] = 1, -1
    return PairedDifference.of(a, np.zeros(n)).interval()


def test_one_request_of_many_decides_nothing_in_either_direction():
    one, mirror = of_counts(1, 0, 2000), of_counts(0, 1, 2000)
    assert one.low < 0 < one.high
    assert tuple(mirror) == pytest.approx((-one.value, -one.high, -one.low))
    assert of_counts(40, 0, 2000).low > 0
    assert of_counts(0, 40, 2000).high < 0


def test_no_request_and_one_request():
    assert all(math.isnan(x) for x in PairedDifference.of([], []).interval())
    assert PairedDifference.of([1.0], [0.0]).interval() == (1.0, -1.0, 1.0)
    assert of_counts(0, 0, 1) == (0.0, -1.0, 1.0)
    equal = of_counts(0, 0, 37)
    assert equal.value == 0
    assert 0 < equal.high == -equal.low < 0.2


values = st.lists(st.tuples(*[st.sampled_from([0.0, 1 / 3, 2 / 3, 1.0])] * 2, st.integers(1, 9)), max_size=40)


@given(values)
def test_exchanging_the_models_changes_the_sign_only(rows):
    a, b, weight = np.array(rows).reshape(-1, 3).T
    forth, back = PairedDifference.of(a, b, weight), PairedDifference.of(b, a, weight)
    value, low, high = forth.interval()
    np.testing.assert_allclose(back.interval(), (-value, -high, -low), atol=1e-12)
    np.testing.assert_allclose(forth.reversed().interval(), (-value, -high, -low), atol=1e-12)
    if rows:
        assert -1 <= low <= value <= high <= 1


@given(values, st.integers(0, 40))
def test_merged_shards_are_the_whole(rows, cut):
    a, b, weight = np.array(rows).reshape(-1, 3).T
    whole = PairedDifference.of(a, b, weight)
    parts = [PairedDifference.of(a[s], b[s], weight[s]) for s in (slice(cut), slice(cut, None))]
    merged = PairedDifference.from_dict(parts[0].merge(parts[1]).as_dict())
    np.testing.assert_allclose(merged.interval(), whole.interval(), atol=1e-7)


def test_standard_error_of_the_parts_is_that_of_the_difference():
    rng = np.random.default_rng(3)
    a, b, weight = rng.random((3, 500))
    paired = PairedDifference.of(a, b, weight)
    errors = [part.standard_error**2 for part in (paired.higher, paired.lower)]
    whole = Statistic.of(a - b, weight)
    assert sum(errors) - 2 * paired.covariance == pytest.approx(whole.standard_error**2)
    # of many requests all of whose values vary it is Student's
    low, high = paired.interval()[1:]
    assert (high - low) / 2 == pytest.approx(1.96 * whole.standard_error, rel=0.03)


@pytest.mark.parametrize("n", [2, 6, 37])
def test_discordant_requests_are_covered_exactly(n):
    """All outcomes with their probabilities: the coverage is never below 95%."""
    cells = [(i, j) for i in range(n + 1) for j in range(n + 1 - i)]
    ends = np.array([of_counts_fast(i, j, n) for i, j in cells])
    rates = (0.0, 0.0005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
    for p in rates:
        for q in rates:
            outcomes = np.array([(i, j, n - i - j) for i, j in cells])
            chance = stats.multinomial.pmf(outcomes, n, [p, q, max(1 - p - q, 0)])
            covered = (ends[:, 0] <= p - q + 1e-12) & (p - q <= ends[:, 1] + 1e-12)
            assert chance[covered].sum() >= 0.95 * np.nansum(chance), (p, q)


def of_counts_fast(higher: int, lower: int, n: int) -> tuple[float, float]:
    p, q = higher / n, lower / n
    errors = [math.sqrt(x * (1 - x) / (n - 1)) for x in (p, q)]
    return paired_difference((p, errors[0]), (q, errors[1]), -p * q / (n - 1), n, 1.0)[1:]


@pytest.mark.parametrize("n", [6, 37, 300, 5000])
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("excess", [0.0, 0.05])
@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_arms_are_covered_in_simulation(n, rate, excess, shared):
    """Two arms' 0/1 values, of which a share of the requests has the same in both."""
    rng = np.random.default_rng(n)
    draws = 2000
    common = rng.random((draws, n)) < shared
    first = rng.random((draws, n)) < rate
    second = np.where(common, first, rng.random((draws, n)) < rate + excess)
    truth = -(1 - shared) * excess
    higher = (first & ~second).sum(axis=1)
    lower = (second & ~first).sum(axis=1)
    ends = {pair: of_counts_fast(*pair, n) for pair in set(zip(higher.tolist(), lower.tolist(), strict=True))}
    covered = [
        ends[pair][0] <= truth <= ends[pair][1] for pair in zip(higher.tolist(), lower.tolist(), strict=True)
    ]
    # Three standard deviations of a share of 95% over so many draws.
    assert np.mean(covered) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / draws)


@pytest.mark.parametrize("n", [6, 37, 300])
@pytest.mark.parametrize("rate", [0.02, 0.2, 1.0])
def test_differences_of_three_replicas_and_of_continuous_measures_are_covered(n, rate):
    rng = np.random.default_rng(n)
    draws, hits = 1000, 0
    for _ in range(draws):
        a = (rng.random(n) < rate) * rng.choice([1 / 3, 2 / 3, 1.0], n)
        b = (rng.random(n) < rate) * rng.choice([1 / 3, 2 / 3, 1.0], n)
        _, low, high = PairedDifference.of(a, b).interval()
        hits += low <= 0 <= high
    assert hits / draws >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / draws)


def ratio_sums(rng, n, effect=1.0):
    """Numerators and weights of two models' relative differences on the same requests."""
    common, shared = rng.lognormal(0, 0.3, n), rng.gamma(4, 0.25, n)
    sums = []
    for size in (0.1, 0.1 * effect):
        weights = common * rng.lognormal(0, 0.1, n)
        sums += [size * shared * rng.gamma(4, 0.25, n) * weights, weights]
    return sums


@pytest.mark.parametrize("n", [2, 7, 300])
def test_exchanging_the_models_of_ratios_changes_the_sign_only(n):
    x_a, y_a, x_b, y_b = ratio_sums(np.random.default_rng(n), n, 0.5)
    forth = RatioDifference.of(x_a, y_a, x_b, y_b, bound=2.0)
    back = RatioDifference.of(x_b, y_b, x_a, y_a, bound=2.0)
    assert forth.value == pytest.approx(x_a.sum() / y_a.sum() - x_b.sum() / y_b.sum(), abs=1e-12)
    for exchanged in (back, forth.reversed()):
        value, low, high = exchanged.interval()
        # Sums of the same numbers in another order.
        assert forth.interval() == pytest.approx((-value, -high, -low), abs=1e-12)


def test_ratios_of_parts_merge_to_those_of_the_whole():
    sums = ratio_sums(np.random.default_rng(4), 90)
    sums[0][3] = np.nan
    parts = [RatioDifference.of(*(column[part] for column in sums)) for part in (slice(30), slice(30, None))]
    merged = RatioDifference.from_dict(parts[0].merge(parts[1]).as_dict())
    assert merged.n == 89
    assert merged.interval() == pytest.approx(RatioDifference.of(*sums).interval(), rel=1e-9)


def test_no_request_and_one_request_of_ratios():
    assert all(math.isnan(x) for x in RatioDifference.of([], [], [], []).interval())
    assert RatioDifference.of([0.2], [1.0], [0.1], [1.0]).interval() == pytest.approx((0.1, -1.0, 1.0))


@pytest.mark.parametrize("effect", [1.0, 0.6])
def test_differences_of_ratios_are_covered_in_simulation(effect):
    rng = np.random.default_rng(37)
    draws, hits = 1000, 0
    for _ in range(draws):
        _, low, high = RatioDifference.of(*ratio_sums(rng, 300, effect), bound=2.0).interval()
        hits += low <= 0.1 * (1 - effect) <= high
    # Skewed values: the mean of 300 is nearly normal, and three standard deviations of the share are 0.02.
    assert hits / draws >= 0.93 - 0.02


@pytest.mark.parametrize("n", [20, 300])
@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_a_measure_that_few_requests_have_is_covered(n, rate):
    """Normal intervals of it end too low: at 20 requests and a rate of 0.1 they cover 85%."""
    rng = np.random.default_rng(n)
    draws, hits, misses_of_normal = 2000, 0, 0
    for _ in range(draws):
        statistic = Statistic.of((rng.random(n) < rate) * rng.choice([0.1, 0.2], n))
        value, error = statistic.value, statistic.standard_error
        truth = rate * 0.15
        interval = nonnegative(value, error, n) if value > 0 else statistic.interval()
        hits += interval.low <= truth <= interval.high
        misses_of_normal += not value - 1.96 * error <= truth <= value + 1.96 * error
    assert hits / draws >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / draws)
    if (n, rate) == (20, 0.1):
        assert misses_of_normal / draws > 0.1
