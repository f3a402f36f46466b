"""Conditions against simulated truth: what must be found is found in time, and nothing is found where nothing is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ranker.divergence import Settings, Statistic
from ranker.errors import UserError
from serving.monitor.alerts.conditions import findings
from serving.monitor.alerts.machine import FIRING, step
from serving.monitor.alerts.replay import replay
from serving.monitor.alerts.rules import Rules, load_rules
from serving.monitor.alerts.situation import Situation
from serving.monitor.measurement.measure import measure
from serving.monitor.store.write import write_round

RULES = load_rules()
BUDGET = {"top1_swap": 0.05, "consensus_regret": 0.005}
QUARTER = 91 * 86_400


def rule(name, **changes):
    return RULES.named(name).model_copy(update=changes)


def swaps(rate, n):
    return {"top1_swap": Statistic.of(np.arange(n) < round(rate * n))}


def test_excess_needs_the_lower_bound_above_the_budget():
    findings_by_size = {
        n: findings(rule("swap-over-budget"), Situation(0, whole=swaps(0.2, n)), BUDGET)[0]
        for n in (50, 5000)
    }
    assert not findings_by_size[50].active
    assert not findings_by_size[50].cleared
    assert findings_by_size[5000].active
    (fine,) = findings(rule("swap-over-budget"), Situation(0, whole=swaps(0.04, 5000)), BUDGET)
    assert fine.cleared
    assert not fine.active


def test_the_floor_is_taken_off():
    noisy_floor = {"a": swaps(0.18, 5000)}
    (finding,) = findings(
        rule("swap-over-budget"), Situation(0, whole=swaps(0.2, 5000), floors=noisy_floor), BUDGET
    )
    assert finding.value == pytest.approx(0.02)
    assert finding.cleared


def test_a_rule_without_facts_or_budget_finds_nothing():
    for alert_rule in RULES.rules:
        if alert_rule.condition != "no_data":
            assert findings(alert_rule, Situation(0), BUDGET) == []
    assert findings(rule("swap-over-budget"), Situation(0, whole=swaps(0.9, 5000)), {}) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_odd_replica_is_named_within_three_rounds(sqlite_store, simulate, start, seed):
    simulation = simulate([0.1, 0.1, 0.1, 0.1], requests=60, seed=seed)
    for minute in range(5):
        write_round(sqlite_store, measure(simulation.round(start + minute * 60), Settings(), (), {}).record)
    simulation.noise[2] = 0.4
    for minute in range(5, 8):
        write_round(sqlite_store, measure(simulation.round(start + minute * 60), Settings(), (), {}).record)
    changes = replay(sqlite_store, Rules(rules=(rule("odd-replica"),)), BUDGET, start, start + 7 * 60 + 5)
    assert [(change.alert.labels["replica"], change.alert.state) for change in changes] == [("m2", FIRING)]
    assert changes[0].time <= start + 7 * 60
    assert "m2 is the odd one out" in changes[0].alert.summary


def test_a_floor_that_jumped(sqlite_store, simulate, start):
    simulation = simulate([0.1, 0.1, 0.1], requests=40)
    for minute in range(0, 120, 5):
        collected = simulation.round(start + minute * 60)
        if minute >= 60:  # m1 begins to answer the same request differently
            shaken = [
                replace(
                    answer,
                    again=np.clip(answer.again + simulation.random.normal(0, 0.05, len(answer.again)), 0, 1),
                )
                if answer.replica == "m1"
                else answer
                for answer in collected.answers
            ]
            collected = replace(collected, answers=tuple(shaken))
        write_round(sqlite_store, measure(collected, Settings(), (), {}).record)
    changes = replay(sqlite_store, Rules(rules=(rule("floor-jumped"),)), BUDGET, start, start + 120 * 60, 300)
    assert {change.alert.labels["replica"] for change in changes} == {"m1"}
    assert changes[0].alert.state == FIRING
    assert start + 60 * 60 < changes[0].time <= start + 85 * 60


def test_version_skew_for_ten_minutes_coverage_and_no_data(sqlite_store, simulate, start):
    simulation = simulate([0.1, 0.1, 0.1], requests=40)
    n = len(simulation.probe)
    served = {}
    for minute in range(60):
        simulation.versions = [1, 1, 2 if 10 <= minute < 25 else 1]
        down = (
            {"m0": {"version": 0, "answered": np.zeros(n, bool), "errors": Counter(down=n)}}
            if 30 <= minute < 40
            else {}
        )
        measured = measure(simulation.round(start + minute * 60, **down), Settings(), (), served)
        served = measured.served
        write_round(sqlite_store, measured.record)
    rules = Rules(rules=tuple(rule(name) for name in ("version-skew", "coverage-low", "no-data")))
    changes = replay(sqlite_store, rules, BUDGET, start + 60, start + 80 * 60)
    timeline = [
        ((change.time - start) // 60, change.alert.rule, change.alert.state, dict(change.alert.labels))
        for change in changes
    ]
    assert timeline == [
        (20, "version-skew", "firing", {}),
        (25, "version-skew", "resolved", {}),
        (32, "coverage-low", "firing", {"replica": "m0"}),
        (45, "coverage-low", "resolved", {"replica": "m0"}),
        (65, "no-data", "firing", {}),
    ]
    assert "m2 was refreshed from version 1 to 2" in changes[0].alert.summary
    assert "down" in changes[2].alert.summary


def test_a_replay_begins_with_the_first_round(sqlite_store, simulate, start):
    record = measure(simulate([0.1, 0.1, 0.1], requests=20).round(start), Settings(), (), {}).record
    write_round(sqlite_store, record)
    changes = replay(sqlite_store, Rules(rules=(rule("no-data"),)), BUDGET, start - 86_400, start + 600)
    assert [((change.time - start) // 60, change.alert.state) for change in changes] == [(6, FIRING)]


def test_a_replay_is_bounded(sqlite_store):
    with pytest.raises(UserError, match="end after"):
        replay(sqlite_store, RULES, BUDGET, 10, 10)
    with pytest.raises(UserError, match="looks"):
        replay(sqlite_store, RULES, BUDGET, 0, 1e9, 1)


def false_pages(seed: int, minutes: int) -> int:
    """Pages in a simulated quarter in which nothing changes: fresh requests at every look, the rate just within budget."""
    random = np.random.default_rng(seed)
    looks = QUARTER // (minutes * 60)
    names = [f"m{m}" for m in range(4)]
    rules = [
        alert_rule
        for alert_rule in RULES.rules
        if alert_rule.condition in ("excess", "odd_replica", "coverage") and alert_rule.stream == "probe"
    ]
    alerts: dict[str, dict] = {alert_rule.name: {} for alert_rule in rules}
    n, pages = 200, 0
    swapped = random.binomial(n, 0.045, looks)
    answered = random.binomial(n, 0.99, (looks, 4))
    component = 0.04 * random.chisquare(n, (looks, 4)) / n
    for look in range(looks):
        share = swapped[look]
        whole = {
            "top1_swap": _sums(n, share, share),
            "consensus_regret": _sums(n, n * 0.004, n * 0.004**2 * 2),
        }
        components = {
            name: _sums(n, n * component[look, m], n * component[look, m] ** 2 * 3)
            for m, name in enumerate(names)
        }
        counts = {name: {"asked": n, "answered": int(answered[look, m])} for m, name in enumerate(names)}
        now = Situation(look * minutes * 60.0, age=1.0, whole=whole, components=components, counts=counts)
        for alert_rule in rules:
            after = step(alerts[alert_rule.name], alert_rule, findings(alert_rule, now, BUDGET), now.now)
            pages += sum(alert.to_send and alert.state == FIRING for alert in after.values())
            alerts[alert_rule.name] = {
                k: replace(a, notified=a.state) if a.to_send else a for k, a in after.items()
            }
    return pages


def _sums(n: int, total: float, squares: float) -> Statistic:
    return Statistic(
        n, float(total), float(squares), float(n), float(n), float(total), Statistic.empty().histogram
    )


def test_no_change_gives_at_most_one_false_page_in_a_quarter():
    assert false_pages(seed=1, minutes=60) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_no_change_at_a_look_a_minute(seed):
    assert false_pages(seed=seed, minutes=1) <= 1


def test_a_change_is_paged():
    budget_rule = rule("swap-over-budget")
    alerts, pages = {}, []
    for look in range(6):
        alerts = step(
            alerts,
            budget_rule,
            findings(budget_rule, Situation(look * 60.0, whole=swaps(0.2, 200)), BUDGET),
            look * 60.0,
        )
        pages += [alert.fired for alert in alerts.values() if alert.state == FIRING]
    assert pages
    assert pages[0] == 120
