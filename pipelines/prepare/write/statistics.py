"""Statistics of numeric features that do not depend on how rows were grouped on their way.

Sums are taken over the fixed blocks of the base order and added up exactly rounded (`math.fsum`); quantiles come
from a table of distinct values. Any number of workers and any block size give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ranker.layout import BLOCK_ROWS

QUANTILES = 101
_FINE_QUANTILES = 1001
MAX_DISTINCT = 1 << 16


@dataclass
class Moments:
    """Counts, means and squared deviations of consecutive blocks of values."""

    counts: list[int] = field(default_factory=list)
    means: list[float] = field(default_factory=list)
    squares: list[float] = field(default_factory=list)

    def add(self, values: np.ndarray) -> None:
        """Adds float64 values in blocks of `BLOCK_ROWS`; NaN is left out."""
        whole = len(values) - len(values) % BLOCK_ROWS
        for blocks in (values[:whole].reshape(-1, BLOCK_ROWS), values[whole:].reshape(1, -1)):
            is_present = ~np.isnan(blocks)
            counts = is_present.sum(axis=1)
            means = np.where(is_present, blocks, 0.0).sum(axis=1) / np.maximum(counts, 1)
            squares = np.square(np.where(is_present, blocks - means[:, np.newaxis], 0.0)).sum(axis=1)
            self.counts += counts.tolist()
            self.means += means.tolist()
            self.squares += squares.tolist()

    def result(self) -> tuple[int, float, float]:
        """(count, mean, population standard deviation); zeros without values (Chan et al., 1983)."""
        total = sum(self.counts)
        if not total:
            return 0, 0.0, 0.0
        mean = math.fsum(n * m for n, m in zip(self.counts, self.means, strict=True)) / total
        between = math.fsum(n * (m - mean) ** 2 for n, m in zip(self.counts, self.means, strict=True))
        return total, mean, math.sqrt((math.fsum(self.squares) + between) / total)


@dataclass
class Distribution:
    """Distinct float32 values and their counts.

    Beyond `limit` distinct values the last bits of the mantissa are dropped, as few as suffice: with the
    default limit a quantile is then right to about one part in 10,000.
    """

    limit: int = MAX_DISTINCT
    dropped: int = 0
    keys: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint32))
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, values: np.ndarray) -> None:
        """Adds float32 values; NaN is left out."""
        values = values[~np.isnan(values)].astype(np.float32) + np.float32(0)  # -0.0 is 0.0
        bits = values.view(np.uint32)
        # Order of the unsigned keys is the order of the numbers.
        keys = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
        keys, counts = np.unique(keys >> np.uint32(self.dropped), return_counts=True)
        self._merge(keys, counts.astype(np.int64))

    def merge(self, distribution: Distribution) -> None:
        """Adds another distribution."""
        dropped = max(self.dropped, distribution.dropped)
        self._drop(dropped)
        keys, counts = _group(
            distribution.keys >> np.uint32(dropped - distribution.dropped), distribution.counts
        )
        self._merge(keys, counts)

    def quantiles(self) -> list[float]:
        """101 quantiles, 0% to 100%, interpolated linearly; empty without values."""
        if not len(self.keys):
            return []
        values = self._values()
        ends = np.cumsum(self.counts)
        at = np.linspace(0, 1, QUANTILES) * (ends[-1] - 1)
        low = np.floor(at).astype(np.int64)
        below = values[np.searchsorted(ends, low, side="right")]
        above = values[np.searchsorted(ends, np.minimum(low + 1, ends[-1] - 1), side="right")]
        return [float(value) for value in below + (at - low) * (above - below)]

    def distinct_quantiles(self) -> list[float]:
        """The distinct ones of 1,001 values, 0% to 100%, at most 101 of them, at equal distances in their order.

        Of a number that is 0 in nine rows of ten, 91 of 101 percentiles are 0; these tell the others apart.
        """
        if not len(self.keys):
            return []
        ends = np.cumsum(self.counts)
        ranks = np.round(np.linspace(0, 1, _FINE_QUANTILES) * (ends[-1] - 1)).astype(np.int64)
        distinct = np.unique(self._values()[np.searchsorted(ends, ranks, side="right")])
        places = np.linspace(0, len(distinct) - 1, min(QUANTILES, len(distinct)))
        return [float(value) for value in distinct[np.round(places).astype(np.int64)]]

    def _merge(self, keys: np.ndarray, counts: np.ndarray) -> None:
        self.keys, self.counts = _group(np.append(self.keys, keys), np.append(self.counts, counts))
        while len(self.keys) > self.limit:
            self._drop(self.dropped + 1)

    def _drop(self, dropped: int) -> None:
        if dropped > self.dropped:
            self.keys, self.counts = _group(self.keys >> np.uint32(dropped - self.dropped), self.counts)
            self.dropped = dropped

    def _values(self) -> np.ndarray:
        keys = self.keys.astype(np.uint32) << np.uint32(self.dropped)
        bits = np.where(keys >> 31, keys & np.uint32(0x7FFFFFFF), ~keys)
        return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def _group(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if len(keys) else np.zeros(0, np.int64)
    return keys[starts], np.add.reduceat(counts, starts) if len(starts) else counts


@dataclass
class NumericStatistics:
    """One numeric feature of one shard, or of several merged in their order."""

    rows: int = 0
    low: float = math.inf
    high: float = -math.inf
    plain: Moments = field(default_factory=Moments)
    logarithm: Moments = field(default_factory=Moments)
    distribution: Distribution = field(default_factory=Distribution)

    def add(self, values: np.ndarray) -> None:
        """Adds consecutive rows, float32 with NaN for missing; all but the last call bring whole blocks."""
        exact = values.astype(np.float64)
        self.rows += len(values)
        if not np.isnan(exact).all():
            self.low, self.high = (
                min(self.low, float(np.nanmin(exact))),
                max(self.high, float(np.nanmax(exact))),
            )
        self.plain.add(exact)
        self.logarithm.add(np.sign(exact) * np.log1p(np.abs(exact)))
        self.distribution.add(values)

    def result(self) -> dict[str, Any]:
        """The feature's entry in `statistics.json`."""
        count, mean, std = self.plain.result()
        _, log_mean, log_std = self.logarithm.result()
        quantiles, distinct = self.distribution.quantiles(), self.distribution.distinct_quantiles()
        for values in (quantiles, distinct):
            if values:
                values[0], values[-1] = self.low, self.high
        return {
            "kind": "numeric",
            "count": count,
            "missing": self.rows - count,
            "mean": mean,
            "std": std,
            "log1p_mean": log_mean,
            "log1p_std": log_std,
            "min": self.low if count else None,
            "max": self.high if count else None,
            "quantiles": quantiles,
            "distinct_quantiles": distinct,
        }


def merge(parts: Sequence[NumericStatistics]) -> NumericStatistics:
    """Puts the shards' statistics together, in the shards' order."""
    whole = NumericStatistics()
    for part in parts:
        whole.rows += part.rows
        whole.low, whole.high = min(whole.low, part.low), max(whole.high, part.high)
        for moments, part_moments in ((whole.plain, part.plain), (whole.logarithm, part.logarithm)):
            moments.counts += part_moments.counts
            moments.means += part_moments.means
            moments.squares += part_moments.squares
        whole.distribution.merge(part.distribution)
    return whole
