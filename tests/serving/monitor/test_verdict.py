"""The first sentence: the worst of all that is known, whom it names, since when and after what."""

from __future__ import annotations

import itertools

import pytest

from ranker.divergence import Interval
from serving.monitor.judgement.verdict import STATES, TWO_REPLICAS, Facts, OddReplica, judge
from serving.monitor.store.results import AlertRow, EventRow, Freshness, MeasureEstimate, PairEstimate

NOW = 1_750_000_000
BUDGET = {"top1_swap": 0.03, "consensus_regret": 0.005}
NAMES = ("a", "b", "c")


def fresh(age: float | None = 20.0, interval: float | None = 60.0, **answered: object) -> Freshness:
    outcomes = {}
    for name in NAMES:
        kinds = answered.get(name, {})
        failed = sum(kinds.values())  # type: ignore[attr-defined]
        outcomes[name] = {"asked": 1000, "answered": 1000 - failed, **kinds}  # type: ignore[dict-item]
    time = None if age is None else NOW - int(age)
    return Freshness("probe", time, age, 2.0, 1000, "", 15, interval, outcomes)


def measured(label: str, value: float, half: float = 0.002, n: int = 1000) -> MeasureEstimate:
    floor = Interval(0.001, 0.0, 0.002)
    excess = Interval(value - 0.001, value - half - 0.001, value + half)
    return MeasureEstimate(label, Interval(value, value - half, value + half), floor, excess, n, 15)


def pair(a: str, b: str, value: float, half: float = 0.002) -> PairEstimate:
    interval = Interval(value, value - half, value + half)
    return PairEstimate(a, b, 1, 1, "L3", interval, interval, 1000, 15)


def alert(rule: str, severity: str = "page", started: int = NOW - 600, **labels: str) -> AlertRow:
    return AlertRow(
        1,
        rule,
        labels,
        severity,
        "firing",
        started,
        started,
        None,
        NOW,
        "firing",
        False,
        None,
        None,
        f"{rule} says so",
    )


def refreshed(replica: str, time: int, old: int) -> EventRow:
    return EventRow(time, "refresh", replica, {"old": old, "new": old + 1})


CALM = {label: measured(label, 0.002, 0.001) for label in BUDGET}
PAIRS = {label: [pair(a, b, 0.002, 0.001) for a, b in itertools.combinations(NAMES, 2)] for label in BUDGET}


def facts(**changes: object) -> Facts:
    values = {"freshness": fresh(), "means": CALM, "pairs": PAIRS, "budget": BUDGET}
    return Facts(**(values | changes))  # type: ignore[arg-type]


def test_calm_replicas_are_stable_with_value_interval_budget_floor_and_the_worst_pair() -> None:
    verdict = judge(facts(means={**CALM, "top1_swap": measured("top1_swap", 0.018)}))
    assert verdict.line == (
        "STABLE: replicas swap the top item on 1.8% (95%: 1.6 to 2.0) of requests, budget 3%, floor 0.10%; "
        "most between a and b, 0.20%"
    )
    assert (verdict.answering, verdict.asked, verdict.replicas) == (3, 3, ())


UNSTABLE = {
    "page alert": {"alerts": [alert("anything", replica="b")]},
    "ticket alert": {"alerts": [alert("floor-jumped", "ticket", replica="b", measure="rpd_sym")]},
    "alert about all": {"alerts": [alert("version-skew", "ticket")]},
    "odd replica": {"odd": [OddReplica("b", 36.0)]},
    "hung replica": {"freshness": fresh(b={"deadline": 1000})},
    "dead replica": {"freshness": fresh(b={"down": 1000})},
    "replica that is not compared": {"freshness": fresh(b={"incompatible": 1000})},
    "half the answers": {"freshness": fresh(b={"invalid_score": 500})},
    "worst pair": {"pairs": {**PAIRS, "top1_swap": [pair("a", "b", 0.2), pair("a", "c", 0.002)]}},
    "mean": {"means": {**CALM, "top1_swap": measured("top1_swap", 0.05)}},
    "mean of the second measure": {"means": {**CALM, "consensus_regret": measured("consensus_regret", 0.02)}},
}


@pytest.mark.parametrize("changes", UNSTABLE.values(), ids=UNSTABLE)
def test_one_bad_thing_is_enough_and_is_named(changes: dict[str, object]) -> None:
    verdict = judge(facts(**changes))
    assert verdict.state == "UNSTABLE"
    about_all = {"means"} & set(changes) or [found for found in changes.get("alerts", ()) if not found.labels]  # type: ignore[attr-defined]
    assert about_all or "b" in verdict.replicas


@pytest.mark.parametrize("changes", UNSTABLE.values(), ids=UNSTABLE)
def test_old_facts_are_stale_whatever_they_said_and_say_what_it_was(changes: dict[str, object]) -> None:
    found = facts(**changes)
    old = Freshness(**{**vars(found.freshness), "age": 2000.0, "time": NOW - 2000})
    verdict = judge(Facts(**{**vars(found), "freshness": old}))
    assert verdict.state == "STALE"
    assert "last known: UNSTABLE" in verdict.sentence
    assert verdict.since == NOW - 2000 + 182


def test_the_worst_state_wins() -> None:
    found = [
        judge(facts()),
        judge(facts(means={})),
        judge(facts(means={}, odd=[OddReplica("a", 9.0)])),
        judge(facts(freshness=fresh(age=4000.0))),
    ]
    assert [verdict.state for verdict in found] == list(STATES)
    assert [verdict.exit_code for verdict in found] == [0, 2, 1, 3]


