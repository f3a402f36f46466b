"""End to end on replicas whose truth is known: log-odds = truth + N(0, s2_m)."""

import numpy as np
import pytest

from ranker.divergence import (
    NearTies,
    RequestBatch,
    Statistic,
    compare,
    gap_deciles,
    gap_noise,
    inversion_probability,
    measure_requests,
    near_ties,
    noise_components,
    odd_ones,
    replicas_then_pairs,
    wilson,
)
from ranker.errors import UserError


def simulate(seed, sigmas, requests=400, candidates=12, names=None, request_effect=0.0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1, 1, (requests, candidates)) + rng.normal(0, 1, (requests, 1))
    sigmas = np.asarray(sigmas)[:, None, None]
    noise = sigmas * rng.normal(0, 1, (len(sigmas), requests, candidates))
    noise += sigmas * request_effect * rng.normal(0, 1, (len(sigmas), requests, 1))  # shared within a request
    p = 1 / (1 + np.exp(-(truth + noise)))
    request, item = np.repeat(np.arange(requests), candidates), np.tile(np.arange(candidates), requests)
    batch = RequestBatch.from_rows(request, item, p.reshape(len(p), -1), replicas=names)
    return batch, truth


def test_noise_components_come_out_right_and_name_the_odd_replica():
    sigmas = [0.1, 0.1, 0.1, 0.1, 0.3]
    batch, _ = simulate(0, sigmas, requests=2000)
    result = compare(batch)
    components = {name: statistics["component"] for name, statistics in result.replicas.items()}
    for sigma, statistic in zip(sigmas, components.values(), strict=True):
        _, low, high = statistic.interval(0.999)
        assert low <= sigma**2 <= high
        assert high - low < 0.1 * 0.09
    squared = result.matrix("pd_logit_squared")
    np.testing.assert_allclose(noise_components(squared), [s.value for s in components.values()], rtol=1e-9)
    found = odd_ones(components)
    assert [odd.replica for odd in found] == ["4"]
    assert found[0].ratio == pytest.approx(9, rel=0.1)


def test_component_intervals_cover_the_truth():
    sigmas = np.array([0.1, 0.1, 0.15, 0.3])
    covered = []
    for seed in range(150):
        result = compare(simulate(seed, sigmas, requests=150, candidates=8, request_effect=1.0)[0])
        for sigma, statistics in zip(sigmas, result.replicas.values(), strict=True):
            _, low, high = statistics["component"].interval()
            covered.append(low <= 2 * sigma**2 <= high)
    assert np.mean(covered) >= 0.93


def test_no_odd_replica_where_all_are_alike():
    named = 0
    for seed in range(100):
        result = compare(simulate(1000 + seed, [0.1] * 5, requests=100, candidates=6)[0])
        named += bool(odd_ones({name: s["component"] for name, s in result.replicas.items()}))
    assert named <= 5


def test_a_dead_replica_leaves_the_components_of_the_others():
    batch, _ = simulate(3, [0.1, 0.1, 0.1, 0.2])
    scores = batch.scores.copy()
    scores[1] = np.nan
    requests = np.repeat(batch.requests, batch.sizes)
    result = compare(RequestBatch.from_rows(requests, batch.items, scores, answered=~np.isnan(scores)))
    assert "component" not in result.replicas["1"]
    assert result.replicas["3"]["component"].value == pytest.approx(0.04, rel=0.15)
    assert result.overall["top1_swap"].n == 400


def test_two_replicas_have_no_components():
    result = compare(simulate(3, [0.1, 0.1])[0])
    assert "component" not in result.replicas["0"]
    assert odd_ones({}) == []
    with pytest.raises(UserError, match="M >= 3"):
        noise_components([[0, 1], [1, 0]])


@pytest.mark.parametrize("sigma", [0.1, 0.4])
def test_inversions_by_true_gap_are_two_q_one_minus_q(sigma):
    batch, truth = simulate(4, [sigma, sigma], requests=3000)
    ties = near_ties(batch, "0", "1", sigma, truth=truth.ravel())
    for excess, observed in zip(ties.excess, ties.observed, strict=True):
        error = 4.5 * np.hypot(excess.standard_error, 1 / max(observed.weight, 1))
        assert abs(excess.value) <= error + 1e-4 * (observed.value == 0)
    assert ties.observed[0].value == pytest.approx(float(inversion_probability(0.025, sigma)), abs=0.02)


