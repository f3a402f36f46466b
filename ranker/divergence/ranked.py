"""One replica's scores of a block of requests, and all that depends on that replica alone.

Computed once a replica, however many pairs it is in. Arrays are padded blocks: n requests, K columns.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.bits import Array, count_bits

LOGIT_LIMIT = 1e-7
"""Probabilities are clipped to [1e-7, 1 - 1e-7] before a logit: float32 sigmoids saturate to 0 and 1."""


def logit(probability: ArrayLike) -> Array:
    """Log-odds of probabilities, clipped to [`LOGIT_LIMIT`, 1 - `LOGIT_LIMIT`] so that they stay finite.

    Example:
        >>> logit([0.5, 1.0]).round(3).tolist()
        [0.0, 16.118]
    """
    p = np.clip(np.asarray(probability, dtype=np.float64), LOGIT_LIMIT, 1 - LOGIT_LIMIT)
    return np.log(p) - np.log1p(-p)


@dataclass(frozen=True, eq=False)
class Ranked:
    """One replica's scores of a block of requests, and its order by (-score, column).

    Columns are in ascending item id, so that a stable sort breaks ties by item id.

    Attributes:
        scores: float64 [n, K], 0 in the padding.
        present: bool [n, K], the same object for every replica of a block.
        k: how deep the top of a list is.
        consensus: the mean of the replicas, ranked; None in the consensus itself.
    """

    scores: Array
    present: Array
    k: int
    consensus: "Ranked | None" = None

    @cached_property
    def logit(self) -> Array:
        """Log-odds [n, K]; equal in the padding of every replica."""
        return logit(self.scores)

    @cached_property
    def order(self) -> Array:
        """Column of the item at each rank, int64 [n, K], best first, padding last."""
        return np.argsort(np.where(self.present, -self.scores, np.inf), axis=1, kind="stable")

    @cached_property
    def rank(self) -> Array:
        """Rank (from 0) of each column, int32 [n, K]."""
        rank = np.empty(self.order.shape, dtype=np.int32)
        np.put_along_axis(rank, self.order, np.arange(rank.shape[1], dtype=np.int32)[None, :], axis=1)
        return rank

    @cached_property
    def top(self) -> Array:
        """Flat positions (row * K + column) of the first items, int64 [min(k, K), n]."""
        n, columns = self.scores.shape
        return np.ascontiguousarray(self.order[:, : self.k].T) + np.arange(n)[None, :] * columns

    @cached_property
    def above(self) -> Array:
        """Bits, uint64 [n, K, ceil(K / 64)]: bit j of row i says that i scores strictly above j."""
        n, columns = self.scores.shape
        rivals = np.full((n, -(-columns // 64) * 64), np.inf)
        rivals[:, :columns][self.present] = self.scores[self.present]
        mine = np.where(self.present, self.scores, -np.inf)
        return np.packbits(mine[:, :, None] > rivals[:, None, :], axis=-1).view(np.uint64)

    @cached_property
    def ordered_pairs(self) -> Array:
        """Number of item pairs with different scores, int64 [n]."""
        return count_bits(self.above)

    @cached_property
    def ideal(self) -> Array:
        """Discounted sum of the scores in their own order: the most that any order gets, float64 [n]."""
        return np.take_along_axis(self.scores, self.order, axis=1) @ discounts(self.scores.shape[1])[:-1]

    @cached_property
    def regret(self) -> Array:
        """Share of expected clicks that this order loses against the consensus order, float64 [n]."""
        agreed = self.consensus or self
        got = (agreed.scores * discounts(agreed.scores.shape[1])[self.rank]).sum(axis=1)
        return np.maximum(agreed.ideal - got, 0) / np.where(agreed.ideal > 0, agreed.ideal, 1)


@lru_cache(maxsize=64)
def discounts(k: int) -> Array:
    """1 / log2(1 + r) for ranks r = 1..k, then 0 for every rank beyond; float64 [k + 1]."""
    return np.append(1 / np.log2(np.arange(2, k + 2)), 0.0)
