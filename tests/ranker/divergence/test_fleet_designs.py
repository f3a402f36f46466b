"""Designs of pairs: regular, connected, redrawn; with all pairs the all-pairs result; intervals that cover."""

import numpy as np
import pytest

from ranker.divergence import RequestBatch, measure_requests, noise_components, odd_ones
from ranker.divergence.fleet import Design, estimate_fleet, measure_design, replica_effects
from ranker.errors import UserError


def simulate(replicas, requests=40, candidates=12, *, noise=0.3, seed=0, shared=0.0, missing=0.0):
    """Answers of replicas whose log-odds differ from a truth by noise of their own; `noise` one number or one each."""
    random = np.random.default_rng(seed)
    rows = requests * candidates
    truth = random.normal(size=rows) - 1
    scale = np.broadcast_to(np.asarray(noise, dtype=float), replicas)[:, None]
    # some noise is shared by the candidates of a request, as of a user's embedding
    by_request = np.repeat(random.normal(size=(replicas, requests)), candidates, axis=1)
    own = random.normal(size=(replicas, rows))
    logits = truth + scale * (np.sqrt(shared) * by_request + np.sqrt(1 - shared) * own)
    answered = np.repeat(random.random((replicas, requests)) >= missing, candidates, axis=1)
    return RequestBatch.from_rows(
        np.repeat(np.arange(requests), candidates),
        np.tile(np.arange(candidates), requests),
        1 / (1 + np.exp(-logits)),
        answered=answered,
    )


def components_of(design):
    label = np.arange(design.count)
    for _ in range(design.count):
        both = np.minimum(label[design.pairs[:, 0]], label[design.pairs[:, 1]])
        before = label.copy()
        np.minimum.at(label, design.pairs[:, 0], both)
        np.minimum.at(label, design.pairs[:, 1], both)
        if (before == label).all():
            break
    return len(set(label.tolist()))


@pytest.mark.parametrize("degree", [4, 6, 8])
@pytest.mark.parametrize("count", [11, 17, 18, 129])
def test_a_design_is_regular_connected_and_without_a_pair_twice(count, degree):
    for seed in range(3):
        design = Design.regular(count, seed, degree)
        assert set(design.degrees.tolist()) == {degree}
        assert len({tuple(pair) for pair in design.pairs.tolist()}) == count * degree // 2
        assert (design.pairs[:, 0] < design.pairs[:, 1]).all()
        assert components_of(design) == 1
    assert (Design.regular(count, 1, degree).pairs == Design.regular(count, 1, degree).pairs).all()
    assert not (Design.regular(count, 1, degree).pairs == Design.regular(count, 2, degree).pairs).all()


def test_every_pair_is_drawn_equally_often():
    count, draws = 20, 300
    times = np.zeros((count, count))
    for seed in range(draws):
        pairs = Design.regular(count, seed, 6).pairs
        times[pairs[:, 0], pairs[:, 1]] += 1
    of_pairs = times[np.triu_indices(count, 1)] / draws
    expected = 6 / (count - 1)
    # 190 pairs, each a mean of 300 draws: five standard errors
    assert np.abs(of_pairs - expected).max() < 5 * np.sqrt(expected * (1 - expected) / draws)


def test_few_replicas_are_compared_in_all_pairs():
    for count in (2, 3, 8, 10):
        design = Design.regular(count, 5)
        assert len(design.pairs) == count * (count - 1) // 2
        assert design.share == 1


@pytest.mark.parametrize("degree", [2, 3, 7, 0, -8])
def test_a_degree_that_cannot_be_is_refused(degree):
    with pytest.raises(UserError, match=f"Received: degree={degree}"):
        Design.regular(40, 1, degree)


def test_a_design_of_other_replicas_is_refused():
    with pytest.raises(UserError, match=r"5 replicas\. Received: of 6"):
        measure_design(simulate(5), Design.complete(6))


@pytest.mark.parametrize("count", [3, 4, 9, 20])
def test_all_pairs_give_the_result_of_all_pairs(count):
    batch = simulate(count, noise=np.linspace(0.1, 0.5, count), seed=count)
    everything = measure_requests(batch).summarise()
    estimate = estimate_fleet(measure_design(batch, Design.complete(count)))
    for label, statistic in estimate.means.items():
        expected = everything.means[label]
        assert statistic.n == expected.n
        assert statistic.value == pytest.approx(expected.value, rel=1e-12, abs=1e-14)
        assert statistic.standard_error == pytest.approx(expected.standard_error, rel=1e-9, abs=1e-14)
        assert (statistic.histogram.counts == expected.histogram.counts).all()
    assert "component" in estimate.effects
    for label in estimate.effects:
        for name, statistic in estimate.replica(label).items():
            expected = everything.replicas[name][label]
            assert statistic.value == pytest.approx(expected.value, rel=1e-9, abs=1e-12), (label, name)
            assert statistic.standard_error == pytest.approx(expected.standard_error, rel=1e-6, abs=1e-9)


