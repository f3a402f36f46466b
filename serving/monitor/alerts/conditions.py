"""Does a rule's condition hold? Pure functions of a `Situation`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ranker.divergence import Interval, Statistic, confidence_sequence, difference, odd_ones, standing
from serving.monitor.alerts.rules import Rule
from serving.monitor.alerts.situation import Situation


@dataclass(frozen=True)
class Finding:
    """A rule's answer about one thing (all replicas, or one).

    Attributes:
        labels: which thing.
        active: the condition holds.
        cleared: it surely does not hold any more: a firing alert may end. In between, a firing alert goes on.
        value: what was compared.
        threshold: with what.
        summary: one sentence.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    active: bool = False
    cleared: bool = True
    value: float | None = None
    threshold: float | None = None
    summary: str = ""


def findings(rule: Rule, now: Situation, budget: Mapping[str, float]) -> list[Finding]:
    """What a rule finds; nothing where the facts are missing.

    Args:
        rule: the rule.
        now: the facts.
        budget: measure -> what the configuration allows, for rules without a budget of their own.
    """
    return _CONDITIONS[rule.condition](rule, now, budget)


def _excess(rule: Rule, now: Situation, budget: Mapping[str, float]) -> list[Finding]:
    label = _label(rule.measure, now.whole)
    limit = rule.budget if rule.budget is not None else budget.get(rule.measure, budget.get(label or ""))
    if label is None or limit is None or now.whole[label].n < 2:
        return []
    statistic = now.whole[label]
    floor = Statistic.empty()
    for statistics in now.floors.values():
        floor = floor.merge(statistics.get(label, Statistic.empty()))
    # tightest where it is looked at: at about as many requests as there are
    total = confidence_sequence(statistic, alpha=rule.alpha, tightest_at=max(statistic.n, 1))
    under = floor.interval(1 - rule.alpha) if floor.n else Interval(0.0, 0.0, 0.0)
    over = difference(total, under)
    summary = (
        f"{label} exceeds its floor by {over.value:.4g} (at least {max(over.low, 0.0):.4g}), budget {limit:g}; "
        f"{statistic.n} requests"
    )
    active = standing(over, limit) == "above"
    return [
        Finding(
            labels={"measure": label},
            active=active,
            cleared=over.value <= limit,
            value=over.value,
            threshold=limit,
            summary=summary,
        )
    ]


def _odd_replica(rule: Rule, now: Situation, budget: Mapping[str, float]) -> list[Finding]:
    odd_by_replica = {
        odd.replica: odd for odd in odd_ones(now.components, factor=rule.factor, alpha=rule.alpha)
    }
    middle = sorted(statistic.value for statistic in now.components.values())
    result = []
    for name, statistic in now.components.items():
        limit = rule.factor * max(middle[len(middle) // 2], 0.0)
        odd = odd_by_replica.get(name)
        times = (
            f"{odd.ratio:.1f} times the median"
            if odd and math.isfinite(odd.ratio)
            else "far above the median"
        )
        summary = f"{name} is the odd one out: its noise is {times} of {len(middle)} replicas" if odd else ""
        result.append(
            Finding(
                labels={"replica": name},
                active=odd is not None,
                cleared=statistic.value <= limit,
                value=statistic.value,
                threshold=limit,
                summary=summary,
            )
        )
    return result if len(middle) >= 3 else []


def _floor_jump(rule: Rule, now: Situation, budget: Mapping[str, float]) -> list[Finding]:
    result = []
    for name, statistics in now.floors.items():
        label = _label(rule.measure, statistics)
        before = now.floors_before.get(name, {}).get(label or "")
        if label is None or before is None or before.n == 0:
            continue
        limit = max(rule.factor * before.value, rule.at_least)
        value = statistics[label].interval(1 - rule.alpha)
        active = standing(value, limit) == "above"
        now_and_before = f"{value.value:.4g} when asked twice, {before.value:.4g} the day before"
        summary = f"{name} differs from itself: {label} {now_and_before}"
        result.append(
            Finding(
                labels={"replica": name, "measure": label},
                active=active,
                cleared=value.value <= limit,
                value=value.value,
                threshold=limit,
                summary=summary,
            )
        )
    return result


def _version_skew(rule: Rule, now: Situation, budget: Mapping[str, float]) -> list[Finding]:
    if len(now.versions) < 2:
        return []
    versions = sorted(set(now.versions.values()))
    skewed = len(versions) > 1
    which = "; ".join(
        f"{version}: {', '.join(sorted(name for name, served in now.versions.items() if served == version))}"
        for version in versions
    )
    return [
        Finding(
            labels={},
            active=skewed,
            cleared=not skewed,
            value=float(len(versions)),
            threshold=1.0,
            summary=f"replicas serve {len(versions)} versions ({which})",
        )
    ]


def _coverage(rule: Rule, now: Situation, budget: Mapping[str, float]) -> list[Finding]:
    result = []
    for name, kinds in now.counts.items():
        requests = kinds.get("asked", 0)
        if not requests:
            continue
        share = kinds.get("answered", 0) / requests
        errors = sorted(
            ((n, kind) for kind, n in kinds.items() if kind not in ("asked", "answered")), reverse=True
        )
        why = ", ".join(f"{kind} {n}" for n, kind in errors)
        summary = f"{name} answered {share:.1%} of {requests} requests ({why})"
        result.append(
            Finding(
                labels={"replica": name},
                active=share < rule.below,
                cleared=share >= rule.below,
                value=share,
                threshold=rule.below,
                summary=summary,
            )
        )
    return result


def _no_data(rule: Rule, now: Situation, budget: Mapping[str, float]) -> list[Finding]:
    if now.age is None:
        return [
            Finding(
                labels={},
                active=True,
                cleared=False,
                value=None,
                threshold=rule.window,
                summary=f"the {rule.stream} stream has no round yet",
            )
        ]
    limit = max(rule.window, now.limit)
    late = now.age > limit
    return [
        Finding(
            labels={},
            active=late,
            cleared=not late,
            value=now.age,
            threshold=limit,
            summary=f"the newest {rule.stream} round is {now.age:.0f} s old",
        )
    ]


def _label(measure: str, statistics: Mapping[str, Statistic]) -> str | None:
    """`set_churn` finds `set_churn@10`."""
    return next(
        (label for label in statistics if label in (measure, f"{measure}@{label.partition('@')[2]}")), None
    )


_CONDITIONS: dict[str, Callable[[Rule, Situation, Mapping[str, float]], list[Finding]]] = {
    "excess": _excess,
    "odd_replica": _odd_replica,
    "floor_jump": _floor_jump,
    "version_skew": _version_skew,
    "coverage": _coverage,
    "no_data": _no_data,
}
