"""What is stored of a measure: sums over requests that merge, and give values and intervals.

A measure is a weighted mean of its requests' values v_n: weight 1 (swaps), the number of candidates (means
over examples) or the expected prediction (ratios of means). With x_n = w_n v_n and y_n = w_n its value is
sum x / sum y, and six sums are enough for value and interval, over any roll-up.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ranker.divergence import intervals
from ranker.divergence.bits import Array
from ranker.divergence.histogram import Histogram
from ranker.divergence.intervals import Interval

COLUMNS = ("n", "total", "total_sq", "weight", "weight_sq", "cross")
"""The sums, in the order of a row of `sum_rows`."""


@dataclass(frozen=True, eq=False, repr=False)
class Statistic:
    """Sufficient statistics of one measure over requests.

    Attributes:
        n: requests.
        total: sum of x_n = weight times value.
        total_sq: sum of x_n squared.
        weight: sum of the weights y_n; n for a request-level measure.
        weight_sq: sum of y_n squared.
        cross: sum of x_n y_n.
        histogram: of the requests' values v_n, for quantiles.

    Example:
        >>> swaps = Statistic.of([0.0, 1.0, 0.0, 0.0])
        >>> swaps.value, [round(x, 3) for x in swaps.interval()[1:]]
        (0.25, [0.046, 0.699])
        >>> swaps.merge(swaps).n
        8
    """

    n: int
    total: float
    total_sq: float
    weight: float
    weight_sq: float
    cross: float
    histogram: Histogram

    def __repr__(self) -> str:
        value, low, high = self.interval()
        return f"<Statistic: {value:.4g} (95%: {low:.4g} to {high:.4g}), {self.n:,} requests>"

    @staticmethod
    def empty() -> "Statistic":
        """No requests: the neutral element of `merge`."""
        return Statistic(0, 0.0, 0.0, 0.0, 0.0, 0.0, Histogram.empty())

    @staticmethod
    def of(values: Any, weights: Any = 1.0) -> "Statistic":
        """From the requests' values [n] and weights [n] (default 1); nan values are left out."""
        v = np.atleast_1d(np.asarray(values, dtype=np.float64))
        w = np.broadcast_to(np.asarray(weights, dtype=np.float64), v.shape)
        included = ~np.isnan(v)
        v, w = v[included], w[included]
        row = sum_rows((v * w)[None, :], w[None, :], np.ones((1, len(v)), dtype=bool))[0]
        return Statistic.from_row(row, Histogram.of(v))

    @staticmethod
    def from_row(row: Array, histogram: Histogram) -> "Statistic":
        """From one row of `sum_rows`."""
        n, total, total_sq, weight, weight_sq, cross = row.tolist()
        return Statistic(int(n), total, total_sq, weight, weight_sq, cross, histogram)

    @property
    def value(self) -> float:
        """The measure: weighted mean over requests; nan without requests (0 where all weights are 0)."""
        if self.n == 0:
            return float("nan")
        return self.total / self.weight if self.weight else 0.0

    @property
    def standard_error(self) -> float:
        """Standard error of the value, the request as sampling unit; nan for fewer than 2 requests."""
        return intervals.ratio_standard_error(
            n=self.n,
            total=self.total,
            total_sq=self.total_sq,
            weight=self.weight,
            weight_sq=self.weight_sq,
            cross=self.cross,
        )

    @property
    def zero_or_one(self) -> bool:
        """Every request's value is 0 or 1 and its weight 1: only then do the sums equal those of squares."""
        return self.weight == self.weight_sq == self.n and self.total == self.total_sq == self.cross

    def interval(self, level: float = 0.95) -> Interval:
        """Value with its confidence interval at `level`.

        Wilson where every request's value is 0 or 1 (so that "never seen" is not taken for "never"), else
        Student's at request level, by the delta method for weighted means. Without a value: (nan, nan, nan);
        with one request of another value no spread is known: (value, -inf, inf).
        """
        if self.n and self.zero_or_one:
            return intervals.wilson(self.total, self.n, level)
        return intervals.normal(self.value, self.standard_error, level, self.n)

    def quantile(self, q: float) -> float:
        """Quantile of the requests' absolute values, to half a bucket (9%)."""
        return self.histogram.quantile(q)

    def merge(self, other: "Statistic") -> "Statistic":
        """Statistics of both sets of requests together; associative and commutative up to float rounding."""
        sums = np.array([[getattr(s, c) for c in COLUMNS] for s in (self, other)]).sum(axis=0)
        return Statistic.from_row(sums, self.histogram.merge(other.histogram))

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, one a database column, and the histogram as a small dict (JSON)."""
        return {**{c: getattr(self, c) for c in COLUMNS}, "histogram": self.histogram.as_dict()}

    @staticmethod
    def from_dict(row: dict[str, Any]) -> "Statistic":
        """The inverse of `as_dict`; other keys are ignored."""
        return Statistic.from_row(np.array([row[c] for c in COLUMNS]), Histogram.from_dict(row["histogram"]))


def sum_rows(x: Array, y: Array, included: Array) -> Array:
    """The six sums of each row of x, y [rows, n], both 0 where not included [rows, n]; float64 [rows, 6]."""

    def products(a: Array, b: Array) -> Array:
        return np.einsum("ij,ij->i", a, b)

    n, total, weight = included.sum(axis=1), x.sum(axis=1), y.sum(axis=1)
    return np.stack(
        [n, total, products(x, x), weight, products(y, y), products(x, y)], axis=1, dtype=np.float64
    )
