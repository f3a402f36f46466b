"""What disagreement costs: expected clicks lost against the order of the replicas' mean prediction."""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.bits import Array
from ranker.divergence.pairs import Pair, as_pair
from ranker.errors import UserError


def consensus(probabilities: ArrayLike) -> Array:
    """Mean probability over replicas, the best guess that several replicas have of a click.

    Args:
        probabilities: [M, ...], one entry a replica.

    Returns:
        float64 [...].

    Example:
        >>> consensus([[0.2, 0.4], [0.4, 0.4]]).round(6).tolist()
        [0.3, 0.4]
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim < 1 or p.shape[0] < 1 or not np.all((p >= 0) & (p <= 1)):
        raise UserError(f"`probabilities` must be [replicas, ...] in [0, 1]. Received: shape {p.shape}")
    return p.mean(axis=0)


def replica_regret(scores: ArrayLike, consensus: ArrayLike) -> Array:
    """Share of expected clicks that one replica's order loses against the consensus order.

    Formula: sum_r w_r (pbar at consensus rank r - pbar at m's rank r) / sum_r w_r pbar at consensus rank r,
        w_r = 1 / log2(1 + r)
    Range: [0, 1). 0: nothing lost. Needs no labels.

    Args:
        scores: the replica's scores of K candidates [K], or [n, K].
        consensus: the mean probability of the same candidates over the replicas, same shape.

    Returns:
        A float, or float64 [n].

    Example:
        >>> round(float(replica_regret([0.1, 0.9], consensus=[0.5, 0.4])), 6)
        0.049054
    """
    pair = as_pair(scores, consensus)
    return pair.report(replace(pair.a, consensus=pair.b).regret, 1)


def consensus_regret(
    a: ArrayLike | Pair, b: ArrayLike | None = None, *, items: ArrayLike | None = None
) -> Array:
    """Share of expected clicks that a replica loses against the consensus order, the mean of the two.

    Formula: sum_r w_r (pbar at consensus rank r - pbar at m's rank r) / sum_r w_r pbar at consensus rank r,
        w_r = 1 / log2(1 + r); mean of m = a, b. pbar is the mean over all replicas (here: of a and b)
    Range: [0, 1). 0: both order as the consensus does. 0.01: one expected click in a hundred is lost.
    Source: regret of a ranking under discounted cumulative gain, Jarvelin and Kekalainen, 2002; the headline
        cost, since it weighs a swap by what it costs.

    Example:
        >>> round(float(consensus_regret([0.5, 0.3], [0.4, 0.5])), 6)
        0.013137
    """
    pair = as_pair(a, b, items=items, probabilities=True)
    return pair.report((pair.a.regret + pair.b.regret) / 2, 2)
