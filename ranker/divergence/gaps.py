"""Gaps between the items of one request: walked in bounded memory, cut into tenths, and how noisy they are."""

import math
from collections.abc import Iterator

import numpy as np

from ranker.divergence.bits import Array
from ranker.divergence.ranked import logit
from ranker.divergence.requests import RequestBatch

MOST_PAIRS = 1 << 20
"""Item pairs whose gaps are sorted for the deciles; of more an even part is taken."""


def item_pairs(batch: RequestBatch, *sides: Array) -> Iterator[tuple[Array, Array, list[Array]]]:
    """Every pair of items of a request, in runs that bound memory.

    Args:
        batch: the requests.
        sides: a value a row of the batch each [R], whose gaps are wanted.

    Yields:
        The requests of the run [n], the place in it of each item pair's request [P], and each side's gaps [P].
    """
    for requests in batch.blocks():
        rows, present = batch.padded_rows(requests)
        for first in _slabs(*rows.shape):
            # each item of the slab with every later one
            later = np.arange(first.start, rows.shape[1]) > np.arange(first.start, first.stop)[:, None]
            ordered_pairs = later & present[:, first, None] & present[:, None, first.start :]
            values = [side[rows] for side in sides]
            gaps = [
                (value[:, first, None] - value[:, None, first.start :])[ordered_pairs] for value in values
            ]
            yield requests, np.nonzero(ordered_pairs)[0], gaps


def gap_deciles(batch: RequestBatch, a: str, b: str) -> tuple[float, ...]:
    """Edges that cut the item pairs of two replicas into tenths by their gap.

    Args:
        batch: the replicas' answers.
        a: name of a replica.
        b: name of another.

    Returns:
        11 edges of |mean of the two replicas' gaps|, in log-odds, the first 0 and the last infinity; exact up to
        `MOST_PAIRS` item pairs, beyond that those of an even part of them.

    Raises:
        UserError: an unknown replica.
    """
    i, j = batch.position(a), batch.position(b)
    middle = (logit(batch.scores[i]) + logit(batch.scores[j])) / 2
    usable = batch.valid[i] & batch.valid[j]
    step = math.ceil((batch.sizes * (batch.sizes - 1) // 2).sum() / MOST_PAIRS) or 1
    sizes = [
        np.abs(gap)[usable[requests][owner]][::step] for requests, owner, (gap,) in item_pairs(batch, middle)
    ]
    gaps = np.concatenate([np.zeros(0), *sizes])
    inner = np.quantile(gaps, np.arange(1, 10) / 10) if len(gaps) else np.zeros(9)
    return (0.0, *inner.tolist(), math.inf)


def gap_noise(batch: RequestBatch, a: str, b: str) -> float:
    """Standard deviation of one replica's noise on one item's log-odds, as far as it moves gaps.

    What a replica adds to all candidates of a request alike changes no gap and swaps nothing, so the noise is taken
    around each request's mean; of the two replicas it is the root of their mean variance.

    Formula: sqrt(sum_n sum_i (d_ni - mean_i d_ni)^2 / (2 sum_n (K_n - 1))), d the difference of their log-odds

    Raises:
        UserError: an unknown replica.
    """
    i, j = batch.position(a), batch.position(b)
    size = batch.sizes
    owner = np.repeat(np.arange(len(batch)), size)
    usable = batch.valid[i] & batch.valid[j] & (size > 1)
    apart = np.where(usable[owner], logit(batch.scores[i]) - logit(batch.scores[j]), 0.0)
    mean = np.bincount(owner, apart, len(batch)) / np.maximum(size, 1)
    squares = ((apart - mean[owner]) ** 2).sum()
    return math.sqrt(squares / max(2 * (size[usable] - 1).sum(), 1))


def _slabs(requests: int, columns: int, cells: int = 1 << 19) -> list[slice]:
    """Columns in runs whose item pairs with all others stay near `cells`, to bound memory."""
    step = max(cells // max(requests * columns, 1), 1)
    return [slice(start, min(start + step, columns)) for start in range(0, columns, step)]
