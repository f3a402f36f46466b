"""One replica's scores of a block of requests, and all that depends on that replica alone.

Computed once a replica, however many pairs it is in. Arrays are padded blocks: n requests, K columns.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.bits import Array, count_bits, pack_bits, row_sums, unit_words
from ranker.divergence.long_lists import BITS_UP_TO, ordered_pairs

LOGIT_LIMIT = 1e-7
"""Probabilities are clipped to [1e-7, 1 - 1e-7] before a logit: float32 sigmoids saturate to 0 and 1."""


def logit(probability: ArrayLike) -> Array:
    """Log-odds of probabilities, clipped to [`LOGIT_LIMIT`, 1 - `LOGIT_LIMIT`] so that they stay finite.

    Example:
        >>> logit([0.5, 1.0]).round(3).tolist()
        [0.0, 16.118]
    """
    p = np.clip(np.asarray(probability, dtype=np.float64), LOGIT_LIMIT, 1 - LOGIT_LIMIT)
    return np.log(p / (1 - p))


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

    # What is cached is what several pairs ask for: memory that is kept costs more than arithmetic done twice.

    @cached_property
    def order(self) -> Array:
        """Column of the item at each rank, int16 or int32 [n, K], best first, padding last."""
        keys = np.where(self.present, -self.scores, np.inf)
        order = np.argsort(keys, axis=1)  # not stable, but twice as fast; ties are rare
        ordered = keys.ravel().take(order + self._row_starts)
        tied = ((ordered[:, 1:] == ordered[:, :-1]) & self.present[:, 1:]).any(axis=1)
        if tied.any():
            order[tied] = np.argsort(keys[tied], axis=1, kind="stable")
        columns = np.arange(keys.shape[1], dtype=np.int16 if keys.shape[1] < 2**15 else np.int32)
        # padding stands last in the columns too, so that its ranks are its columns
        return np.where(self.present, order.astype(columns.dtype), columns)

    @cached_property
    def rank(self) -> Array:
        """Rank (from 0) of each column, int16 or int32 [n, K]."""
        n, columns = self.order.shape
        rank = np.empty(n * columns, dtype=self.order.dtype)
        rank[self._places().ravel()] = np.tile(np.arange(columns, dtype=rank.dtype), n)
        return rank.reshape(n, columns)

    @cached_property
    def top(self) -> Array:
        """Flat positions (row * K + column) of the first items, int64 [min(k, K), n]."""
        return np.ascontiguousarray((self.order[:, : self.k] + self._row_starts).T)

    @cached_property
    def above(self) -> Array:
        """Bits, uint64 [n, K, ceil(K / 64)]: bit j of row i says that i scores strictly above j."""
        words = unit_words(self.scores.shape[1]).take(self.order, axis=0)
        words *= self.present[:, :, None]  # ranks of padding are its columns
        up_to = np.cumsum(words, axis=1, dtype=np.uint64)  # sums, since each bit comes once
        beaten = np.subtract(up_to[:, -1:], up_to, out=words)
        ordered = self._in_order(self.scores)
        tied = (ordered[:, 1:] == ordered[:, :-1]) & self.present[:, 1:]
        if tied.any():  # what a tied candidate beats is what the last of its equals beats
            rank = np.arange(beaten.shape[1])
            last = np.where(np.append(tied, np.zeros((len(tied), 1), dtype=bool), axis=1), len(rank), rank)
            last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
            beaten = np.take_along_axis(beaten, last[:, :, None], axis=1)
        return beaten.reshape(-1, beaten.shape[2]).take(self.rank + self._row_starts, axis=0)

    @cached_property
    def below_top(self) -> Array:
        """Bits of the candidates below the top k, uint64 [n, ceil(K / 64)]."""
        return pack_bits((self.rank >= self.k) & self.present)

    @cached_property
    def unseen(self) -> Array:
        """Bits, uint64 [n, K, ceil(K / 64)]: bit j of row i says that neither i nor j is in the top k."""
        return self.below_top[:, None, :] * (self.rank >= self.k)[:, :, None]

    @cached_property
    def ordered_pairs(self) -> Array:
        """Number of item pairs with different scores, int64 [n]."""
        if self.is_long:
            rows = zip(self.scores, self.present, strict=True)
            return np.array([ordered_pairs(scores[present]) for scores, present in rows], dtype=np.int64)
        return count_bits(self.above)

    @property
    def is_long(self) -> bool:
        """Whether pairs of items are counted by sorting, because their bits would take too much memory."""
        return self.scores.shape[1] > BITS_UP_TO

    @cached_property
    def mass(self) -> Array:
        """Sum of the scores, the request's expected clicks, float64 [n]."""
        return row_sums(self.scores)

    @cached_property
    def ideal(self) -> Array:
        """Discounted sum of the scores in their own order: the most that any order gets, float64 [n]."""
        return self._in_order(self.scores) @ discounts(self.scores.shape[1])[:-1]

    @cached_property
    def regret(self) -> Array:
        """Share of expected clicks that this order loses against the consensus order, float64 [n]."""
        agreed = self.consensus or self
        got = self._in_order(agreed.scores) @ discounts(agreed.scores.shape[1])[:-1]
        return np.maximum(agreed.ideal - got, 0) / np.where(agreed.ideal > 0, agreed.ideal, 1)

    def over(self, threshold: float) -> Array:
        """Bits of the candidates that score over a threshold, uint64 [n, ceil(K / 64)]."""
        if threshold not in self._over:
            self._over[threshold] = pack_bits(self.scores > threshold)
        return self._over[threshold]

    @cached_property
    def _over(self) -> dict[float, Array]:
        return {}

    @cached_property
    def _row_starts(self) -> Array:
        n, columns = self.scores.shape
        return np.arange(n)[:, None] * columns

    def _places(self) -> Array:
        """Flat position of the item at each rank, int64 [n, K]."""
        return self.order + self._row_starts

    def _in_order(self, values: Array) -> Array:
        """Values of the candidates [n, K] in this order."""
        return values.ravel().take(self._places())


@lru_cache(maxsize=64)
def discounts(k: int) -> Array:
    """1 / log2(1 + r) for ranks r = 1..k, then 0 for every rank beyond; float64 [k + 1]."""
    return np.append(1 / np.log2(np.arange(2, k + 2)), 0.0)
