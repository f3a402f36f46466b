"""May a new version go live? What it must answer, how much its lists may change, how good they must be."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from ranker.divergence.catalogue import measure_interval
from ranker.divergence.coverage import AnswerCoverage
from ranker.divergence.intervals import Interval, nonnegative, standing, wilson
from ranker.divergence.paired import PairedDifference
from ranker.divergence.statistics import Statistic
from ranker.errors import UserError

MOST_REQUESTS = 10**9


class GateOutcome(str, Enum):
    """The outcome of a decision, or of all decisions together."""

    PASS = "pass"
    FAIL = "fail"
    MORE = "more requests needed"
    ASIDE = "stands aside"

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 2 more requests needed; of a measure that stands aside, 0: others decide."""
        return {"pass": 0, "fail": 1, "stands aside": 0}.get(self.value, 2)


@dataclass(frozen=True)
class Decision:
    """A verdict on one thing that the gate looks at, with its evidence.

    Attributes:
        measure: label of the measure, or `coverage of SIDE`.
        verdict: pass, fail, more requests needed, or stands aside: it says nothing of this candidate.
        candidate: what is held to the limit: the candidate's churn, its loss of quality, its share of answers.
        baseline: the same of what serves: churn between replicas, quality of the baselines.
        limit: what the candidate may have at most (coverage: at least).
        requests: requests that it was measured on.
        more_requests: how many more should decide, if the value stays what it is; None where none would
            (the value is on the limit) or none are needed.
        reason: one sentence.
    """

    measure: str
    verdict: GateOutcome
    candidate: Interval
    baseline: Interval
    limit: float
    requests: int
    more_requests: int | None
    reason: str


NOTHING = Interval(math.nan, math.nan, math.nan)


def decide(
    measure: str,
    candidate: Statistic,
    baseline: Statistic,
    *,
    margin: float = 0.1,
    allowance: float = 0.0,
    level: float = 0.95,
) -> Decision:
    """Churn: pass if the upper bound is within the limit, fail if the lower bound is above it, else ask for more.

    Args:
        measure: label, of a measure where lower is steadier.
        candidate: statistic of the candidate against the serving replicas.
        baseline: statistic between serving replicas; its value sets the limit, value x (1 + margin) + allowance.
        margin: how much more than the baseline is tolerated, as a share of it.
        allowance: what an intended change may add, in the measure's unit.
        level: of the interval.

    Raises:
        UserError: margin or allowance is negative.

    Example:
        >>> from ranker.divergence import Statistic
        >>> serving = Statistic.of([1.0] * 50 + [0.0] * 950)
        >>> decide("top1_swap", serving, serving, margin=0.5).verdict.value
        'pass'
        >>> decide("top1_swap", serving, serving, margin=0.1).more_requests > 0
        True
    """
    _check_not_negative(margin=margin, allowance=allowance)
    churn, serving = measure_interval(measure, candidate, level), measure_interval(measure, baseline, level)
    if not math.isfinite(candidate.value) or not math.isfinite(baseline.value):
        models = "the candidate and the baseline" if not math.isfinite(candidate.value) else "the baselines"
        return aside(measure, f"no request was compared between {models}", churn, serving, candidate.n)
    limit = baseline.value * (1 + margin) + allowance

    def projected(requests: int) -> Interval:
        if candidate.zero_or_one:
            return wilson(candidate.value * requests, requests, level)
        error = candidate.standard_error * math.sqrt(candidate.n / requests)
        return nonnegative(candidate.value, error, requests, level)

    return _decision(
        measure=measure,
        interval=churn,
        baseline=serving,
        limit=limit,
        requests=candidate.n,
        projected=projected,
        option="`--allowance` says what change is intended",
    )


def decide_quality(
    measure: str,
    loss: PairedDifference | Statistic,
    candidate: float,
    baseline: float,
    *,
    margin: float,
    level: float = 0.95,
) -> Decision:
    """Quality, as non-inferiority: pass if the candidate is surely not worse than the baseline by more than a margin.

    Args:
        measure: label.
        loss: how much worse the candidate is, request by request: the paired difference, or (where the measure is
            no mean over requests) a statistic whose mean and standard error are those of the difference.
        candidate: the candidate's value, nan where the labels do not define it.
        baseline: the baselines' mean value.
        margin: how much worse it may be, in the measure's unit, >= 0.
        level: of the interval.

    Raises:
        UserError: the margin is negative.
    """
    _check_not_negative(margin=margin)
    interval = loss.interval(level)
    serving = Interval(baseline, baseline, baseline)
    if not (math.isfinite(candidate) and math.isfinite(baseline) and loss.n):
        return aside(measure, "no request has labels that define it", interval, serving, loss.n)

    def projected(requests: int) -> Interval:
        half = (interval.high - interval.low) / 2 * math.sqrt(loss.n / requests)
        return Interval(interval.value, interval.value - half, interval.value + half)

    decision = _decision(
        measure=measure,
        interval=interval,
        baseline=serving,
        limit=margin,
        requests=loss.n,
        projected=projected,
        option="`--quality-margin` says how much",
    )
    value, low, high = interval
    shown = (
        f"{measure} {candidate:.4g} against {baseline:.4g}, worse by {value:.4g} ({low:.4g} to {high:.4g}), "
        f"which is {decision.reason.partition(') is ')[2]}"
    )
    return Decision(
        measure=measure,
        verdict=decision.verdict,
        candidate=interval,
        baseline=serving,
        limit=margin,
        requests=loss.n,
        more_requests=decision.more_requests,
        reason=shown,
    )


