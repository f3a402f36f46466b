"""From answers to every measure of every pair: first a value a request, then statistics that merge."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.attribution import component_numerators
from ranker.divergence.bits import Array
from ranker.divergence.catalogue import Settings
from ranker.divergence.comparison import Comparison, Coverage
from ranker.divergence.histogram import BUCKETS, Histogram, count_buckets
from ranker.divergence.pairs import Pair
from ranker.divergence.prediction import expected_prediction
from ranker.divergence.ranked import Ranked
from ranker.divergence.requests import RequestBatch
from ranker.divergence.statistics import Statistic, sum_rows
from ranker.errors import UserError

_MANY = 256
"""Replicas above which blocks of requests are smaller."""


def compare_batch(batch: RequestBatch, settings: Settings | None = None, *, chunk: int = 8192) -> Comparison:
    """Every measure of every pair of the batch's replicas.

    Args:
        batch: the replicas' answers.
        settings: k and thresholds.
        chunk: requests whose values are held at a time: 8,192 of 28 pairs take 33 MB.

    Raises:
        UserError: no pair has a request to compare, because scores are no probabilities.

    Example:
        >>> scores = [[.9, .1, .2, .1], [.8, .1, .1, .2]]
        >>> batch = RequestBatch.from_rows([1, 1, 2, 2], [10, 11, 10, 11], scores)
        >>> result = compare_batch(batch)
        >>> result.overall["top1_swap"].value, round(result.overall["rpd_sym"].value, 3)
        (0.5, 0.363)
    """
    settings = settings or Settings()
    _require_probabilities(batch)
    result = Comparison.empty()
    for start in range(0, max(len(batch), 1), chunk):
        part = batch if len(batch) <= chunk else batch.take(np.arange(start, min(start + chunk, len(batch))))
        result = result.merge(measure_requests(part, settings).summarise())
    return result


def _require_probabilities(batch: RequestBatch) -> None:
    compared = any(
        (batch.valid[i] & batch.valid[j]).any() for i, j in combinations(range(len(batch.replicas)), 2)
    )
    if compared or not batch.invalid.any():
        return
    counts = ", ".join(
        f"{name} {int(invalid):,}"
        for name, invalid in zip(batch.replicas, batch.invalid_score, strict=True)
        if invalid
    )
    raise UserError(
        "scores must be probabilities within [0, 1]; for logits or other scores give a frame and its scale to "
        f"`compare`. Received scores that are none: {counts}"
    )


@dataclass(frozen=True, eq=False, repr=False)
class RequestMeasures:
    """Every measure of every pair at every request: for exemplars and for slices.

    Attributes:
        batch: what was measured, M replicas and N requests.
        settings: how.
        pairs: positions of the replicas of each pair; P of them, all M (M - 1) / 2 unless a design chose.
        paired: bool [P, N], both replicas answered the request well.
        values: label -> float64 [P, N]; nan where not paired or too few candidates.
        prediction: expected clicks of each request by the pair, float64 [P, N].
    """

    batch: RequestBatch
    settings: Settings
    pairs: list[tuple[int, int]]
    paired: Array
    values: dict[str, Array]
    prediction: Array

    def __repr__(self) -> str:
        return f"<RequestMeasures: {len(self.values)} measures of {len(self.pairs)} pairs, {self.batch!r}>"

    def summarise(self, where: ArrayLike | None = None) -> Comparison:
        """Statistics over all requests, or over those where `where` (bool [N]) holds: a slice."""
        chosen = np.ones(len(self.batch), dtype=bool) if where is None else np.asarray(where, dtype=bool)
        batch, names = self.batch, self.batch.replicas
        rows: dict[str, list[Statistic]] = {}
        weights: dict[tuple[str, int], _Weights] = {}
        for label, (definition, _) in self.settings.measures.items():
            kind = definition.weight, definition.at_least
            if kind not in weights:
                weights[kind] = _Weights.of(self, chosen, *kind)
            rows[label] = weights[kind].statistics(self.values[label][:, chosen], definition.better == "zero")
        pairs = {
            (names[i], names[j]): {label: statistics[p] for label, statistics in rows.items()}
            for p, (i, j) in enumerate(self.pairs)
        }
        first = len(self.pairs)
        replicas = {
            name: {label: statistics[first + m] for label, statistics in rows.items()}
            for m, name in enumerate(names)
        }
        for name, component in _components(self, chosen).items():
            replicas[name]["component"] = component
        overall = {label: statistics[-1] for label, statistics in rows.items()}
        return Comparison(pairs, replicas, overall, _coverage(batch, self.pairs, chosen))

    def select(self, replicas: Sequence[str]) -> "RequestMeasures":
        """Only the pairs among these replicas; the consensus that regret is taken against stays that of all.

        Raises:
            UserError: no such replica.
        """
        place = {self.batch.position(name): place for place, name in enumerate(replicas)}
        rows = [p for p, (i, j) in enumerate(self.pairs) if i in place and j in place]
        return RequestMeasures(
            batch=self.batch.select(replicas),
            settings=self.settings,
            pairs=[(place[self.pairs[p][0]], place[self.pairs[p][1]]) for p in rows],
            paired=self.paired[rows],
            values={label: values[rows] for label, values in self.values.items()},
            prediction=self.prediction[rows],
        )

    def request_sums(self, label: str) -> tuple[Array, Array]:
        """What each request adds to a measure's mean over pairs: weight times value, and weight, float64 [N] each.

        Both are nan where no pair has the measure. The measure is the sum of the first over that of the second.
        """
        values = self.values[label]
        have = ~np.isnan(values)
        weight = self.settings.measures[label][0].weight
        size = 1.0 if weight == "request" else self.batch.sizes if weight == "example" else self.prediction
        weights = np.where(have, size, 0.0)
        count = have.sum(axis=0)
        x = (np.where(have, values, 0.0) * weights).sum(axis=0) / np.maximum(count, 1)
        y = weights.sum(axis=0) / np.maximum(count, 1)
        return np.where(count > 0, x, np.nan), np.where(count > 0, y, np.nan)

    def request_mean(self, label: str) -> Array:
        """Mean of a measure over the pairs that have it, float64 [N], nan where none: ranks requests."""
        values = self.values[label]
        have = ~np.isnan(values)
        count = have.sum(axis=0)
        mean = np.where(have, values, 0.0).sum(axis=0) / np.maximum(count, 1)
        return np.where(count > 0, mean, np.nan)


def measure_requests(
    batch: RequestBatch,
    settings: Settings | None = None,
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> RequestMeasures:
    """Every measure of every pair at every request; each replica is ranked once, not once a pair.

    Args:
        batch: the replicas' answers.
        settings: k and thresholds.
        pairs: positions of the replicas of each pair, the smaller first; None: all pairs.
    """
    settings = settings or Settings()
    pairs = list(combinations(range(len(batch.replicas)), 2) if pairs is None else pairs)
    shape = (len(pairs), len(batch))
    values: dict[str, Array] = {label: np.empty(shape) for label in settings.measures}
    prediction: Array = np.empty(shape)
    # what is kept of a block is kept of every replica: with many of them blocks are smaller
    blocks = list(batch.blocks((1 << 22) * _MANY // max(len(batch.replicas), _MANY)))
    begin = 0
    for requests in blocks:
        block = slice(begin, begin := begin + len(requests))
        rows, present = batch.padded_rows(requests)
        scores = batch.scores.take(rows, axis=1)
        if not present.all():
            scores *= present
        valid = batch.valid[:, requests]
        consensus = (scores * valid[:, :, None]).sum(axis=0) / np.maximum(valid.sum(axis=0), 1)[:, None]
        agreed = Ranked(consensus, present, settings.k)
        ranked = [Ranked(replica, present, settings.k, agreed) for replica in scores]
        for p, (i, j) in enumerate(pairs):
            pair = Pair(ranked[i], ranked[j])
            prediction[p, block] = expected_prediction(pair)
            for label, (_, function) in settings.measures.items():
                values[label][p, block] = function(pair)
    by_size = np.concatenate(blocks) if blocks else np.arange(0)
    if (np.diff(by_size) < 0).any():
        place = np.argsort(by_size)  # from the order of blocks back to that of requests
        prediction = prediction[:, place]
        values = {label: value[:, place] for label, value in values.items()}
    paired = np.array([batch.valid[i] & batch.valid[j] for i, j in pairs], dtype=bool).reshape(shape)
    if not paired.all():
        for value in values.values():
            value[~paired] = np.nan
    return RequestMeasures(
        batch=batch, settings=settings, pairs=pairs, paired=paired, values=values, prediction=prediction
    )


@dataclass(frozen=True, eq=False)
class _Weights:
    """What measures of one weight share. Rows are the P pairs, then each replica's mean over its pairs, then all's.

    Attributes:
        member: which pairs make each row beyond the pairs, [M + 1, P], and `sign` on which side.
        count: how many pairs of a request do, at least 1, [M + 1, N].
        usable: bool [P + M + 1, N], the row has a value of the request.
        y: weights, 0 where not usable, [P + M + 1, N].
        every: all of `usable`.
    """

    member: Array
    sign: Array
    count: Array
    usable: Array
    y: Array
    every: bool

    @staticmethod
    def of(measured: "RequestMeasures", chosen: Array, weight: str, at_least: int) -> "_Weights":
        batch, pairs = measured.batch, measured.pairs
        size = batch.sizes[chosen]
        member, sign = np.zeros((2, len(batch.replicas) + 1, len(pairs)))
        for p, (i, j) in enumerate(pairs):
            member[[i, j, -1], p] = 1
            sign[i, p], sign[j, p] = 1, -1
        usable = measured.paired[:, chosen] & (size >= at_least)
        count = member @ usable
        y = usable * (
            1.0 if weight == "request" else size if weight == "example" else measured.prediction[:, chosen]
        )
        mean = member @ y / np.maximum(count, 1)
        rows = np.vstack([usable, count > 0])
        return _Weights(
            member=member,
            sign=sign,
            count=np.maximum(count, 1),
            usable=rows,
            y=np.vstack([y, mean]),
            every=bool(rows.all()),
        )

    def statistics(self, values: Array, signed: bool) -> list[Statistic]:
        """Statistics of each row from the pairs' values [P, N]."""
        pairs = len(values)
        if not self.every:
            values = np.where(self.usable[:pairs], values, 0.0)
        x = values * self.y[:pairs]
        means = (self.sign if signed else self.member) @ x / self.count
        x, y = np.vstack([x, means]), self.y[pairs:]
        values = np.vstack([values, np.divide(means, y, out=np.zeros_like(means), where=y > 0)])
        sums, buckets = sum_rows(x, self.y, self.usable), count_buckets(values, self.usable)
        return [Statistic.from_row(row, Histogram(counts)) for row, counts in zip(sums, buckets, strict=True)]


