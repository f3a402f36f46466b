"""May a new version go live? Its churn against what serves, held to what replicas differ by anyway."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from ranker.divergence.intervals import Interval, normal, wilson
from ranker.divergence.statistics import Statistic
from ranker.errors import UserError

MOST_REQUESTS = 10**9


class Verdict(str, Enum):
    """What the gate says."""

    PASS = "pass"
    FAIL = "fail"
    MORE = "more requests needed"

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 2 more requests needed."""
        return {"pass": 0, "fail": 1}.get(self.value, 2)


@dataclass(frozen=True)
class Decision:
    """A verdict on one measure, with its evidence.

    Attributes:
        measure: label of the measure.
        verdict: pass, fail or more requests needed.
        candidate: churn of the candidate against the serving replicas.
        baseline: churn between serving replicas.
        limit: baseline x (1 + margin) + allowance.
        requests: requests that the candidate's churn was measured on.
        more_requests: how many more should decide, if the churn stays what it is; None where none would
            (the churn is on the limit) or none are needed.
    """

    measure: str
    verdict: Verdict
    candidate: Interval
    baseline: Interval
    limit: float
    requests: int
    more_requests: int | None

    @property
    def reason(self) -> str:
        """One sentence."""
        value, low, high = self.candidate
        churn = f"{self.measure} {value:.4g} ({low:.4g} to {high:.4g})"
        limit = f"the limit {self.limit:.4g}"
        if self.verdict is Verdict.PASS:
            return f"{churn} is within {limit}"
        if self.verdict is Verdict.FAIL:
            return f"{churn} is above {limit}"
        if self.more_requests is None:
            return f"{churn} is undecided against {limit}, and more requests would not help"
        return f"{churn} is undecided against {limit}: {self.more_requests} more requests needed"


def decide(
    measure: str,
    candidate: Statistic,
    baseline: Statistic,
    *,
    margin: float = 0.1,
    allowance: float = 0.0,
    level: float = 0.95,
) -> Decision:
    """Pass if the upper bound is within the limit, fail if the lower bound is above it, else ask for more.

    Args:
        measure: label, of a measure where lower is steadier.
        candidate: statistic of the candidate against the serving replicas.
        baseline: statistic between serving replicas; its value sets the limit.
        margin: how much more than the baseline is tolerated, as a share of it.
        allowance: what an intended change may add, in the measure's unit.
        level: of the interval.

    Raises:
        UserError: margin or allowance is negative, the baseline holds no request.

    Example:
        >>> from ranker.divergence import Statistic
        >>> serving = Statistic.of([1.0] * 50 + [0.0] * 950)
        >>> decide("top1_swap", serving, serving, margin=0.5).verdict.value
        'pass'
        >>> decide("top1_swap", serving, serving, margin=0.1).more_requests > 0
        True
    """
    for name, value in (("margin", margin), ("allowance", allowance)):
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"`{name}` must be a number >= 0. Received: {name}={value!r}")
    if baseline.n == 0:
        raise UserError(f"the baseline of `{measure}` must hold at least one request. Received: none")
    limit = baseline.value * (1 + margin) + allowance
    churn = candidate.interval(level)
    more = None
    if churn.high <= limit:
        verdict = Verdict.PASS
    elif churn.low > limit:
        verdict = Verdict.FAIL
    else:
        verdict = Verdict.MORE
        more = _more_requests(candidate, limit, level)
    return Decision(measure, verdict, churn, baseline.interval(level), limit, candidate.n, more)


def overall_verdict(decisions: Iterable[Decision]) -> Verdict:
    """Fail if any measure fails, else more if any is undecided, else pass; more if there is no decision."""
    verdicts = {decision.verdict for decision in decisions} or {Verdict.MORE}
    return next(verdict for verdict in (Verdict.FAIL, Verdict.MORE, Verdict.PASS) if verdict in verdicts)


def _more_requests(candidate: Statistic, limit: float, level: float) -> int | None:
    """Smallest number of further requests that decides if value and spread stay as they are."""
    n = candidate.n
    if n < 2:
        return max(100 - n, 1)  # nothing to project from yet

    def decided(requests: int) -> bool:
        projected = _projected(candidate, requests, level)
        return projected.high <= limit or projected.low > limit

    if not decided(MOST_REQUESTS):
        return None
    low, high = n, MOST_REQUESTS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high - n


def _projected(candidate: Statistic, requests: int, level: float) -> Interval:
    if candidate.zero_or_one:
        return wilson(candidate.value * requests, requests, level)
    return normal(candidate.value, candidate.standard_error * math.sqrt(candidate.n / requests), level)
