"""The verdict: one state, its reason, which replicas, since when, and what changed. Pure.

The state is the worst of these: firing alerts, an odd replica, a replica that does not answer, the pair that differs most,
the mean over pairs, the age of the newest round. The dashboard, the command line, the API and the metrics all show the
result of `judge`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Literal

from ranker import wording
from ranker.divergence import standing
from serving.monitor.store.results import (
    AlertRow,
    EventRow,
    Freshness,
    MeasureEstimate,
    PairEstimate,
    ReplicaEstimate,
)

State = Literal["STABLE", "NOT ENOUGH DATA", "UNSTABLE", "STALE"]
STATES: tuple[State, ...] = ("STABLE", "NOT ENOUGH DATA", "UNSTABLE", "STALE")
"""From the best to the worst."""
EXIT_CODES: dict[State, int] = {"STABLE": 0, "UNSTABLE": 1, "NOT ENOUGH DATA": 2, "STALE": 3}
"""Of commands that end with a verdict."""
ENOUGH = 100
"""Requests below which nothing is concluded about a budget."""
LEAST_COVERAGE = 0.9
"""Share of the newest round's requests that a replica must answer."""
TOO_FEW = "too few requests to tell"
TWO_REPLICAS = "two replicas cannot tell which of them is odd: that takes a third"
ORDER_ONLY = (
    "the scores only order: prediction differences, expected clicks lost and the odd replica need probabilities and are not "
    "measured"
)
_REFRESH_MATTERS = 3600
"""Seconds after a refresh in which what begins is said to follow it."""
_MOST_REASONS = 2
_MOST_NAMED = 10

KINDS = {
    "down": "nothing listens at its address, or its server says that it is unavailable",
    "deadline": "it accepts calls and is too late: hung or overloaded",
    "invalid_score": "a score is no probability",
    "coverage_mismatch": "it scores other candidates than asked",
    "wrong_model": "its server has no such model",
    "incompatible": "it has other features and is not compared",
    "version_change": "its version changed in the middle of the round",
    "refused": "its server turned the requests down",
    "error": "its answers cannot be used",
}
"""Why a replica has no usable answer, by kind of outcome."""


@dataclass(frozen=True)
class OddReplica:
    """A replica far from all others; `ratio` is its noise variance over the median of the others' (may be infinite)."""

    replica: str
    ratio: float


@dataclass(frozen=True)
class Facts:
    """What a verdict is made of.

    Attributes:
        freshness: the newest round, with its counts by replica.
        alerts: those that fire.
        odd: replicas that stand out, the noisiest first.
        means: measure's label -> mean over all pairs, with its excess over the floor.
        pairs: measure's label -> every pair; intervals hold for all of a measure's pairs together. Empty of a fleet.
        replica_means: measure's label -> every replica of a fleet against all others; intervals hold together.
        budget: measure's label -> how much excess over the floor is tolerated; the first leads.
        last_answers: replica -> when it last answered, seconds since 1970.
        compared_since: first round of the versions that serve now, seconds since 1970; None: nothing is compared.
        refreshes: marks of refreshes, the newest first.
        enough: requests below which nothing is concluded about a budget.
        order_only: the scores only order, so that measures which need probabilities were not measured.
    """

    freshness: Freshness
    alerts: Sequence[AlertRow] = ()
    odd: Sequence[OddReplica] = ()
    means: Mapping[str, MeasureEstimate] = field(default_factory=dict)
    pairs: Mapping[str, Sequence[PairEstimate]] = field(default_factory=dict)
    replica_means: Mapping[str, Sequence[ReplicaEstimate]] = field(default_factory=dict)
    budget: Mapping[str, float] = field(default_factory=dict)
    last_answers: Mapping[str, int] = field(default_factory=dict)
    compared_since: int | None = None
    refreshes: Sequence[EventRow] = ()
    enough: int = ENOUGH
    order_only: bool = False


