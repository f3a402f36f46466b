"""From replicas' predictions to measures with intervals over replicas and requests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from ranker import divergence
from ranker.divergence import Interval, RequestBatch
from ranker.divergence.intervals import quantile_of_student
from ranker.divergence.quality import auc_components
from ranker.study.data import StudyData

DIVERGENCE = (
    "rpd_sym",
    "rpd_ratio",
    "pd_abs",
    "pd_logit",
    "top1_swap",
    "set_churn@10",
    "pair_inversion",
    "consensus_regret",
)
USER_MEASURES = ("set_churn@10", "consensus_regret")
"""What a user would notice, beside the headline measures in every table: other items in the list, and clicks lost."""
_DRAWS = 1000


@dataclass(frozen=True)
class MeasuredRecipe:
    """One recipe's replicas, measured on the same requests as any other recipe's.

    Attributes:
        data: the held-out rows.
        rows: which of them count, bool [rows].
        scores: probabilities [replicas, rows].
    """

    data: StudyData
    rows: np.ndarray
    scores: np.ndarray

    @cached_property
    def _request(self) -> np.ndarray:
        return np.unique(self.data.request[self.rows], return_inverse=True)[1]

    @cached_property
    def _label(self) -> np.ndarray:
        return self.data.label[self.rows]

    @cached_property
    def batch(self) -> RequestBatch:
        """The replicas' answers, requests with at least two candidates included or not alike."""
        return RequestBatch.from_rows(self._request, self.data.item[self.rows], self.scores[:, self.rows])

    @cached_property
    def _values(self) -> divergence.RequestMeasures:
        return divergence.measure_requests(self.batch, _settings())

    @cached_property
    def sums(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Measure to (numerator [pairs, requests], weight [pairs, requests]): its value is a ratio of sums."""
        result = {}
        for name in DIVERGENCE:
            values = self._values.values[name]
            kind = divergence.definition(name).weight
            weight = {
                "request": np.ones(values.shape),
                "example": np.broadcast_to(self.batch.sizes, values.shape),
                "prediction": self._values.prediction,
            }[kind]
            usable = ~np.isnan(values)
            result[name] = np.where(usable, values, 0.0) * weight * usable, weight * usable
        return result

    def value(self, name: str) -> float:
        """A divergence measure: the mean over pairs of replicas."""
        numerator, weight = self.sums[name]
        return float((numerator.sum(axis=1) / weight.sum(axis=1)).mean())

    def user_measures(self) -> dict[str, float]:
        """The values of `USER_MEASURES`."""
        return {name: self.value(name) for name in USER_MEASURES}

    def interval(self, name: str) -> Interval:
        """The measure with its 95% interval over replicas and requests."""
        return Interval(self.value(name), *np.nanquantile(self.draws(name), [0.025, 0.975]).tolist())

    def draws(self, name: str) -> np.ndarray:
        """The measure of bootstrap draws [draws]: replicas with replacement, requests Poisson; the same in all recipes."""
        if name not in self._drawn:
            numerator, weight = self.sums[name]
            pairs, requests = numerator.shape
            times, often = _draw(requests, len(self.scores), tuple(self._values.pairs))
            resampled = np.concatenate([numerator, weight]) @ times
            values = (resampled[:pairs] / resampled[pairs:]).T
            self._drawn[name] = (often * values).sum(axis=1) / often.sum(axis=1)
        return self._drawn[name]

    @cached_property
    def _drawn(self) -> dict[str, np.ndarray]:
        return {}

    @cached_property
    def aucs(self) -> np.ndarray:
        """Each replica's AUC [replicas]."""
        return np.array([divergence.auc(self._label, s[self.rows]) for s in self.scores])

    @cached_property
    def loglosses(self) -> np.ndarray:
        """Each replica's logloss [replicas]."""
        return np.array([divergence.logloss(self._label, s[self.rows]) for s in self.scores])

    @cached_property
    def _auc_parts(self) -> np.ndarray:
        """Each request's part of each replica's AUC, [replicas, requests], summing to it."""
        return np.stack([auc_components(self._label, s[self.rows], self._request) for s in self.scores])

    def auc(self) -> Interval:
        """The mean AUC with its 95% interval over replicas and requests."""
        return _mean_interval(self.aucs, self._auc_parts.mean(axis=0))


def ratio(a: MeasuredRecipe, b: MeasuredRecipe, name: str) -> Interval:
    """A measure of `a` over that of `b`, 95% over replicas and requests, drawn together for both.

    1 where neither's replicas differ, infinite where only `a`'s do.
    """
    # Quantiles between two draws would make NaN of infinity.
    drawn = _over(a.draws(name), b.draws(name))
    low, high = np.quantile(drawn, [0.025, 0.975], method="inverted_cdf").tolist()
    return Interval(float(_over(np.array(a.value(name)), np.array(b.value(name)))), low, high)


def _over(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((a == 0) & (b == 0), 1.0, a / b)


def auc_difference(a: MeasuredRecipe, b: MeasuredRecipe) -> Interval:
    """AUC of `a` minus AUC of `b`, means over replicas paired by their seeds, 95%."""
    parts = a._auc_parts.mean(axis=0) - b._auc_parts.mean(axis=0)
    return _mean_interval(a.aucs - b.aucs, parts)


def _mean_interval(values: np.ndarray, parts: np.ndarray) -> Interval:
    """Mean over replicas; variance of the replicas' mean plus that of the requests' parts (a jackknife)."""
    count = len(values)
    over_replicas = values.var(ddof=1) / count if count > 1 else 0.0
    requests = len(parts)
    over_requests = requests / (requests - 1) * np.square(parts - parts.mean()).sum()
    # Student's factor of each part's own number.
    of_replicas = quantile_of_student(0.95, count - 1) ** 2 * over_replicas if count > 1 else 0.0
    half = np.sqrt(of_replicas + quantile_of_student(0.95, requests - 1) ** 2 * over_requests)
    return Interval(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


@lru_cache(maxsize=1)
def _settings() -> divergence.Settings:
    """Only what studies report: a page compares a hundred recipes, and the other measures would be computed for nothing."""
    settings = divergence.Settings()
    for label in set(settings.measures) - set(DIVERGENCE):
        del settings.measures[label]
    return settings


@lru_cache(maxsize=2)
def _draw(requests: int, replicas: int, pairs: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, np.ndarray]:
    """How often each draw takes each request [requests, draws] and each pair of replicas [draws, pairs].

    The same for every recipe: a ratio's two sides are drawn together, and numbers repeat.
    """
    random = np.random.default_rng(0)
    times = random.poisson(1.0, (requests, _DRAWS)).astype(np.float64)
    often = np.empty((_DRAWS, len(pairs)))
    for draw in range(_DRAWS):
        count = _counts(random, replicas)
        while np.count_nonzero(count) < 2:
            count = _counts(random, replicas)
        # A replica drawn twice is no pair with itself: it does not differ.
        often[draw] = [count[i] * count[j] if max(i, j) < replicas else 0.0 for i, j in pairs]
    return times, often


def _counts(random: np.random.Generator, replicas: int) -> np.ndarray:
    return np.bincount(random.integers(replicas, size=replicas), minlength=replicas)