def _components(measured: RequestMeasures, chosen: Array) -> dict[str, Statistic]:
    """Each replica's noise variance, from all pairs and the requests that every live replica answered well."""
    batch = measured.batch
    live = np.flatnonzero(batch.valid[:, chosen].any(axis=1))
    replicas = len(batch.replicas)
    all_pairs = len(measured.pairs) >= replicas * (replicas - 1) // 2
    if len(live) < 3 or not all_pairs or "pd_logit_squared" not in measured.values:
        return {}
    complete = batch.valid[live].all(axis=0) & chosen
    size = batch.sizes[complete].astype(np.float64)
    squared = {
        pair: row[complete] * size
        for pair, row in zip(measured.pairs, measured.values["pd_logit_squared"], strict=True)
    }
    x = component_numerators(squared, live.tolist())
    y = np.broadcast_to(size, x.shape)
    sums = sum_rows(x, y, np.ones(x.shape, dtype=bool))
    none = np.zeros(BUCKETS, dtype=np.int64)  # components of single requests may be negative: no quantiles
    return {
        batch.replicas[m]: Statistic.from_row(row, Histogram(none)) for m, row in zip(live, sums, strict=True)
    }


def _coverage(batch: RequestBatch, pairs: list[tuple[int, int]], chosen: Array) -> Coverage:
    names = batch.replicas
    valid = batch.valid[:, chosen]

    def count(flags: Array) -> dict[str, int]:
        return dict(zip(names, flags[:, chosen].sum(axis=1).tolist(), strict=True))

    return Coverage(
        requests=int(chosen.sum()),
        answered=count(batch.answered),
        coverage_mismatch=count(batch.mismatched),
        invalid_score=count(batch.invalid),
        paired={(names[i], names[j]): int((valid[i] & valid[j]).sum()) for i, j in pairs},
    )