@dataclass(frozen=True)
class Reason:
    """Something that speaks for a state; `since` in seconds since 1970, `measure` a label or empty."""

    state: State
    text: str
    replicas: tuple[str, ...] = ()
    since: int | None = None
    changed: str = ""
    measure: str = ""

    @property
    def sentence(self) -> str:
        """The text with since when, and what had changed before."""
        since = f", since {clock(self.since)}" if self.since is not None else ""
        return f"{self.text}{since}{f', {self.changed}' if self.changed else ''}"


@dataclass(frozen=True)
class Verdict:
    """The answer to "do the replicas agree".

    Attributes:
        state: the worst state of all reasons.
        sentence: the reasons for it.
        replicas: those that the sentence names as the cause.
        since: when the first of the reasons began, seconds since 1970; None: unknown.
        changed: what had changed shortly before; empty: nothing that is known.
        measure: label of the measure that decided; empty if none did.
        answering: replicas that answered the newest round.
        asked: replicas that it asked.
        notes: what else a reader must know.
    """

    state: State
    sentence: str
    replicas: tuple[str, ...] = ()
    since: int | None = None
    changed: str = ""
    measure: str = ""
    answering: int = 0
    asked: int = 0
    notes: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """State and sentence."""
        return f"{self.state}: {self.sentence}"

    @property
    def exit_code(self) -> int:
        """Of a command that ends with this verdict."""
        return EXIT_CODES[self.state]


def judge(facts: Facts) -> Verdict:
    """Makes the verdict.

    Example:
        >>> judge(Facts(Freshness("probe", None, None, 0.0, 0, "", 0))).line
        'NOT ENOUGH DATA: no round has been measured yet'
    """
    fresh = facts.freshness
    shares = answered_shares(fresh.outcomes)
    answering, replica_count = sum(share > 0 for share in shares.values()), len(shares)
    if fresh.time is None or fresh.age is None:
        return Verdict("NOT ENOUGH DATA", "no round has been measured yet")
    all_reasons = _reasons(facts, answering)
    state = max((reason.state for reason in all_reasons), key=STATES.index)
    reasons = [reason for reason in all_reasons if reason.state == state]
    sentence = "; ".join(reason.sentence for reason in reasons[:_MOST_REASONS])
    if len(reasons) > _MOST_REASONS:
        sentence += f"; and {len(reasons) - _MOST_REASONS} more"
    replicas = tuple(dict.fromkeys(name for reason in reasons for name in reason.replicas))
    began = [reason.since for reason in reasons if reason.since is not None]
    result = Verdict(
        state=state,
        sentence=sentence,
        replicas=replicas,
        since=min(began, default=None),
        changed=next((reason.changed for reason in reasons if reason.changed), ""),
        measure=reasons[0].measure,
        answering=answering,
        asked=replica_count,
        notes=_notes(facts, replica_count),
    )
    if not fresh.stale:
        return result
    silent_since = int(fresh.time + fresh.limit)
    stale = (
        f"the newest round is {wording.duration(fresh.age)} old, of {clock(fresh.time)}: "
        f"nothing is measured and no alert is evaluated; last known: {result.line}"
    )
    return Verdict(
        state="STALE",
        sentence=stale,
        replicas=result.replicas,
        since=silent_since,
        changed="",
        measure=result.measure,
        answering=answering,
        asked=replica_count,
        notes=result.notes,
    )


def _notes(facts: Facts, replica_count: int) -> tuple[str, ...]:
    notes = [TWO_REPLICAS] if replica_count == 2 else []
    if facts.order_only:
        unmeasured = ", ".join(label for label in facts.budget if label not in facts.means)
        notes.append(ORDER_ONLY + (f"; no budget of {unmeasured} is held" if unmeasured else ""))
    return tuple(notes)


