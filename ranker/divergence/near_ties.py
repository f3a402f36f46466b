"""Are the swaps near ties? Noise swaps items that score alike; swaps across large gaps mean a bug.

With true log-odds gap g and noise sigma an item, a replica puts the worse item first with probability
q = Phi(-g / (sqrt(2) sigma)), and two replicas disagree with probability 2 q (1 - q). In production the true
gap is unknown. The mean of the two replicas' gaps, m, will do: for equal noise it is independent of their
difference, so that given m they disagree with probability 2 Phi(-|m| / sigma), whatever the true gaps.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.bits import Array
from ranker.divergence.gaps import item_pairs
from ranker.divergence.histogram import BUCKETS, Histogram
from ranker.divergence.ranked import logit
from ranker.divergence.requests import RequestBatch
from ranker.divergence.statistics import Statistic, sum_rows
from ranker.errors import UserError

EDGES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, math.inf)
"""Default bins of the gap, in log-odds."""


def inversion_probability(gap: ArrayLike, sigma: float) -> Array:
    """Probability that two replicas order a pair of items differently.

    Formula: 2 q (1 - q), q = Phi(-g / (sqrt(2) sigma))
    Range: [0, 1/2]. 1/2: a tie. 0: a gap far above the noise.

    Args:
        gap: true difference of the two items' log-odds.
        sigma: standard deviation of one replica's noise on one item's log-odds, > 0.

    Example:
        >>> inversion_probability([0.0, 0.2, 1.0], 0.2).round(4).tolist()
        [0.5, 0.3645, 0.0004]
    """
    q = normal_cdf(-np.abs(np.asarray(gap, dtype=np.float64)) / (math.sqrt(2) * _positive(sigma)))
    return 2 * q * (1 - q)


def inversion_probability_given_mean(gap: ArrayLike, sigma: float) -> Array:
    """Probability that two replicas disagree on a pair of items, given the mean of their two gaps.

    Formula: 2 Phi(-|m| / sigma)
    Range: [0, 1].

    Example:
        >>> inversion_probability_given_mean([0.0, 0.2], 0.2).round(4).tolist()
        [1.0, 0.3173]
    """
    return 2 * normal_cdf(-np.abs(np.asarray(gap, dtype=np.float64)) / _positive(sigma))


@dataclass(frozen=True, eq=False)
class NearTies:
    """Observed inversions by gap, and their excess over what noise predicts. Merges like its statistics.

    Attributes:
        edges: of the bins of the gap, B + 1 of them, in log-odds.
        observed: share of item pairs inverted, a statistic a bin.
        excess: observed minus predicted, a statistic a bin.
    """

    edges: tuple[float, ...]
    observed: tuple[Statistic, ...]
    excess: tuple[Statistic, ...]

    @property
    def predicted(self) -> list[float]:
        """Share of item pairs that noise alone inverts, by bin."""
        return [o.value - e.value for o, e in zip(self.observed, self.excess, strict=True)]

    def merge(self, other: "NearTies") -> "NearTies":
        """Both sets of requests together.

        Raises:
            UserError: the bins differ.
        """
        if self.edges != other.edges:
            raise UserError(f"bins must be the same to merge. Received: {self.edges} and {other.edges}")
        observed = tuple(a.merge(b) for a, b in zip(self.observed, other.observed, strict=True))
        excess = tuple(a.merge(b) for a, b in zip(self.excess, other.excess, strict=True))
        return NearTies(self.edges, observed, excess)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON (the open end of the last bin is None)."""
        return {
            "edges": [edge if math.isfinite(edge) else None for edge in self.edges],
            "observed": [statistic.as_dict() for statistic in self.observed],
            "excess": [statistic.as_dict() for statistic in self.excess],
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> "NearTies":
        """The inverse of `as_dict`."""
        return NearTies(
            tuple(math.inf if edge is None else float(edge) for edge in data["edges"]),
            tuple(Statistic.from_dict(row) for row in data["observed"]),
            tuple(Statistic.from_dict(row) for row in data["excess"]),
        )


def near_ties(
    batch: RequestBatch,
    a: str,
    b: str,
    sigma: float,
    *,
    truth: ArrayLike | None = None,
    edges: tuple[float, ...] = EDGES,
) -> NearTies:
    """Inversions between two replicas by the gap of the two items, observed and predicted.

    Args:
        batch: the replicas' answers.
        a: name of a replica.
        b: name of another.
        sigma: noise of a replica on an item's log-odds, as `gap_noise` finds it.
        truth: true log-odds of each row of the batch [R], where they are known; else the mean of the two
            replicas' gaps stands in, with its own prediction.
        edges: ascending, the first 0 and the last infinity; `gap_deciles` makes bins of a tenth of the item pairs each.

    Raises:
        UserError: an unknown replica, sigma not positive, edges not ascending.
    """
    if len(edges) < 2 or edges[0] != 0 or list(edges) != sorted(edges):
        raise UserError(f"`edges` must ascend from 0. Received: edges={edges!r}")
    i, j = batch.position(a), batch.position(b)
    bins = len(edges) - 1
    predict = inversion_probability_given_mean if truth is None else inversion_probability
    scored = [logit(batch.scores[i]), logit(batch.scores[j])]
    true_log_odds = [] if truth is None else [np.asarray(truth, dtype=np.float64)]
    sums = np.zeros((3, bins, len(batch)))  # pairs, inverted, predicted
    for requests, owner, (gap_a, gap_b, *rest) in item_pairs(batch, *scored, *true_log_odds):
        gap = rest[0] if rest else (gap_a + gap_b) / 2
        inverted = np.abs(np.sign(gap_a) - np.sign(gap_b)) / 2
        size = np.abs(gap)
        cell: Array = np.zeros(len(size), dtype=np.int64)
        for edge in edges[1:-1]:  # a few comparisons of all gaps are faster than a search for each
            cell += size >= edge
        cell = cell * len(requests) + owner
        for row, weights in enumerate((None, inverted, predict(gap, sigma))):
            counted = np.bincount(cell, weights=weights, minlength=bins * len(requests))
            sums[row][:, requests] += counted.reshape(bins, len(requests))
    pairs, inverted, predicted = sums
    usable = (batch.valid[i] & batch.valid[j])[None, :] & (pairs > 0)
    return NearTies(
        tuple(edges), _statistics(inverted, pairs, usable), _statistics(inverted - predicted, pairs, usable)
    )


def normal_cdf(x: ArrayLike) -> Array:
    """Standard normal distribution function to 2e-7, by interpolation in a table (NumPy has none)."""
    table, slopes = _normal_table()
    place = np.clip((np.asarray(x, dtype=np.float64) + _FAR) * _STEPS, 0, 2 * _FAR * _STEPS)
    before = place.astype(np.int64)
    return table[before] + (place - before) * slopes[before]


_FAR, _STEPS = 9, 500
"""The table reaches from -9 to 9, with 500 steps to one."""


@lru_cache(maxsize=1)
def _normal_table() -> tuple[Array, Array]:
    """Values at the steps, and what each adds to the next."""
    grid = np.linspace(-_FAR, _FAR, 2 * _FAR * _STEPS + 1)
    table = np.array([math.erfc(-x / math.sqrt(2)) / 2 for x in grid])
    return table, np.diff(table, append=table[-1])


def _statistics(x: Array, y: Array, usable: Array) -> tuple[Statistic, ...]:
    none = np.zeros(BUCKETS, dtype=np.int64)  # a bin's share of one request's pairs has no use for quantiles
    sums = sum_rows(x * usable, y * usable, usable)
    return tuple(Statistic.from_row(row, Histogram(none)) for row in sums)


def _positive(sigma: float) -> float:
    if not sigma > 0 or not math.isfinite(sigma):
        raise UserError(f"`sigma` must be finite and > 0. Received: sigma={sigma!r}")
    return sigma