def test_effects_are_the_closed_form_with_all_pairs_and_exact_on_any_design_where_they_add_up():
    random = np.random.default_rng(3)
    squared = random.random((7, 7))
    squared += squared.T
    complete = Design.complete(7)
    values = squared[complete.pairs[:, 0], complete.pairs[:, 1]][:, None]
    np.testing.assert_allclose(
        replica_effects(complete, values)[0][:, 0], noise_components(squared), rtol=1e-10
    )
    truth = random.random((200, 3))
    design = Design.regular(200, 9)
    effects, determined = replica_effects(design, design.sum_of_both(truth))
    assert determined.all()
    np.testing.assert_allclose(effects, truth, atol=1e-10)


def test_what_the_pairs_do_not_determine_is_said():
    path = Design(4, np.array([[0, 1], [1, 2], [2, 3]]))  # no odd cycle: effects may shift by +1, -1, +1, -1
    assert not replica_effects(path, np.ones((3, 1)))[1].any()
    triangle = Design(5, np.array([[0, 1], [0, 2], [1, 2], [2, 3]]))
    values = np.array([[3.0, 3.0], [4.0, 4.0], [5.0, 5.0], [7.0, 7.0]])
    usable = np.array([[True, True], [True, True], [True, False], [True, True]])
    effects, determined = replica_effects(triangle, values, usable)
    assert determined[:, 0].tolist() == [True, True, True, True, False]  # the last is in no pair
    np.testing.assert_allclose(effects[:4, 0], [1, 2, 3, 4], atol=1e-9)
    assert not determined[:, 1].any()


def test_replicas_that_miss_requests_are_estimated_from_those_they_answered():
    noise = np.full(40, 0.3)
    noise[5] = 0.9
    batch = simulate(40, requests=120, noise=noise, missing=0.1, seed=4)
    estimate = estimate_fleet(measure_design(batch, Design.regular(40, 2)))
    component = estimate.replica("component")
    for m, statistic in enumerate(component.values()):
        assert 90 <= statistic.n <= 120
        # log-odds of float64 probabilities: the estimate is within five of its standard errors of the truth
        assert abs(statistic.value - noise[m] ** 2) < 5 * statistic.standard_error
    assert [odd.replica for odd in odd_ones(component, alpha=0.001)] == ["5"]


def test_equal_replicas_differ_by_nothing_and_none_is_odd():
    batch = simulate(30, noise=0.0)
    estimate = estimate_fleet(measure_design(batch, Design.regular(30, 1)))
    assert estimate.means["top1_swap"].value == 0
    low, high = estimate.means["top1_swap"].interval()[1:]
    assert low == 0
    assert 0 < high < 0.15
    assert odd_ones(estimate.replica("component")) == []


@pytest.mark.parametrize("settings", [{}, {"shared": 0.8, "noise": np.r_[np.full(18, 0.2), 1.5, 2.0]}])
def test_intervals_of_the_mean_over_all_pairs_hold_at_their_level(settings):
    count, population, requests, labels = 20, 800, 40, ("top1_swap", "pd_abs", "consensus_regret")
    held, total = dict.fromkeys(labels, 0), 0
    for trial in range(2):
        fleet = simulate(count, requests=population, candidates=6, seed=trial, **settings)
        everything = estimate_fleet(measure_design(fleet, Design.complete(count)), effects=False).means
        random = np.random.default_rng(1000 + trial)
        for draw in range(50):
            sample = fleet.take(np.sort(random.choice(population, requests, replace=False)))
            measured = measure_design(sample, Design.regular(count, 100 * trial + draw, 4))
            means = estimate_fleet(measured, effects=False).means
            total += 1
            for label in labels:
                low, high = means[label].interval(0.95)[1:]
                held[label] += low <= everything[label].value <= high
    # 100 intervals at 95%: 88.5% is three standard errors below
    assert {label: count / total for label, count in held.items() if count / total < 0.885} == {}


def test_intervals_of_a_replicas_noise_hold_at_their_level():
    noise = np.random.default_rng(1).lognormal(np.log(0.3), 0.3, size=60)
    held = total = 0
    for seed in range(12):
        batch = simulate(60, requests=60, candidates=8, noise=noise, seed=seed, shared=0.5)
        component = estimate_fleet(measure_design(batch, Design.regular(60, seed))).replica("component")
        for truth, statistic in zip(noise**2, component.values(), strict=True):
            low, high = statistic.interval(0.95)[1:]
            held, total = held + (low <= truth <= high), total + 1
    # replicas of one draw share its requests, so that 720 intervals count for fewer
    assert held / total >= 0.93


def test_a_seed_more_measures_other_pairs_and_says_the_same():
    batch = simulate(50, requests=100, seed=8)
    first, second = (estimate_fleet(measure_design(batch, Design.regular(50, seed))) for seed in (1, 2))
    a, b = first.means["top1_swap"], second.means["top1_swap"]
    assert a.value != b.value
    assert abs(a.value - b.value) < 4 * np.hypot(a.standard_error, b.standard_error)