def test_inversions_by_the_replicas_own_mean_gap_are_as_predicted():
    batch, _ = simulate(5, [0.2, 0.2], requests=3000)
    ties = near_ties(batch, "0", "1", 0.2)
    assert all(abs(e.value) <= 4.5 * e.standard_error + 1e-4 for e in ties.excess)
    assert ties.predicted[0] > 0.8 > 0.01 > ties.predicted[-1]
    merged = NearTies.from_dict(ties.as_dict()).merge(ties)
    assert merged.observed[0].n == 2 * ties.observed[0].n
    assert merged.observed[3].value == pytest.approx(ties.observed[3].value)


def test_a_feature_bug_shows_as_inversions_at_large_gaps():
    batch, _ = simulate(6, [0.1, 0.1], requests=500)
    scores = batch.scores.copy()
    broken = np.random.default_rng(0).random(scores.shape[1]) < 0.05
    scores[1, broken] = 0.5
    requests = np.repeat(batch.requests, batch.sizes)
    ties = near_ties(RequestBatch.from_rows(requests, batch.items, scores), "0", "1", 0.1)
    for excess, observed in zip(ties.excess[6:9], ties.observed[6:9], strict=True):
        assert observed.value - excess.value < 1e-4 < excess.interval().low


def test_deciles_of_the_gap_hold_a_tenth_of_the_item_pairs_each():
    batch, _ = simulate(12, [0.1, 0.3], requests=300)
    edges = gap_deciles(batch, "0", "1")
    ties = near_ties(batch, "0", "1", gap_noise(batch, "0", "1"), edges=edges)
    pairs = [one.weight for one in ties.observed]
    assert (edges[0], edges[-1], len(pairs)) == (0.0, np.inf, 10)
    assert max(pairs) - min(pairs) <= 2
    assert all(abs(e.value) <= 4.5 * e.standard_error + 1e-3 for e in ties.excess)


def test_deciles_of_many_item_pairs_come_from_a_part_of_them(monkeypatch):
    batch, _ = simulate(12, [0.1, 0.1], requests=300)
    exact = gap_deciles(batch, "0", "1")
    monkeypatch.setattr("ranker.divergence.gaps.MOST_PAIRS", 4000)
    assert gap_deciles(batch, "0", "1")[1:-1] == pytest.approx(exact[1:-1], rel=0.1)


def test_noise_of_gaps_leaves_out_what_a_replica_shifts_alike():
    batch, _ = simulate(13, [0.1, 0.3], requests=500)
    assert gap_noise(batch, "0", "1") == pytest.approx(np.sqrt((0.01 + 0.09) / 2), rel=0.05)
    shift = np.repeat(np.random.default_rng(1).normal(1.0, 0.5, len(batch)), batch.sizes)
    odds = batch.scores / (1 - batch.scores) * np.exp(shift * [[0.0], [1.0]])
    requests = np.repeat(batch.requests, batch.sizes)
    shifted = RequestBatch.from_rows(requests, batch.items, odds / (1 + odds))
    assert gap_noise(shifted, "0", "1") == pytest.approx(gap_noise(batch, "0", "1"))
    alone = RequestBatch.from_rows([0, 1], [0, 1], [[0.1, 0.2], [0.3, 0.4]])
    assert gap_noise(alone, "0", "1") == 0.0
    assert gap_deciles(alone, "0", "1")[1:-1] == (0.0,) * 9


def test_a_feature_bug_shows_at_large_gaps_though_it_adds_to_the_noise():
    batch, _ = simulate(6, [0.1, 0.1], requests=500)
    scores = batch.scores.copy()
    scores[1, np.random.default_rng(0).random(scores.shape[1]) < 0.05] = 0.5
    broken = RequestBatch.from_rows(np.repeat(batch.requests, batch.sizes), batch.items, scores)
    ties = near_ties(broken, "0", "1", gap_noise(broken, "0", "1"), edges=gap_deciles(broken, "0", "1"))
    found = zip(ties.predicted, ties.excess, strict=True)
    assert any(predicted < 0.002 < excess.interval().low for predicted, excess in found)


def test_near_ties_of_long_and_uneven_lists_count_every_pair_once():
    rng = np.random.default_rng(11)
    sizes = np.array([1500, 3, 1, 700])
    request = np.repeat(np.arange(4), sizes)
    batch = RequestBatch.from_rows(
        request, np.arange(len(request)), np.round(rng.random((2, len(request))), 2)
    )
    ties = near_ties(batch, "0", "1", 0.2)
    assert sum(s.weight for s in ties.observed) == (sizes * (sizes - 1) / 2).sum()
    measured = measure_requests(batch).values["pair_inversion"][0]
    inverted = sum(measured[n] * sizes[n] * (sizes[n] - 1) / 2 for n in (0, 1, 3))
    assert sum(s.total for s in ties.observed) == pytest.approx(inverted)