def test_an_odd_replica_has_since_when_and_what_changed() -> None:
    marks = [
        EventRow(NOW - 605, "refresh", "b", {"old": 1, "new": 2}),
        EventRow(NOW - 700, "refresh", "a", {"old": 1, "new": 2}),
    ]
    verdict = judge(
        facts(odd=[OddReplica("b", 36.0)], alerts=[alert("odd-replica", replica="b")], refreshes=marks)
    )
    assert verdict.sentence == (
        "b is odd, 36 times the others' noise, since 2025-06-15 14:56:40 UTC, 5 s after its refresh 1 to 2"
    )
    assert (verdict.since, verdict.changed) == (NOW - 600, "5 s after its refresh 1 to 2")


def test_without_an_alert_it_is_odd_since_these_versions_are_compared() -> None:
    marks = [refreshed("c", NOW - 90, 3)]
    verdict = judge(facts(odd=[OddReplica("b", float("inf"))], compared_since=NOW - 90, refreshes=marks))
    assert verdict.sentence.endswith("UTC, 0 s after c's refresh 3 to 4")
    assert "far above" in verdict.sentence


def test_a_refresh_long_before_is_no_cause_nor_is_one_after() -> None:
    marks = [
        EventRow(NOW - 10, "refresh", "b", {"old": 2, "new": 3}),
        EventRow(NOW - 9000, "refresh", "b", {"old": 1, "new": 2}),
    ]
    assert judge(facts(odd=[OddReplica("b", 9.0)], compared_since=NOW - 90, refreshes=marks)).changed == ""


def test_a_hung_process_is_told_from_one_where_nothing_listens() -> None:
    hung = judge(facts(freshness=fresh(b={"deadline": 1000}), last_answers={"b": NOW - 100}))
    dead = judge(facts(freshness=fresh(b={"down": 1000})))
    assert "hung" in hung.sentence
    assert "nothing listens" not in hung.sentence
    assert "nothing listens" in dead.sentence
    assert (hung.answering, hung.asked, hung.since) == (2, 3, NOW - 100)


def test_a_replica_in_every_pair_over_the_budget_is_named_alone() -> None:
    over = [pair("a", "b", 0.2), pair("b", "c", 0.2), pair("a", "c", 0.002)]
    verdict = judge(facts(pairs={**PAIRS, "top1_swap": over}))
    assert verdict.replicas == ("b",)
    assert "b is in each of 2 such pairs" in verdict.sentence


def test_two_replicas_cannot_tell_which_is_odd_and_it_says_so() -> None:
    two = Freshness(**{**vars(fresh()), "outcomes": {n: {"asked": 9, "answered": 9} for n in "ab"}})
    over = {"top1_swap": [pair("a", "b", 0.2)]}
    verdict = judge(facts(freshness=two, means={**CALM, "top1_swap": measured("top1_swap", 0.2)}, pairs=over))
    assert verdict.state == "UNSTABLE"
    assert TWO_REPLICAS in verdict.sentence
    assert TWO_REPLICAS in judge(facts(freshness=two)).notes


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"freshness": fresh(age=None)}, "no round"),
        ({"means": {}}, "no measure with a budget"),
        (
            {"means": {**CALM, "top1_swap": measured("top1_swap", 0.05, n=50)}},
            "50 requests compared, 100 needed",
        ),
        ({"means": {**CALM, "top1_swap": measured("top1_swap", 0.03, 0.01)}}, "too few requests to tell"),
        (
            {"freshness": Freshness(**{**vars(fresh()), "outcomes": {"a": {"asked": 9, "answered": 9}}})},
            "fewer than two",
        ),
    ],
)
def test_not_enough_data_says_what_is_missing(changes: dict[str, object], text: str) -> None:
    verdict = judge(facts(**changes))
    assert verdict.state == "NOT ENOUGH DATA"
    assert text in verdict.sentence


def test_an_alert_about_what_is_said_already_adds_its_time_and_no_second_sentence() -> None:
    alerts = [
        alert("coverage-low", replica="b"),
        alert("swap-over-budget", measure="top1_swap", started=NOW - 900),
    ]
    verdict = judge(
        facts(
            freshness=fresh(b={"error": 500}),
            alerts=alerts,
            means={**CALM, "top1_swap": measured("top1_swap", 0.05)},
        )
    )
    assert "says so" not in verdict.sentence
    assert verdict.since == NOW - 900


def test_a_muted_alert_is_still_in_the_verdict_with_who_has_taken_it_on() -> None:
    taken = AlertRow(**{**vars(alert("version-skew")), "acknowledged": NOW, "acknowledged_by": "Ada"})
    assert "taken on by Ada" in judge(facts(alerts=[taken])).sentence


@pytest.mark.parametrize(
    ("interval", "age", "stale"),
    [
        (60.0, 130.0, False),
        (60.0, 190.0, True),
        (120.0, 301.0, False),
        (120.0, 363.0, True),
        (None, 301.0, True),
        (None, 299.0, False),
        (1.0, 14.0, False),
        (1.0, 16.0, True),
        (3600.0, 7000.0, False),
    ],
)
def test_the_stale_limit_follows_the_monitors_own_interval(
    interval: float | None, age: float, stale: bool
) -> None:
    verdict = judge(facts(freshness=fresh(age, interval)))
    assert (verdict.state == "STALE") == stale
