"""One replica's scores of a block of requests, and all that depends on that replica alone.

Computed once a replica, however many pairs it is in. Arrays are padded blocks: n requests, K columns.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.bits import Array, count_bits, row_sums, unit_words

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
    def size(self) -> Array:
        """Candidates of each request, int64 [n]."""
        return self.present.sum(axis=1, dtype=np.int64)

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
    def _up_to(self) -> Array:
        """Bits of the candidates at ranks 0..r, uint64 [n, K, ceil(K / 64)]: sums, since each bit comes once."""
        words = unit_words(self.scores.shape[1])[self.order]
        if not self.present.all():
            words[np.arange(words.shape[1]) >= self.size[:, None]] = 0
        return np.cumsum(words, axis=1, dtype=np.uint64)

    @cached_property
    def above(self) -> Array:
        """Bits, uint64 [n, K, ceil(K / 64)]: bit j of row i says that i scores strictly above j."""
        beaten = self._up_to[:, -1:] - self._up_to
        ordered = np.take_along_axis(self.scores, self.order, axis=1)
        tied = ordered[:, 1:] == ordered[:, :-1]
        if tied.any():  # what a tied candidate beats is what the last of its equals beats
            rank = np.arange(ordered.shape[1])
            last = np.where(np.append(tied, np.zeros((len(tied), 1), dtype=bool), axis=1), len(rank), rank)
            last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
            beaten = np.take_along_axis(beaten, last[:, :, None], axis=1)
        n, columns, words = beaten.shape
        return beaten.reshape(-1, words)[self.rank + np.arange(n)[:, None] * columns]

    @cached_property
    def below_top(self) -> Array:
        """Bits of the candidates below the top k, uint64 [n, ceil(K / 64)]."""
        return self._up_to[:, -1] - self._up_to[:, min(self.k, self._up_to.shape[1]) - 1]

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
        got = row_sums(agreed.scores * discounts(agreed.scores.shape[1])[self.rank])
        return np.maximum(agreed.ideal - got, 0) / np.where(agreed.ideal > 0, agreed.ideal, 1)


@lru_cache(maxsize=64)
def discounts(k: int) -> Array:
    """1 / log2(1 + r) for ranks r = 1..k, then 0 for every rank beyond; float64 [k + 1]."""
    return np.append(1 / np.log2(np.arange(2, k + 2)), 0.0)
