"""The gate's verdicts, and the level of a pair from its labels."""

import numpy as np
import pytest

from ranker.divergence import (
    FLOOR,
    LEVELS,
    AnswerCoverage,
    GateOutcome,
    LeftOut,
    PairedDifference,
    RequestBatch,
    Statistic,
    answer_coverage,
    aside,
    compare,
    decide,
    decide_coverage,
    decide_quality,
    level,
    measure_requests,
    overall_verdict,
)
from ranker.errors import UserError


def swaps(rate, n):
    return Statistic.of(np.arange(n) < round(rate * n))


def test_within_the_baseline_passes_and_far_above_fails():
    baseline = swaps(0.05, 4000)
    passed = decide("top1_swap", swaps(0.05, 4000), baseline, margin=0.5)
    assert passed.verdict is GateOutcome.PASS
    assert passed.verdict.exit_code == 0
    assert passed.limit == pytest.approx(0.075)
    assert passed.more_requests is None
    failed = decide("top1_swap", swaps(0.2, 4000), baseline, margin=0.5)
    assert failed.verdict.exit_code == 1
    assert "above the limit" in failed.reason
    assert (
        decide("top1_swap", swaps(0.2, 4000), baseline, margin=0.5, allowance=0.2).verdict is GateOutcome.PASS
    )


@pytest.mark.parametrize("rate", [0.0, 0.04, 0.08])
def test_more_requests_are_as_many_as_decide(rate):
    baseline = swaps(0.05, 4000)
    asked = decide("top1_swap", swaps(rate, 50), baseline, margin=0.2)
    assert asked.verdict.exit_code == 2
    assert asked.more_requests > 0
    enough = 50 + asked.more_requests
    scaled = lambda n: Statistic(n, rate * n, rate * n, n, n, rate * n, swaps(rate, 50).histogram)  # noqa: E731
    assert decide("top1_swap", scaled(enough), baseline, margin=0.2).verdict is not GateOutcome.MORE
    assert decide("top1_swap", scaled(enough - 1), baseline, margin=0.2).verdict is GateOutcome.MORE


def test_no_number_of_requests_decides_on_the_limit_itself():
    undecided = decide("top1_swap", swaps(0.0, 100), swaps(0.0, 100))
    assert undecided.verdict is GateOutcome.MORE
    assert undecided.more_requests is None
    assert "would not help" in undecided.reason


def test_what_was_not_compared_stands_aside_and_asks_for_nothing():
    for pair in ((Statistic.empty(), swaps(0.1, 10)), (swaps(0.1, 10), Statistic.empty())):
        decision = decide("rpd_sym", *pair)
        assert decision.verdict is GateOutcome.ASIDE
        assert decision.more_requests is None
        assert "no request was compared" in decision.reason
        assert "nan" not in decision.reason


def test_coverage_is_a_decision_of_its_own():
    coverage = AnswerCoverage(1000, 480, {"error": LeftOut(520, "u7")})
    decision = decide_coverage("candidate", coverage)
    assert decision.verdict is GateOutcome.FAIL
    assert decision.reason.endswith("1,000 asked, 480 answered, 520 left out (error 520, first u7)")
    assert decide_coverage("candidate", coverage, 0.48).verdict is GateOutcome.PASS
    assert decide_coverage("candidate", AnswerCoverage(1000, 1000)).verdict is GateOutcome.PASS
    for nothing in (AnswerCoverage(10, 0), AnswerCoverage(0, 0)):
        assert decide_coverage("candidate", nothing, 0.0).verdict is GateOutcome.FAIL
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="min_coverage"):
            decide_coverage("candidate", coverage, wrong)


