"""Swap rates: how differently two models order the candidates of one request.

Every function takes `a` and `b`, the scores of one request's K candidates [K] by two models, and returns a
float; for n requests [n, K] it returns one value a request, float64 [n]. Each list is ordered by (-score,
item id); `items` gives the ids (default: the positions). The top of a list is its first min(k, K) items.
A request with K < 2 has no swaps: nan. All are symmetric and none changes under a common strictly
increasing transform of the scores.

Raises:
    UserError: (all) a score is NaN or infinite, the shapes differ, an item occurs twice, k < 1.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.bits import Array, count_bits, count_true
from ranker.divergence.pairs import Pair, as_pair
from ranker.divergence.ranked import discounts

RBO_PERSISTENCE = 0.9


def top1_swap(a: ArrayLike | Pair, b: ArrayLike | None = None, *, items: ArrayLike | None = None) -> Array:
    """Whether the two lists start with different items.

    Formula: top1_swap = 1[A_1 != B_1]
    Range: 0 or 1. 0: the same first item. 1: another first item.
    Source: the swap that a user sees first; as a mean over requests the headline swap rate.

    Example:
        >>> float(top1_swap([0.9, 0.8, 0.1], [0.7, 0.8, 0.1]))
        1.0
    """
    pair = as_pair(a, b, items=items)
    return pair.report((pair.rank_in_b[0] != 0).astype(np.float64), 2)


def set_churn(
    a: ArrayLike | Pair, b: ArrayLike | None = None, *, k: int = 10, items: ArrayLike | None = None
) -> Array:
    """Share of the top k that the other list does not have in its top k.

    Formula: set_churn@k = 1 - |A_k n B_k| / min(k, K)
    Range: [0, 1]. 0: the same items, in any order. 1: no item in common.
    Source: one minus the overlap at depth k, Webber, Moffat and Zobel, "A similarity measure for
        indefinite rankings", 2010, section 2.

    Example:
        >>> float(set_churn([0.9, 0.8, 0.1], [0.9, 0.1, 0.8], k=2))
        0.5
    """
    pair = as_pair(a, b, items=items, k=k)
    return pair.report(count_true(pair.rank_in_b >= pair.k) / pair.depth, 2)


def pair_inversion(
    a: ArrayLike | Pair, b: ArrayLike | None = None, *, items: ArrayLike | None = None
) -> Array:
    """Share of item pairs that the two lists put in opposite orders; a tie in one counts one half.

    Formula: pair_inversion = (D + T1/2) / (K (K - 1) / 2); D discordant pairs, T1 pairs tied in
        exactly one list
    Range: [0, 1]. 0: the same order. 1: the reversed order.
    Source: Kendall distance with penalty 1/2, Fagin, Kumar, Mahdian, Sivakumar and Vee, "Comparing and
        aggregating rankings with ties", 2004. Tau-b is another number: it is not a swap rate.

    Example:
        >>> round(float(pair_inversion([0.9, 0.5, 0.5, 0.1], [0.9, 0.4, 0.5, 0.1])), 6)
        0.083333
    """
    pair = as_pair(a, b, items=items)
    return pair.report(pair.disagreements / _ordered(pair.size), 2)


def visible_inversion(
    a: ArrayLike | Pair, b: ArrayLike | None = None, *, k: int = 10, items: ArrayLike | None = None
) -> Array:
    """`pair_inversion` over the item pairs that a user can see: an item of the pair is in either top k.

    Formula: visible_inversion@k = (D + T1/2) / pairs, over pairs with an item in A_k or B_k
    Range: [0, 1]. 0: the same order wherever it shows. 1: every visible pair is reversed.
    Source: as `pair_inversion`, restricted as in Fagin, Kumar and Sivakumar, "Comparing top k lists", 2003.

    Example:
        >>> float(visible_inversion([4, 3, 2, 1], [4, 3, 1, 2], k=2))
        0.0
    """
    pair = as_pair(a, b, items=items, k=k)
    count = count_bits(pair.a.below_top & pair.b.below_top)  # in neither top
    visible = pair.disagreements - pair.unseen_disagreements
    return pair.report(visible / np.maximum(_ordered(pair.size) - count * (count - 1), 1), 2)


def adjacent_swap(
    a: ArrayLike | Pair, b: ArrayLike | None = None, *, k: int = 10, items: ArrayLike | None = None
) -> Array:
    """Share of neighbours in one top k that the other list inverts; the mean of both directions.

    Formula: adjacent_swap@k = mean_(r < k) 1[b puts A_(r+1) before A_r], averaged with a and b exchanged
    Range: [0, 1]. 0: all neighbours keep their order. 1: the top k is reversed.
    Source: descents of a permutation; cheap, and the most sensitive of the swap rates.

    Example:
        >>> float(adjacent_swap([3, 2, 1], [3, 1, 2]))
        0.5
    """
    pair = as_pair(a, b, items=items, k=k)
    descents = sum(count_true(x[:-1] > x[1:]) for x in (pair.rank_in_b, pair.rank_in_a))
    return pair.report(descents / 2 / np.maximum(pair.depth - 1, 1), 2)


def slot_change(
    a: ArrayLike | Pair, b: ArrayLike | None = None, *, k: int = 10, items: ArrayLike | None = None
) -> Array:
    """Share of the first k places that hold another item. One insertion at the top changes them all.

    Formula: slot_change@k = (1/min(k, K)) sum_r 1[A_r != B_r]
    Range: [0, 1]. 0: the same items in the same places. 1: every place changed. For colour, not for alerts.
    Source: Hamming distance of two top-k lists.

    Example:
        >>> float(slot_change([4, 3, 2, 1], [4, 3, 1, 2], k=4))
        0.5
    """
    pair = as_pair(a, b, items=items, k=k)
    place = np.arange(len(pair.rank_in_b))[:, None]
    return pair.report(count_true(pair.rank_in_b != place) / pair.depth, 2)


def rbo_ext(
    a: ArrayLike | Pair, b: ArrayLike | None = None, *, k: int = 10, items: ArrayLike | None = None
) -> Array:
    """Rank-biased overlap of the top k, extrapolated, with persistence p = 0.9. A similarity: 1 is best.

    Formula: rbo_ext = (1-p)/p sum_(d<=k) (X_d/d) p^d + (X_k/k) p^k; X_d items in common at depth d
    Range: [0, 1]. 0: no item in common. 1: the same list.
    Source: Webber, Moffat and Zobel, "A similarity measure for indefinite rankings", 2010, equation 32.

    Example:
        >>> round(float(rbo_ext([9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [8, 9, 7, 6, 5, 4, 3, 2, 1, 0])), 6)
        0.9
    """
    pair = as_pair(a, b, items=items, k=k)
    # an item is common from depth max(rank a, rank b) + 1 on: the measure is a sum over items of a weight
    place = np.arange(len(pair.rank_in_b), dtype=pair.capped_rank_in_b.dtype)[:, None]
    common = np.maximum(pair.capped_rank_in_b, place)
    weights = _rbo_weights(pair.k)
    shared = weights[-1].take(common) if pair.smallest >= pair.k else weights[pair.depth, common]
    return pair.report(shared.sum(axis=0), 2)


def kendall_topk(
    a: ArrayLike | Pair, b: ArrayLike | None = None, *, k: int = 10, items: ArrayLike | None = None
) -> Array:
    """Kendall distance of two top-k lists, penalty 1/2, over its largest value.

    Formula: kendall_topk = (inverted pairs + pairs known to one list only / 2) / (k^2 + k (k - 1) / 2)
    Range: [0, 1]. 0: the same top k in the same order. 1: no item in common.
    Source: K^(1/2) of Fagin, Kumar and Sivakumar, "Comparing top k lists", 2003, section 3.

    Example:
        >>> round(float(kendall_topk([3, 2, 1], [1, 2, 3], k=3)), 6)
        0.25
    """
    pair = as_pair(a, b, items=items, k=k)
    ranks = pair.capped_rank_in_b
    absent = pair.rank_in_a >= pair.k
    # both common and reversed, or absent from one list and before a common item in the other
    first, second = _rank_pairs(len(ranks))
    inverted = count_true(ranks.take(first, axis=0) > ranks.take(second, axis=0))
    inverted += (np.cumsum(absent, axis=0) * ~absent).sum(axis=0)
    # one alone in a and one alone in b: surely inverted; two alone in one list: not known, one half
    alone, depth = count_true(absent), pair.depth
    distance = inverted + alone**2 + alone * (alone - 1) / 2
    return pair.report(distance / (depth**2 + depth * (depth - 1) / 2), 2)


def med_dcg(
    a: ArrayLike | Pair, b: ArrayLike | None = None, *, k: int = 10, items: ArrayLike | None = None
) -> Array:
    """Largest difference in DCG@k that any relevance in [0, 1] of the items could give. A metric.

    Formula: med_dcg@k = max(sum of positive, of negative differences of an item's discounts) / ideal DCG@k
    Range: [0, 1]. 0: the same top k in the same order. 1: no item in common.
    Source: maximised effectiveness difference, Tan and Clarke, "A family of rank similarity measures based on
        maximized effectiveness difference", 2015. Discount of rank r <= k: 1 / log2(1 + r).

    Example:
        >>> round(float(med_dcg([9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [8, 9, 7, 6, 5, 4, 3, 2, 1, 0])), 6)
        0.081229
    """
    pair = as_pair(a, b, items=items, k=k)
    table = discounts(pair.k)
    gained = table[: len(pair.rank_in_b), None] - table.take(pair.capped_rank_in_b)
    # both lists rank the same candidates: the discounts sum to the same total, so negative = positive
    return pair.report(np.maximum(gained, 0).sum(axis=0) / np.cumsum(table)[pair.depth - 1], 2)


def tie_share(a: ArrayLike | Pair, b: ArrayLike | None = None, *, items: ArrayLike | None = None) -> Array:
    """Share of item pairs with equal scores, the mean of both lists: how much the tie-break decides.

    Formula: tie_share = mean over the two lists of tied pairs / (K (K - 1) / 2)
    Range: [0, 1]. 0: no ties. 1: all scores equal in both lists.
    Source: reported beside the swap rates, which count a tie in one list as half a swap.

    Example:
        >>> round(float(tie_share([0.5, 0.5, 0.1], [0.5, 0.4, 0.1])), 6)
        0.166667
    """
    pair = as_pair(a, b, items=items)
    strict = pair.a.ordered_pairs + pair.b.ordered_pairs
    return pair.report(1 - strict / _ordered(pair.size), 2)


@lru_cache(maxsize=64)
def _rbo_weights(k: int) -> Array:
    """What an item common from depth m + 1 on adds to the RBO of depth d: float64 [k + 1 (d), k + 1 (m)]."""
    p = RBO_PERSISTENCE
    terms = (1 - p) / p * p ** np.arange(1, k + 1) / np.arange(1, k + 1)
    weights = np.zeros((k + 1, k + 1))
    for depth in range(1, k + 1):
        weights[depth, :depth] = np.cumsum(terms[:depth][::-1])[::-1] + p**depth / depth
    return weights


def _ordered(size: Array) -> Array:
    return np.maximum(size * (size - 1), 1)


@lru_cache(maxsize=8)
def _rank_pairs(k: int) -> tuple[Array, Array]:
    """First and second rank of each pair of ranks below k."""
    first, second = np.triu_indices(k, 1)
    return first, second