def decide_coverage(side: str, coverage: AnswerCoverage, minimum: float = 1.0) -> Decision:
    """Coverage: pass if the share of requests that a model answered as it must is at least the minimum.

    Args:
        side: which model.
        coverage: what it was asked and what it answered.
        minimum: share of the requests, in [0, 1].

    Raises:
        UserError: the minimum is not in [0, 1].

    Example:
        >>> decide_coverage("candidate", AnswerCoverage(200, 199)).reason
        'coverage of candidate 0.995 is below the minimum 1: 200 asked, 199 answered, 1 left out'
    """
    if not 0 <= minimum <= 1:
        raise UserError(f"`min_coverage` must be in [0, 1]. Received: min_coverage={minimum!r}")
    passed = coverage.answered > 0 and coverage.share >= minimum
    share = Interval(coverage.share, coverage.share, coverage.share)
    is_at_least = "is at least" if passed else "is below"
    reason = (
        f"coverage of {side} {coverage.share:.4g} {is_at_least} the minimum {minimum:g}: {coverage.words}"
    )
    if not coverage.answered:
        reason = f"coverage of {side} is 0: {coverage.words}"
    verdict = GateOutcome.PASS if passed else GateOutcome.FAIL
    return Decision(
        measure=f"coverage of {side}",
        verdict=verdict,
        candidate=share,
        baseline=NOTHING,
        limit=minimum,
        requests=coverage.asked,
        more_requests=None,
        reason=reason,
    )


def aside(
    measure: str, why: str, candidate: Interval = NOTHING, baseline: Interval = NOTHING, requests: int = 0
) -> Decision:
    """A measure that cannot say anything of this candidate, and why."""
    reason = f"{measure} stands aside: {why}"
    return Decision(
        measure=measure,
        verdict=GateOutcome.ASIDE,
        candidate=candidate,
        baseline=baseline,
        limit=math.nan,
        requests=requests,
        more_requests=None,
        reason=reason,
    )


def overall_verdict(decisions: Iterable[Decision]) -> GateOutcome:
    """Fail if any fails, else more if any is undecided, else pass; more if nothing decides."""
    verdicts = {decision.verdict for decision in decisions} - {GateOutcome.ASIDE} or {GateOutcome.MORE}
    return next(
        verdict for verdict in (GateOutcome.FAIL, GateOutcome.MORE, GateOutcome.PASS) if verdict in verdicts
    )


def _decision(
    measure: str,
    interval: Interval,
    baseline: Interval,
    limit: float,
    requests: int,
    projected: Callable[[int], Interval],
    option: str,
) -> Decision:
    value, low, high = interval
    shown = f"{measure} {value:.4g} ({low:.4g} to {high:.4g})"
    position, more_requests = standing(interval, limit), None
    if position == "within":
        verdict, reason = GateOutcome.PASS, f"{shown} is within the limit {limit:.4g}"
    elif position == "above":
        verdict, reason = GateOutcome.FAIL, f"{shown} is above the limit {limit:.4g}"
    else:
        verdict, more_requests = GateOutcome.MORE, _more_requests(requests, limit, projected)
        reason = f"{shown} is undecided against the limit {limit:.4g}" + (
            f": {more_requests:,} more requests needed"
            if more_requests
            else f", and more requests would not help: {option}"
        )
    return Decision(
        measure=measure,
        verdict=verdict,
        candidate=interval,
        baseline=baseline,
        limit=limit,
        requests=requests,
        more_requests=more_requests,
        reason=reason,
    )


def _more_requests(n: int, limit: float, projected: Callable[[int], Interval]) -> int | None:
    """Smallest number of further requests that decides if value and spread stay as they are."""
    if n < 2:
        return max(100 - n, 1)  # nothing to project from yet

    def is_decided(requests: int) -> bool:
        return standing(projected(requests), limit) != "undecided"

    if not is_decided(MOST_REQUESTS):
        return None
    low, high = n, MOST_REQUESTS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_decided(middle) else (middle, high)
    return high - n


def _check_not_negative(**settings: float) -> None:
    for name, value in settings.items():
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"`{name}` must be a number >= 0. Received: {name}={value!r}")
