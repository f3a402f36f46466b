"""The verdict and the numbers in it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.divergence import CATALOGUE, Interval
from serving.dashboard import words
from serving.monitor.store.results import Freshness, Measured, ReplicaNow, Verdict

BUDGET = {"top1_swap": 0.03, "consensus_regret": 0.005}
REPLICAS = tuple(ReplicaNow(name, 1, {}, 0, 0) for name in ("a", "b", "c"))


def measured(label: str, value: float, low: float, high: float, n: int = 1000) -> Measured:
    floor = Interval(0.001, 0.0, 0.002)
    excess = Interval(value - 0.001, low - 0.001, high)
    return Measured(label, Interval(value, low, high), floor, excess, n, 15)


def verdict(
    *found: Measured, age: float | None = 20.0, replicas: tuple[ReplicaNow, ...] = REPLICAS
) -> Verdict:
    fresh = Freshness("probe", None if age is None else 1_000_000, age, 0.5, 1000, "", 15)
    return Verdict(fresh, {one.label: one for one in found}, replicas, {})


def judged(*found: Measured, **options: object) -> words.Finding:
    return words.finding(verdict(*found, **options), BUDGET, stale_after=300, enough=100)  # type: ignore[arg-type]


CALM = measured("consensus_regret", 0.001, 0.0005, 0.0015)


def test_the_sentence_names_value_interval_budget_and_floor() -> None:
    found = judged(measured("top1_swap", 0.018, 0.016, 0.020), CALM)
    assert f"{found.state}: {found.sentence}" == (
        "STABLE: replicas swap the top item on 1.8% of requests (1.6-2.0), budget 3%, floor 0.10%"
    )


@pytest.mark.parametrize(
    ("found", "options", "state"),
    [
        ((measured("top1_swap", 0.05, 0.04, 0.06), CALM), {}, "UNSTABLE"),
        (
            (measured("top1_swap", 0.01, 0.005, 0.02), measured("consensus_regret", 0.02, 0.01, 0.03)),
            {},
            "UNSTABLE",
        ),
        ((measured("top1_swap", 0.03, 0.02, 0.04), CALM), {}, "NOT ENOUGH DATA"),
        ((measured("top1_swap", 0.05, 0.04, 0.06, n=50), CALM), {}, "NOT ENOUGH DATA"),
        ((CALM,), {"replicas": REPLICAS[:1]}, "NOT ENOUGH DATA"),
        ((), {}, "NOT ENOUGH DATA"),
        ((CALM,), {"age": None}, "NOT ENOUGH DATA"),
        ((CALM,), {"age": 301.0}, "STALE"),
    ],
)
def test_states(found: tuple[Measured, ...], options: dict[str, object], state: str) -> None:
    assert judged(*found, **options).state == state


def test_the_worst_measure_leads_when_several_are_over_budget() -> None:
    found = judged(measured("top1_swap", 0.05, 0.04, 0.06), measured("consensus_regret", 0.05, 0.04, 0.06))
    assert found.measure == "consensus_regret"


def test_an_unknown_interval_is_no_verdict() -> None:
    alone = Measured(
        "top1_swap", Interval(0.01, -math.inf, math.inf), None, Interval(0.01, -math.inf, math.inf), 500, 1
    )
    assert judged(alone).state == "NOT ENOUGH DATA"
    assert "interval unknown" in judged(alone).sentence


def test_every_measure_has_a_name_of_its_own() -> None:
    titles = [words.title(name.replace("@k", "@10").replace("@t", "@0.5")) for name in CATALOGUE]
    assert len(set(titles)) == len(titles)
    assert not any("{" in title or "_" in title for title in titles)


@settings(deadline=None)
@given(st.floats(1e-9, 2.0))
def test_a_share_keeps_two_digits_that_count(share: float) -> None:
    shown = float(words.percent(share)) / 100
    assert abs(shown - share) <= 0.051 * share or share < 1e-8


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_an_interval_never_leaves_what_the_measure_can_be(a: float, b: float, c: float) -> None:
    low, value, high = sorted((a, b, c))
    clipped = words.clipped("top1_swap", Interval(value, low - 0.5, high + 0.5))
    assert 0 <= clipped.low <= value <= clipped.high <= 1
