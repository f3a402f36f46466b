"""Packs statistics into bytes and back, so that a month of rounds fits in a few hundred megabytes.

A cell holds the six sums of each measure as float64 (they stay exact) and, where kept, the histograms' filled
buckets. Many sums repeat (the weights of all measures over examples are one number), which deflate finds.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from ranker.divergence import Histogram, Statistic
from ranker.divergence.histogram import BUCKETS
from ranker.divergence.statistics import COLUMNS
from serving.monitor.requests.probe import Array

_LEVEL = 1  # deflate: higher levels find no more repeats of eight bytes, and take longer


def pack_sums(sums: Array) -> bytes:
    """Sums [measures, 6] as bytes."""
    return zlib.compress(np.ascontiguousarray(sums.T, dtype="<f8").tobytes(), _LEVEL)


def unpack_sums(data: Sequence[bytes]) -> Array:
    """The sums of several cells of one series, at least one, float64 [cells, measures, 6]."""
    raw = b"".join(map(zlib.decompress, data))
    return np.frombuffer(raw, "<f8").reshape(len(data), len(COLUMNS), -1).transpose(0, 2, 1)


def fleet_sums(sums: Mapping[str, Array]) -> Array:
    """Label -> sums [M, 6] of a fleet's replicas as rows [labels M, 6] of small entropy.

    A measure is kept with one weight for all of its requests, with the same value and standard error: 1 where it is of
    requests, else 2, so that zeros of a mean over examples are not taken for events that were never seen. Two of the six
    sums differ from replica to replica, and of these the 24 bits of a float32 are kept: half of their bytes are zeros,
    which deflate finds.
    """
    result = []
    for rows in sums.values():
        n, total, total_sq, weight, weight_sq, cross = rows.T
        value = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
        squares = np.maximum(total_sq - 2 * value * cross + value**2 * weight_sq, 0.0)
        scale = np.divide(n, weight, out=np.zeros_like(total), where=weight > 0)
        each = 1.0 if (weight == n).all() else 2.0
        mean = _to_float32_bits(each * n * value)
        second = _to_float32_bits(each**2 * (squares * scale**2 + n * value**2))
        result.append(np.stack([n, mean, second, each * n, each**2 * n, each * mean], axis=1))
    return np.concatenate(result)


def _to_float32_bits(values: Array) -> Array:
    return values.astype(np.float32).astype(np.float64)


def pack_histograms(counts: Array) -> bytes:
    """Bucket counts [measures, BUCKETS] as bytes: the steps between filled buckets, then their counts."""
    flat = counts.ravel()
    places = np.flatnonzero(flat)
    steps = np.diff(places, prepend=0)
    return zlib.compress(_to_byte_planes(steps, "<u2") + _to_byte_planes(flat[places], "<u4"), _LEVEL)


def unpack_histograms(data: bytes | None, measures: int) -> Array:
    """Bucket counts int64 [measures, BUCKETS]; zeros where none were kept."""
    flat = np.zeros(measures * BUCKETS, dtype=np.int64)
    if data:
        raw = zlib.decompress(data)
        filled = len(raw) // 6
        steps = _from_byte_planes(raw[: 2 * filled], "<u2")
        flat[np.cumsum(steps, dtype=np.int64)] = _from_byte_planes(raw[2 * filled :], "<u4")
    return flat.reshape(measures, BUCKETS)


def _to_byte_planes(values: Array, dtype: str) -> bytes:
    """Integers as bytes, all low bytes first: the high ones are zeros in a row, which deflate packs to nothing."""
    return values.astype(dtype).view(np.uint8).reshape(len(values), -1).T.tobytes()


def _from_byte_planes(data: bytes, dtype: str) -> Array:
    size = np.dtype(dtype).itemsize
    return np.frombuffer(data, np.uint8).reshape(size, -1).T.copy().view(dtype).ravel()


def to_arrays(statistics: Mapping[str, Statistic]) -> tuple[Array, Array]:
    """Sums [measures, 6] and bucket counts [measures, BUCKETS], in the mapping's order."""
    sums = np.array(
        [[getattr(s, column) for column in COLUMNS] for s in statistics.values()], dtype=np.float64
    )
    return sums.reshape(-1, len(COLUMNS)), np.array(
        [s.histogram.counts for s in statistics.values()]
    ).reshape(-1, BUCKETS)


def to_statistic(sums: Array, counts: Array | None = None) -> Statistic:
    """One measure's sums [6] and bucket counts [BUCKETS] (None: not kept) as a statistic."""
    return Statistic.from_row(sums, Histogram(counts) if counts is not None else Histogram.empty())


def one_round(sums: Array, rounds: Array | int) -> Array:
    """Sums over repeated rounds of the same frozen requests as those of one round.

    Asking the same requests again brings no new requests: without this, an hour of rounds would look like 60 times
    as many requests as there are, and its interval would be 8 times too narrow.

    Args:
        sums: [..., 6].
        rounds: [...] or one number, at least 1.

    Example:
        >>> one_round(np.array([400.0, 40.0, 40.0, 400.0, 400.0, 40.0]), 2).tolist()
        [200.0, 20.0, 20.0, 200.0, 200.0, 20.0]
    """
    n = sums[..., :1]
    requests = np.maximum(np.rint(n / np.asarray(rounds)[..., None]), np.minimum(n, 1))
    return np.divide(sums * requests, n, out=np.zeros_like(sums), where=n > 0)