def test_near_ties_refuse_what_makes_no_sense():
    batch, _ = simulate(7, [0.1, 0.1], requests=5)
    for call in (
        lambda: near_ties(batch, "0", "9", 0.1),
        lambda: near_ties(batch, "0", "1", 0.0),
        lambda: near_ties(batch, "0", "1", 0.1, edges=(1.0, 2.0)),
        lambda: near_ties(batch, "0", "1", 0.1).merge(near_ties(batch, "0", "1", 0.1, edges=(0.0, 1.0))),
    ):
        with pytest.raises(UserError, match="Received: "):
            call()


def test_intervals_cover_at_or_above_nominal():
    """95% intervals of every measure over 200 runs, with noise shared within requests: none is too narrow."""
    sigmas = [0.25, 0.25, 0.25]
    big = compare(simulate(99, sigmas, requests=60_000, request_effect=0.7)[0])
    truth = {label: statistic.value for label, statistic in big.overall.items()}
    hits = {label: [] for label in truth}
    for seed in range(200):
        result = compare(simulate(seed, sigmas, requests=200, request_effect=0.7)[0])
        for label, hit in hits.items():
            statistics = result.pairs["0", "1"] if label == "bias" else result.overall
            _, low, high = statistics[label].interval()
            hit.append(low <= (0.0 if label == "bias" else truth[label]) <= high)
    for label, hit in hits.items():
        assert np.mean(hit) >= 0.91, label  # 0.95 less 2.6 standard errors of 200 runs
    assert np.mean([np.mean(hit) for hit in hits.values()]) >= 0.938


def test_item_pairs_as_sampling_units_would_be_far_too_narrow():
    batch, _ = simulate(8, [0.25, 0.25], requests=500, candidates=30, request_effect=0.0)
    statistic = compare(batch).overall["visible_inversion@10"]
    pairs = 500 * 30 * 29 / 2
    naive = wilson(round(statistic.value * pairs), int(pairs))
    assert (statistic.interval().high - statistic.interval().low) > 1.5 * (naive.high - naive.low)


def test_false_alarms_under_no_change():
    """Eight replicas at the limit: pairs one by one cry wolf, replicas first and Holm keep to 5%."""
    limit = compare(simulate(77, [0.2] * 3, requests=40_000, candidates=8)[0]).overall["rpd_sym"].value
    alarms = naive = 0
    runs = 120
    for seed in range(runs):
        result = compare(simulate(5000 + seed, [0.2] * 8, requests=60, candidates=8)[0])
        pairs = {pair: statistics["rpd_sym"] for pair, statistics in result.pairs.items()}
        replicas = {name: statistics["rpd_sym"] for name, statistics in result.replicas.items()}
        found, theirs = replicas_then_pairs(replicas, pairs, limit)
        alarms += bool(found)
        assert theirs == {} or found
        naive += any(statistic.interval(0.9).low > limit for statistic in pairs.values())
    assert naive / runs > 0.25
    assert alarms / runs <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / runs)


def test_mean_over_pairs_and_over_replicas_agree():
    result = compare(simulate(9, [0.1, 0.2, 0.3])[0])
    for label in ("pd_abs", "top1_swap", "consensus_regret", "pair_inversion"):
        pairs = np.mean([statistics[label].value for statistics in result.pairs.values()])
        replicas = np.mean([statistics[label].value for statistics in result.replicas.values()])
        assert result.overall[label].value == pytest.approx(pairs) == pytest.approx(replicas)
        low, high = result.spread(label)
        assert low <= pairs <= high
    measured = measure_requests(simulate(9, [0.1, 0.2, 0.3])[0])
    assert measured.request_mean("top1_swap").mean() == pytest.approx(result.overall["top1_swap"].value)


def test_a_statistic_of_request_means_is_the_overall_one():
    batch, _ = simulate(10, [0.1, 0.2, 0.3])
    measured = measure_requests(batch)
    direct = Statistic.of(measured.request_mean("top1_swap"))
    assert direct.interval() == pytest.approx(measured.summarise().overall["top1_swap"].interval())
