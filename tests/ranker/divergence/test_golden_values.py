"""Values computed by hand, from the definition of each measure."""

import math

import numpy as np
import pytest

from ranker import divergence as d

A = list(range(10))


def scores_of(*rankings):
    """Scores that order the union of the items as each ranking does, what it does not rank last and tied."""
    items = sorted({item for ranking in rankings for item in ranking})
    return [[1 - r.index(i) / 100 if i in r else 0.0 for i in items] for r in map(list, rankings)]


def swapped(first):
    b = A.copy()
    b[first], b[first + 1] = b[first + 1], b[first]
    return b


@pytest.mark.parametrize(
    ("measure", "b", "expected"),
    [
        (d.rbo_ext, A, 1.0),
        (d.rbo_ext, range(10, 20), 0.0),
        (d.rbo_ext, swapped(0), 0.9),
        (d.rbo_ext, swapped(8), 0.995217),
        (d.kendall_topk, A[::-1], 45 / 145),
        (d.kendall_topk, range(2, 12), 21 / 145),
        (d.kendall_topk, range(10, 20), 1.0),
        (d.med_dcg, swapped(0), 0.081229),
        (d.med_dcg, swapped(8), 0.002633),
        (d.med_dcg, range(10, 20), 1.0),
        (d.set_churn, range(2, 12), 0.2),
        (d.set_churn, range(10, 20), 1.0),
        (d.top1_swap, swapped(0), 1.0),
        (d.top1_swap, swapped(1), 0.0),
        (d.adjacent_swap, swapped(4), 1 / 9),
        (d.adjacent_swap, A[::-1], 1.0),
        (d.slot_change, swapped(4), 0.2),
        (d.slot_change, [9, *A[:9]], 1.0),
        (d.pair_inversion, A[::-1], 1.0),
    ],
)
def test_top_ten_lists(measure, b, expected):
    assert measure(*scores_of(A, b)) == pytest.approx(expected, abs=5e-7)


def test_plain_rbo_of_identical_lists_is_not_one_so_the_extrapolated_form_matters():
    assert (1 - 0.9) / 0.9 * sum(0.9**depth for depth in range(1, 11)) == pytest.approx(0.651, abs=5e-4)


def test_pair_inversion_counts_a_tie_in_one_list_as_half():
    assert d.pair_inversion([4, 3, 2, 1], [4, 3, 1, 2]) == pytest.approx(1 / 6)
    assert d.pair_inversion([0.9, 0.5, 0.5, 0.1], [0.9, 0.4, 0.5, 0.1]) == pytest.approx(0.5 / 6)
    assert d.pair_inversion([0.5, 0.5], [0.5, 0.5]) == 0


def test_visible_inversion_ignores_pairs_below_both_tops():
    a = [0.9, 0.8, 0.3, 0.2, 0.1]
    below = [0.9, 0.8, 0.1, 0.2, 0.3]  # items 2, 3, 4 reversed: with k = 2 nobody sees them
    across = [0.9, 0.3, 0.8, 0.2, 0.1]  # items 1 and 2 exchanged: 3 of 5 items are visible, 9 pairs
    assert d.visible_inversion(a, below, k=2) == 0
    assert d.visible_inversion(a, across, k=2) == pytest.approx(1 / 9)


def test_prediction_difference():
    assert d.pd_abs([0.2], [0.3]) == pytest.approx(0.1)
    assert d.rpd_sym([0.2], [0.3]) == pytest.approx(0.4)
    assert d.rpd_ratio([0.2], [0.3]) == pytest.approx(0.4)
    assert d.bias([0.2], [0.3]) == pytest.approx(-0.4)
    assert d.pd_logit([0.2], [0.3]) == pytest.approx(math.log(0.3 / 0.7) - math.log(0.2 / 0.8))
    assert d.d1([[0.2], [0.3]]) == pytest.approx(0.05)
    assert d.relative_d1([[0.2], [0.3]]) == pytest.approx(0.2)
    assert d.rpd_sym([0.0, 0.2], [0.0, 0.3]) == pytest.approx(0.2)
    assert d.flip_rate([0.5, 0.6], [0.6, 0.6]) == 0.5
    assert d.flip_rate([0.05, 0.2], [0.2, 0.2], threshold=0.1) == 0.5


def test_deviation_from_the_mean_grows_with_replicas_where_the_mean_over_pairs_does_not():
    """Why pairs: the ratio of the two is 2, sqrt 3, 1.63 and 1.51 for 2, 3, 4 and 8 replicas."""
    p = 0.5 + 0.01 * np.random.default_rng(0).standard_normal((8, 40_000)).clip(-4, 4)
    for replicas, expected in ((2, 2.0), (3, 1.73), (4, 1.63), (8, 1.51)):
        pairs = [d.pd_abs(p[i], p[j]) for i in range(replicas) for j in range(i)]
        assert np.mean(pairs) / d.d1(p[:replicas]) == pytest.approx(expected, abs=0.02)


def test_consensus_regret_is_the_share_of_expected_clicks_lost():
    pbar = np.array([0.5, 0.4, 0.1])
    weight = 1 / np.log2([2, 3, 4])
    lost = (weight * (pbar - pbar[[1, 0, 2]])).sum() / (weight * pbar).sum()
    assert d.replica_regret([0.2, 0.9, 0.1], pbar) == pytest.approx(lost)
    assert d.replica_regret([3.0, 2.0, 1.0], pbar) == 0
    a, b = [0.6, 0.3, 0.1], [0.4, 0.5, 0.1]  # their mean is pbar; only b's order loses
    assert d.consensus_regret(a, b) == pytest.approx(lost / 2)


def test_noise_components_are_recovered_exactly():
    s2 = np.array([0.01, 0.01, 0.01, 0.01, 0.09])
    np.testing.assert_allclose(d.noise_components(s2[:, None] + s2[None, :]), s2, atol=1e-15)


def test_wilson():
    assert d.wilson(0, 1000) == pytest.approx((0, 0, 0.003827), abs=5e-7)


def test_items_break_ties():
    tied, other = [0.5, 0.5], [0.5, 0.4]
    assert d.top1_swap(tied, other) == 0
    assert d.top1_swap(tied, other, items=["b", "a"]) == 1
    assert d.top1_swap(tied, other, items=[10, 9]) == 1
    assert d.top1_swap(tied, other, items=["10", "9"]) == 0  # as strings "10" comes first