def answered_shares(outcomes: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
    """Replica -> share of its requests that it answered well, of those that were asked anything.

    Example:
        >>> answered_shares({"a": {"asked": 4, "answered": 3, "deadline": 1}})
        {'a': 0.75}
    """
    return {
        replica: kinds.get("answered", 0) / kinds["asked"]
        for replica, kinds in outcomes.items()
        if kinds.get("asked")
    }


def clock(time: float) -> str:
    """A moment in UTC, to the second.

    Example:
        >>> clock(1_750_000_000)
        '2025-06-15 15:06:40 UTC'
    """
    return datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _reasons(facts: Facts, answering: int) -> list[Reason]:
    """Everything that speaks for a state, what explains most first."""
    reasons = [*_odd(facts), *_silent(facts), *_over_budget(facts), *_alerts(facts)]
    if answering < 2 and len(facts.freshness.outcomes) > 0:
        return [
            *reasons,
            Reason("NOT ENOUGH DATA", "fewer than two replicas answered: there is nothing to compare"),
        ]
    return [*reasons, _agreement(facts)]


def _odd(facts: Facts) -> list[Reason]:
    reasons = []
    for odd in facts.odd:
        times = (
            f"{odd.ratio:.3g} times the others' noise" if odd.ratio < 1e6 else "far above the others' noise"
        )
        since = _fired(facts, replica=odd.replica) or facts.compared_since
        changed = _changed(facts, since, odd.replica)
        reasons.append(Reason("UNSTABLE", f"{odd.replica} is odd, {times}", (odd.replica,), since, changed))
    return reasons


def _silent(facts: Facts) -> list[Reason]:
    reasons = []
    for replica, share in sorted(answered_shares(facts.freshness.outcomes).items()):
        if share >= LEAST_COVERAGE:
            continue
        kinds = facts.freshness.outcomes[replica]
        failures = {kind: n for kind, n in kinds.items() if kind not in ("asked", "answered") and n}
        worst = max(failures, key=lambda kind: failures[kind], default="error")
        why = KINDS.get(worst, worst)
        last = facts.last_answers.get(replica)
        if share == 0 and worst == "incompatible":
            text = f"{replica} is not compared: {why}"
        elif share == 0:
            text = f"{replica} does not answer: {why}"
        else:
            text = f"{replica} answers {share:.0%} of {kinds['asked']:,} requests: {why}"
        since = last if share == 0 else _fired(facts, replica=replica)
        reasons.append(Reason("UNSTABLE", text, (replica,), since, _changed(facts, since, replica)))
    return reasons


def _over_budget(facts: Facts) -> list[Reason]:
    reasons = []
    for label, measured in _budgeted(facts).items():
        limit = facts.budget[label]
        if measured.n < facts.enough:
            continue
        over = [pair for pair in facts.pairs.get(label, ()) if standing(pair.excess, limit) == "above"]
        of_fleet = [
            row for row in facts.replica_means.get(label, ()) if standing(row.excess, limit) == "above"
        ]
        if standing(measured.excess, limit) == "above":
            since = _fired(facts, measure=label)
            text = _describe(measured, limit)
        elif over:
            since = None
            worst = max(over, key=lambda pair: pair.excess.value)
            text = (
                f"{worst.a} and {worst.b}: {wording.title(label).lower()} of "
                f"{wording.with_interval(label, worst.value)}, budget {wording.limit(label, limit)}"
            )
        elif of_fleet:
            since = None
            text = (
                f"{of_fleet[0].replica} against all other replicas: {wording.title(label).lower()} of "
                f"{wording.with_interval(label, of_fleet[0].value)}, budget {wording.limit(label, limit)}"
            )
            text += f" ({len(of_fleet)} replicas are over it)" if len(of_fleet) > 1 else ""
        else:
            continue
        # one name in every pair that is over the budget is the one to look at
        common = set.intersection(*({pair.a, pair.b} for pair in over)) if over else set()
        culprit = tuple(sorted(common)) if len(common) == 1 and len(over) > 1 else ()
        named = culprit or (tuple(sorted({over[0].a, over[0].b})) if len(over) == 1 else ())
        if of_fleet and standing(measured.excess, limit) != "above":
            named = tuple(row.replica for row in of_fleet[:_MOST_NAMED])
        text += f" ({culprit[0]} is in each of {len(over)} such pairs)" if culprit else ""
        if len(facts.freshness.outcomes) == 2:
            text += f"; {TWO_REPLICAS}"
        reasons.append(
            Reason(
                state="UNSTABLE",
                text=text,
                replicas=named,
                since=since,
                changed=_changed(facts, since, *named),
                measure=label,
            )
        )
    ratio = {
        reason.measure: facts.means[reason.measure].excess.value / max(facts.budget[reason.measure], 1e-12)
        for reason in reasons
    }
    return sorted(reasons, key=lambda reason: -ratio[reason.measure])


def _alerts(facts: Facts) -> list[Reason]:
    """Firing alerts that say what no other reason says, pages first."""
    shares = answered_shares(facts.freshness.outcomes)
    silent = [replica for replica, share in shares.items() if share < LEAST_COVERAGE]
    explained = [{"replica": name} for name in (*(odd.replica for odd in facts.odd), *silent)] + [
        {"measure": label}
        for label, measured in _budgeted(facts).items()
        if measured.n >= facts.enough and standing(measured.excess, facts.budget[label]) == "above"
    ]
    reasons = []
    for alert in sorted(facts.alerts, key=lambda alert: (alert.severity != "page", alert.started)):
        if dict(alert.labels) in explained:
            continue
        muted = (
            f" (taken on by {alert.acknowledged_by})"
            if alert.acknowledged is not None
            else " (silenced)"
            if alert.silenced
            else ""
        )
        replica = alert.labels.get("replica")
        text = f"{alert.severity} alert {alert.rule}{muted}: {alert.summary}"
        reasons.append(Reason("UNSTABLE", text, (replica,) if replica else (), alert.started))
    return reasons


def _agreement(facts: Facts) -> Reason:
    """What the mean says where it is not above its budget."""
    measures = _budgeted(facts)
    if not measures:
        return Reason("NOT ENOUGH DATA", "no measure with a budget has been measured")
    few = min(measures.values(), key=lambda measured: measured.n)
    if few.n < facts.enough:
        described = _describe(few, facts.budget[few.label])
        text = f"{few.n} requests compared, {facts.enough} needed: {described}"
        return Reason("NOT ENOUGH DATA", text, measure=few.label)
    for label, measured in measures.items():
        if standing(measured.excess, facts.budget[label]) != "within":
            text = f"{_describe(measured, facts.budget[label])}: {TOO_FEW}"
            return Reason("NOT ENOUGH DATA", text, measure=label)
    lead = next(iter(measures.values()))
    text = _describe(lead, facts.budget[lead.label])
    pairs = facts.pairs.get(lead.label, ())
    if len(pairs) > 1:
        worst = max(pairs, key=lambda pair: pair.value.value)
        text += f"; most between {worst.a} and {worst.b}, {wording.amount(lead.label, worst.value.value)}"
    of_fleet = facts.replica_means.get(lead.label, ())
    if of_fleet:
        most = max(of_fleet, key=lambda row: row.value.value)
        text += f"; most by {most.replica}, {wording.amount(lead.label, most.value.value)}"
    return Reason("STABLE", text, measure=lead.label)


def _budgeted(facts: Facts) -> dict[str, MeasureEstimate]:
    return {label: facts.means[label] for label in facts.budget if label in facts.means}


def _describe(measured: MeasureEstimate, limit: float) -> str:
    label = measured.label
    text = f"{wording.statement(label, measured.value)}, budget {wording.limit(label, limit)}"
    if measured.floor is None:
        return f"{text}, floor not measured"
    return f"{text}, floor {wording.amount(label, measured.floor.value)}"


def _fired(facts: Facts, **labels: str) -> int | None:
    """When the alert about exactly this began."""
    return min((alert.started for alert in facts.alerts if dict(alert.labels) == labels), default=None)


def _changed(facts: Facts, since: int | None, *replicas: str) -> str:
    """The refresh before it began: of one of the replicas, else of any."""
    if since is None:
        return ""
    near = [mark for mark in facts.refreshes if 0 <= since - mark.time <= _REFRESH_MATTERS]
    mark = next((mark for mark in near if mark.replica in replicas), next(iter(near), None))
    if mark is None:
        return ""
    whose = "its" if replicas == (mark.replica,) else f"{mark.replica}'s"
    after = wording.duration(since - mark.time)
    return f"{after} after {whose} refresh {mark.detail.get('old')} to {mark.detail.get('new')}"
