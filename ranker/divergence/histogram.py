"""A fixed histogram with logarithmic buckets: quantiles that merge over minutes, days and machines.

Bucket 0 holds values below 1e-6 (zero, in practice); bucket i >= 1 starts at 1e-6 * 2^((i - 1) / 4). The last
one, from 28 on, is open. A quantile is right to half a bucket: 9% of its value.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.bits import Array
from ranker.errors import UserError

SMALLEST = 1e-6
PER_OCTAVE = 4
BUCKETS = 101


def bucket_edges() -> Array:
    """Lower edges of the buckets, float64 [BUCKETS]; the first is 0.

    Example:
        >>> [round(float(x), 8) for x in bucket_edges()[[0, 1, 5, 9]]]
        [0.0, 1e-06, 2e-06, 4e-06]
    """
    return np.concatenate([[0.0], SMALLEST * 2.0 ** (np.arange(BUCKETS - 1) / PER_OCTAVE)])


def bucket_of(values: ArrayLike) -> Array:
    """Bucket of each absolute value, int64, same shape."""
    # cut to the middle of the first and of the last bucket, so that every index is one
    least, most = (SMALLEST * 2.0 ** (place / PER_OCTAVE) for place in (-0.5, BUCKETS - 1.5))
    magnitude = np.atleast_1d(np.abs(np.asarray(values, dtype=np.float64)))
    np.clip(magnitude, least, most, out=magnitude)
    magnitude /= SMALLEST
    np.log2(magnitude, out=magnitude)
    magnitude *= PER_OCTAVE
    magnitude += 1
    return magnitude.astype(np.int64).reshape(np.shape(values))


def count_buckets(values: Array, included: Array) -> Array:
    """Histogram each row of values [rows, n] where included [rows, n]; int64 [rows, BUCKETS]."""
    rows, every = len(values), bool(included.all())
    buckets = bucket_of(values if every else np.where(included, values, 0.0))
    buckets += np.arange(rows)[:, None] * BUCKETS
    flat = buckets.ravel() if every else buckets[included]
    return np.bincount(flat, minlength=rows * BUCKETS).reshape(rows, BUCKETS)


@dataclass(frozen=True, eq=False, repr=False)
class Histogram:
    """Counts of absolute values in the fixed buckets.

    Attributes:
        counts: int64 [BUCKETS].

    Example:
        >>> histogram = Histogram.of([0.0, 0.1, 0.1, 0.4])
        >>> histogram.n, round(histogram.quantile(0.5), 3)
        (4, 0.101)
        >>> histogram.merge(histogram).as_dict()
        {'0': 2, '67': 4, '75': 2}
    """

    counts: Array

    def __repr__(self) -> str:
        return f"<Histogram of {int(self.counts.sum()):,} requests>"

    @staticmethod
    def empty() -> "Histogram":
        """No values."""
        return Histogram(np.zeros(BUCKETS, dtype=np.int64))

    @staticmethod
    def of(values: ArrayLike) -> "Histogram":
        """Histogram of an array of any shape; the sign is dropped."""
        return Histogram(np.bincount(bucket_of(values).ravel(), minlength=BUCKETS))

    @property
    def n(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    def merge(self, other: "Histogram") -> "Histogram":
        """Histogram of both sets of values."""
        return Histogram(self.counts + other.counts)

    def quantile(self, q: float) -> float:
        """Value below which a share q of the values lies, to half a bucket; nan when empty."""
        return float(_quantiles(self.counts[None, :], q)[0])

    def as_dict(self) -> dict[str, int]:
        """Bucket -> count, empty buckets left out: small as JSON."""
        return {str(i): int(self.counts[i]) for i in np.flatnonzero(self.counts)}

    @staticmethod
    def from_dict(counts: dict[str, int]) -> "Histogram":
        """The inverse of `as_dict`."""
        histogram = Histogram.empty()
        for bucket, count in counts.items():
            if not 0 <= int(bucket) < BUCKETS or int(count) < 0:
                raise UserError(
                    f"a bucket must be 0..{BUCKETS - 1} with a count >= 0. Received: {bucket!r}: {count!r}"
                )
            histogram.counts[int(bucket)] += int(count)
        return histogram


def _quantiles(counts: Array, q: float) -> Array:
    if not 0 <= q <= 1:
        raise UserError(f"`q` must be in [0, 1]. Received: q={q!r}")
    cumulative = counts.cumsum(axis=1)
    total = cumulative[:, -1]
    bucket = np.argmax(cumulative >= np.maximum(np.ceil(q * total), 1)[:, None], axis=1)
    middle = np.where(bucket == 0, 0.0, bucket_edges()[bucket] * 2.0 ** (0.5 / PER_OCTAVE))
    return np.where(total > 0, middle, np.nan)
