"""Two replicas on the same requests: what every two-model measure takes, with the work they share."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.bits import Array, count_bits, row_sums
from ranker.divergence.long_lists import disagreements
from ranker.divergence.ranked import Ranked
from ranker.errors import UserError


@dataclass(frozen=True, eq=False)
class Pair:
    """Two replicas on the same block of requests: what every two-model measure takes.

    Attributes:
        a: the first replica.
        b: the second replica; same shape, same `present`, same consensus.
        scalar: the input was one request, so measures return a float.
    """

    a: Ranked
    b: Ranked
    scalar: bool = False

    @property
    def k(self) -> int:
        """How deep the top of a list is."""
        return self.a.k

    @property
    def size(self) -> Array:
        """Candidates of each request, K_n, int64 [n]."""
        return self.a.size

    @cached_property
    def smallest(self) -> int:
        """Fewest candidates of a request; 0 without requests."""
        return int(self.size.min()) if len(self.size) else 0

    @cached_property
    def depth(self) -> Array:
        """min(k, K_n), at least 1, int64 [n]."""
        return np.clip(self.size, 1, self.k)

    @cached_property
    def rank_in_b(self) -> Array:
        """Rank in b of the item at rank r of a, int16 or int32 [min(k, K), n]."""
        return self.b.rank.ravel().take(self.a.top)

    @cached_property
    def rank_in_a(self) -> Array:
        """Rank in a of the item at rank r of b, int16 or int32 [min(k, K), n]."""
        return self.a.rank.ravel().take(self.b.top)

    @cached_property
    def capped_rank_in_b(self) -> Array:
        """`rank_in_b`, where k stands for every rank below the top k; in the smallest type that holds k."""
        return np.minimum(self.rank_in_b, self.k).astype(np.min_scalar_type(self.k))

    @cached_property
    def disagreement(self) -> Array:
        """Bits, as `Ranked.above`: set where exactly one replica puts i above j. Their sum is 2 D + T1."""
        return self.a.above ^ self.b.above

    @cached_property
    def disagreements(self) -> Array:
        """2 D + T1: discordant item pairs twice, pairs tied in exactly one list once; int64 [n]."""
        if self.a.is_long:
            return self._sorted_disagreements(self.a.present)
        return count_bits(self.disagreement)

    @cached_property
    def unseen_disagreements(self) -> Array:
        """`disagreements` among the candidates that are in neither top k, int64 [n]."""
        if self.a.is_long:
            return self._sorted_disagreements(
                self.a.present & (self.a.rank >= self.k) & (self.b.rank >= self.k)
            )
        unseen = self.disagreement & self.a.unseen
        unseen &= self.b.unseen
        return count_bits(unseen)

    def _sorted_disagreements(self, chosen: Array) -> Array:
        rows = zip(self.a.scores, self.b.scores, chosen, strict=True)
        return np.array([disagreements(a[where], b[where]) for a, b, where in rows], dtype=np.int64)

    @cached_property
    def difference(self) -> Array:
        """|a - b|, float64 [n, K]."""
        difference = self.a.scores - self.b.scores
        return np.abs(difference, out=difference)

    @cached_property
    def absolute(self) -> Array:
        """Sum of |a - b| over the candidates, float64 [n]."""
        return row_sums(self.difference)

    @cached_property
    def logit_difference(self) -> Array:
        """|logit a - logit b|, float64 [n, K]."""
        difference = self.a.logit - self.b.logit
        return np.abs(difference, out=difference)

    def report(self, values: Array, at_least: int) -> Array:
        """Values [n] as a measure returns them: nan where a request has fewer candidates than it takes."""
        if self.smallest < at_least:
            values = np.where(self.size >= at_least, values, np.nan)
        return values[0] if self.scalar else values


def as_pair(
    a: "ArrayLike | Pair",
    b: ArrayLike | None = None,
    *,
    items: ArrayLike | None = None,
    k: int = 10,
    probabilities: bool = False,
) -> Pair:
    """Check two score arrays and prepare them; a `Pair` passes through.

    Args:
        a: scores of one request [K], or of n requests with K candidates each [n, K]; or a `Pair`.
        b: scores of the same candidates by the other model, same shape.
        items: item ids, same shape (or [K] for all): ties break by ascending id. Default: by position.
        k: how deep the top of a list is.
        probabilities: ask for values in [0, 1]; otherwise any finite score will do.

    Raises:
        UserError: shapes differ, a score is NaN or infinite (or outside [0, 1]), an item occurs twice, k < 1.
    """
    if isinstance(a, Pair):
        return a
    scores_a, scores_b = _scores("a", a, probabilities), _scores("b", b, probabilities)
    if scores_a.shape != scores_b.shape:
        raise UserError(
            f"`a` and `b` must score the same candidates. Received: shapes {scores_a.shape} and {scores_b.shape}"
        )
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise UserError(f"`k` must be an integer >= 1. Received: k={k!r}")
    scalar = scores_a.ndim == 1
    scores_a, scores_b = np.atleast_2d(scores_a), np.atleast_2d(scores_b)
    if items is not None:
        scores_a, scores_b = _by_item(items, scores_a, scores_b)
    present = np.ones(scores_a.shape, dtype=bool)
    if scores_a.shape[1] == 0:  # one column of padding, so that no measure needs a special case
        scores_a, scores_b, present = (
            np.zeros((scores_a.shape[0], 1), dtype=x.dtype) for x in (scores_a, scores_b, present)
        )
    agreed = Ranked((scores_a + scores_b) / 2, present, int(k))
    first, second = (Ranked(scores, present, int(k), agreed) for scores in (scores_a, scores_b))
    return Pair(first, second, scalar)


def _scores(name: str, values: "ArrayLike | Pair | None", probabilities: bool) -> Array:
    if values is None:
        raise UserError(f"`{name}` must be given: the scores of the second model. Received: None")
    try:
        scores = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"`{name}` must be an array of numbers. Received: {type(values).__name__} ({error})"
        ) from error
    if scores.ndim not in (1, 2):
        raise UserError(f"`{name}` must have shape [K] or [n, K]. Received: shape {scores.shape}")
    bad = ~np.isfinite(scores)
    if probabilities:
        bad |= (scores < 0) | (scores > 1)
    if bad.any():
        rule = "probabilities in [0, 1]" if probabilities else "finite scores"
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise UserError(
            f"`{name}` must hold {rule}. "
            f"Received: {scores[where]} at {list(where)}, {int(bad.sum())} such values"
        )
    return scores


def _by_item(items: ArrayLike, scores_a: Array, scores_b: Array) -> tuple[Array, Array]:
    ids = np.asarray(items)
    if ids.shape[-1:] != scores_a.shape[-1:] or ids.ndim > 2:
        raise UserError(
            f"`items` must have the shape of the scores. Received: {ids.shape} for {scores_a.shape}"
        )
    ids = np.broadcast_to(ids, scores_a.shape)
    by_id = np.argsort(ids, axis=1, kind="stable")
    ids = np.take_along_axis(ids, by_id, axis=1)
    repeated = ids[:, 1:][ids[:, 1:] == ids[:, :-1]]
    if len(repeated):
        raise UserError(f"`items` must be distinct within a request. Received: {repeated[0]!r} twice")
    return np.take_along_axis(scores_a, by_id, axis=1), np.take_along_axis(scores_b, by_id, axis=1)