def test_what_is_left_out_is_named_by_kind_with_its_first_request():
    scores = [[0.1, 0.2, np.nan, 0.4, 0.5, 0.6], [0.1, 0.2, 0.3, 0.4, 2.0, 0.6]]
    answered = [[True, True, True, True, False, False], [True, True, True, False, True, True]]
    batch = RequestBatch.from_rows([1, 1, 2, 2, 3, 3], [1, 2] * 3, scores, replicas="ab", answered=answered)
    names = ["r1", "r2", "r3"]
    first, second = (answer_coverage(batch, name, names) for name in "ab")
    assert first.words == "3 asked, 1 answered, 2 left out (invalid_score 1, first r2; no_answer 1, first r3)"
    assert second.left_out == {"coverage_mismatch": LeftOut(1, "r2"), "invalid_score": LeftOut(1, "r3")}
    assert answer_coverage(batch, "a", names, {2: "down"}).left_out["down"] == LeftOut(1, "r3")


def test_quality_is_held_to_a_margin():
    rng = np.random.default_rng(0)
    serving = rng.random(4000)
    for worse, verdict in ((0.0, GateOutcome.PASS), (0.05, GateOutcome.FAIL), (0.02, GateOutcome.MORE)):
        candidate = serving - worse + rng.normal(0, 0.05, 4000)
        loss = PairedDifference.of(serving, candidate)
        decision = decide_quality("ndcg@10", loss, candidate.mean(), serving.mean(), margin=0.02)
        assert decision.verdict is verdict
        assert "worse by" in decision.reason
    undefined = decide_quality("auc", Statistic.empty(), float("nan"), float("nan"), margin=0.01)
    assert undefined.verdict is GateOutcome.ASIDE
    with pytest.raises(UserError, match="margin"):
        decide_quality("auc", loss, 0.5, 0.5, margin=-1)


def test_the_worst_verdict_counts():
    baseline = swaps(0.05, 4000)
    verdicts = {
        rate: decide("top1_swap", swaps(rate, 4000), baseline, margin=0.5) for rate in (0.05, 0.075, 0.2)
    }
    ok, unsure, bad = verdicts.values()
    assert overall_verdict([ok, ok]) is GateOutcome.PASS
    assert overall_verdict([ok, unsure]) is GateOutcome.MORE
    assert overall_verdict([ok, unsure, bad]) is GateOutcome.FAIL
    assert overall_verdict([]) is GateOutcome.MORE
    set_aside = aside("set_churn@10", "the lists are short")
    assert overall_verdict([ok, set_aside]) is GateOutcome.PASS
    assert overall_verdict([set_aside]) is GateOutcome.MORE


def test_wrong_settings_say_what_was_received():
    for wrong in ({"margin": -1}, {"allowance": float("nan")}):
        with pytest.raises(UserError, match="Received: "):
            decide("top1_swap", swaps(0.1, 10), swaps(0.1, 10), **wrong)


def test_gate_on_batches_candidate_against_replicas_of_one_recipe():
    """A candidate as noisy as the replicas passes, one with its own opinion fails."""
    rng = np.random.default_rng(0)
    truth = rng.normal(-1, 1, (1500, 10))
    request, item = np.repeat(np.arange(1500), 10), np.tile(np.arange(10), 1500)
    replicas = [truth + rng.normal(0, 0.1, truth.shape) for _ in range(3)]
    for noise, verdict in ((0.1, GateOutcome.PASS), (0.4, GateOutcome.FAIL)):
        logits = np.array([truth + rng.normal(0, noise, truth.shape), *replicas]).reshape(4, -1)
        names = ["candidate", "0", "1", "2"]
        batch = RequestBatch.from_rows(request, item, 1 / (1 + np.exp(-logits)), replicas=names)
        churn = compare(batch).replicas["candidate"]
        baseline = compare(batch.select(names[1:])).overall
        for label in ("top1_swap", "rpd_sym", "consensus_regret"):
            assert decide(label, churn[label], baseline[label], margin=0.3).verdict is verdict, label


LABELS = {"replica": "0", "version": 3, "data": "9f", "init_seed": 1, "shuffle_seed": 2, "server": "a:1"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "L0"),
        ({"server": "b:1"}, "L1"),
        ({"replica": "1"}, "L2"),
        ({"replica": "1", "shuffle_seed": 3}, "L3"),
        ({"replica": "1", "init_seed": 3}, "L4"),
        ({"replica": "1", "init_seed": 3, "shuffle_seed": 3, "server": "b:1"}, "L5"),
        ({"version": 4}, "L6"),
        ({"replica": "1", "data": "00"}, "L6"),
        ({"replica": "1", "init_seed": None}, "unlabelled"),
        ({"replica": None, "shuffle_seed": None}, "unlabelled"),
    ],
)
def test_level_of_a_pair(change, expected):
    assert level(LABELS, {**LABELS, **change}) == expected
    assert level({**LABELS, **change}, LABELS) == expected
    assert expected in LEVELS


def test_nothing_known_is_unlabelled_and_the_floor_is_two_levels():
    assert level({}, {}) == "unlabelled"
    assert set(FLOOR) <= set(LEVELS)


def new_and_serving(seed, sigma, requests, label):
    """Churn of a candidate with this noise against three replicas with noise 0.2, and theirs, as the gate takes them."""
    rng = np.random.default_rng(seed)
    noise = np.array([sigma, 0.2, 0.2, 0.2])[:, None, None] * rng.normal(0, 1, (4, requests, 8))
    p = 1 / (1 + np.exp(-(rng.normal(-1, 1, (requests, 8)) + noise)))
    request, item = np.divmod(np.arange(requests * 8), 8)
    batch = RequestBatch.from_rows(request, item, p.reshape(4, -1), replicas=["new", "a", "b", "c"])
    measured = measure_requests(batch)
    among = measured.select(["a", "b", "c"]).summarise().means[label]
    return measured.summarise().replicas["new"][label], among


@pytest.mark.parametrize("label", ["top1_swap", "consensus_regret"])
def test_a_candidate_on_the_limit_seldom_passes(label):
    """Simulated: the candidate's churn is 1.1 times what three serving replicas differ by, the limit itself."""
    low, high = 0.2, 0.3
    for _ in range(9):
        sigma = (low + high) / 2
        churn, among = new_and_serving(0, sigma, 6000, label)
        low, high = (low, sigma) if churn.value > 1.1 * among.value else (sigma, high)
    verdicts = [decide(label, *new_and_serving(seed, sigma, 150, label)).verdict for seed in range(1, 101)]
    # each end of a 95% interval errs in 2.5% of the runs; 3.5 standard errors of 100 runs more
    assert np.mean([verdict is GateOutcome.PASS for verdict in verdicts]) <= 0.08
    assert np.mean([verdict is GateOutcome.FAIL for verdict in verdicts]) <= 0.08


@pytest.mark.parametrize("label", ["top1_swap", "consensus_regret", "rpd_sym"])
def test_one_replica_more_churns_as_those_that_serve(label):
    churn, among = new_and_serving(1, 0.2, 20_000, label)
    assert churn.value == pytest.approx(among.value, rel=0.03)


def test_a_selection_keeps_the_pairs_and_their_consensus():
    rng = np.random.default_rng(5)
    batch = RequestBatch.from_rows(
        np.repeat(range(30), 4), np.tile(range(4), 30), rng.random((4, 120)), replicas=list("abcd")
    )
    whole, part = measure_requests(batch), measure_requests(batch).select(["d", "b", "a"]).summarise()
    assert set(part.pairs) == {("a", "b"), ("a", "d"), ("b", "d")}
    for pair, statistics in part.pairs.items():
        for label, statistic in statistics.items():
            assert statistic.interval() == whole.summarise().pairs[pair][label].interval()
    assert set(part.replicas) == {"a", "b", "d"}
    direct = compare(batch.select(["a", "b", "d"]))
    assert part.means["top1_swap"].value == direct.means["top1_swap"].value
    assert part.replicas["a"]["component"].value == pytest.approx(direct.replicas["a"]["component"].value)
