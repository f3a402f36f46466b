"""The difference of two arms or two models on the same requests: what both share cancels, request by request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.intervals import Interval, paired_difference
from ranker.divergence.statistics import Statistic


@dataclass(frozen=True, eq=False, repr=False)
class PairedDifference:
    """Mean over requests of a - b, as two statistics that merge: where a is higher, and where b is.

    Attributes:
        higher: statistic of max(a - b, 0).
        lower: statistic of max(b - a, 0), of the same requests with the same weights.
        bound: the largest |a - b| that a request can have.

    Example:
        >>> difference = PairedDifference.of([1.0] + [0.0] * 1999, [0.0] * 2000)
        >>> [round(x, 4) for x in difference.interval()]
        [0.0005, -0.0016, 0.003]
        >>> [round(x, 4) for x in difference.reversed().interval()]
        [-0.0005, -0.003, 0.0016]
    """

    higher: Statistic
    lower: Statistic
    bound: float = 1.0

    def __repr__(self) -> str:
        return _short(self)

    @staticmethod
    def of(a: ArrayLike, b: ArrayLike, weights: ArrayLike = 1.0, *, bound: float = 1.0) -> "PairedDifference":
        """From both models' values [n] and the requests' weights [n]; requests where either is nan are left out."""
        difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
        return PairedDifference(
            Statistic.of(np.maximum(difference, 0.0), weights),
            Statistic.of(np.maximum(-difference, 0.0), weights),
            bound,
        )

    @property
    def n(self) -> int:
        """Requests."""
        return self.higher.n

    @property
    def value(self) -> float:
        """Mean of a minus mean of b; nan without requests."""
        return self.higher.value - self.lower.value

    @property
    def covariance(self) -> float:
        """Covariance of the two parts' means over the requests, float; nan for fewer than 2 requests."""
        n, up, down = self.n, self.higher, self.lower
        if n < 2:
            return float("nan")
        if up.weight <= 0:
            return 0.0
        # A request has one part only, so that the sum of their products is 0.
        products = up.value * down.value * up.weight_sq - up.value * down.cross - down.value * up.cross
        return n / (n - 1) * products / up.weight**2

    def interval(self, level: float = 0.95) -> Interval:
        """The difference with its interval, see `ranker.divergence.intervals.paired_difference`."""
        parts = [(part.value, part.standard_error) for part in (self.higher, self.lower)]
        return paired_difference(
            higher=parts[0],
            lower=parts[1],
            covariance=self.covariance,
            n=self.n,
            bound=self.bound,
            level=level,
        )

    def reversed(self) -> "PairedDifference":
        """The same with a and b exchanged."""
        return PairedDifference(self.lower, self.higher, self.bound)

    def merge(self, other: "PairedDifference") -> "PairedDifference":
        """Both sets of requests together; associative and commutative up to float rounding."""
        return PairedDifference(self.higher.merge(other.higher), self.lower.merge(other.lower), self.bound)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {"higher": self.higher.as_dict(), "lower": self.lower.as_dict(), "bound": self.bound}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "PairedDifference":
        """The inverse of `as_dict`."""
        higher, lower = (Statistic.from_dict(data[part]) for part in ("higher", "lower"))
        return PairedDifference(higher, lower, data["bound"])


@dataclass(frozen=True, eq=False, repr=False)
class RatioDifference:
    """R_a - R_b of two ratios of sums over the same requests, where each model has weights of its own.

    R is sum x / sum y over requests. Of a relative prediction difference y is the expected prediction, which differs between
    the models, so that the difference is no mean over requests. With each request's mean of both weights it is: the
    width of that paired difference's interval is taken around R_a - R_b. Exchanging the models changes the sign only. In
    simulations with independent weights the coverage at 95% is 92% or more from 300 requests on; with fewer, values of a
    long tail (a swap in one request of ten) are covered less often, as by every interval of a mean.

    Attributes:
        a, b: statistics of both ratios, of the same requests.
        paired: difference of the requests' ratios under the mean weights.

    Example:
        >>> difference = RatioDifference.of([0.2, 0.6, 0.3], [1.0, 2.0, 1.0], [0.1, 0.3, 0.1], [1.0, 2.0, 1.0])
        >>> round(difference.value, 3), round(difference.reversed().value, 3)
        (0.15, -0.15)
    """

    a: Statistic
    b: Statistic
    paired: PairedDifference

    def __repr__(self) -> str:
        return _short(self)

    @staticmethod
    def of(
        x_a: ArrayLike, y_a: ArrayLike, x_b: ArrayLike, y_b: ArrayLike, *, bound: float = 1.0
    ) -> "RatioDifference":
        """From both models' numerators and weights, [n] each; requests where any is nan are left out.

        Args:
            x_a: numerators of the first model.
            y_a: its weights, >= 0.
            x_b: numerators of the second model.
            y_b: its weights, >= 0.
            bound: the largest difference that one request can have.
        """
        columns = np.stack([np.asarray(column, dtype=np.float64) for column in (x_a, y_a, x_b, y_b)])
        columns = columns[:, ~np.isnan(columns).any(axis=0)]
        weights = columns[1::2]
        ratios = np.divide(columns[::2], weights, out=np.zeros_like(weights), where=weights > 0)
        return RatioDifference(
            Statistic.of(ratios[0], weights[0]),
            Statistic.of(ratios[1], weights[1]),
            PairedDifference.of(ratios[0], ratios[1], weights.mean(axis=0), bound=bound),
        )

    @property
    def n(self) -> int:
        """Requests."""
        return self.a.n

    @property
    def value(self) -> float:
        """R_a - R_b; nan without requests."""
        return self.a.value - self.b.value

    def interval(self, level: float = 0.95) -> Interval:
        """The difference with its interval, within +-bound."""
        value, low, high = self.paired.interval(level)
        shift, bound = self.value - value, self.paired.bound
        return Interval(self.value, max(low + shift, -bound), min(high + shift, bound))

    def reversed(self) -> "RatioDifference":
        """The same with a and b exchanged."""
        return RatioDifference(self.b, self.a, self.paired.reversed())

    def merge(self, other: "RatioDifference") -> "RatioDifference":
        """Both sets of requests together; associative and commutative up to float rounding."""
        return RatioDifference(self.a.merge(other.a), self.b.merge(other.b), self.paired.merge(other.paired))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {"a": self.a.as_dict(), "b": self.b.as_dict(), "paired": self.paired.as_dict()}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "RatioDifference":
        """The inverse of `as_dict`."""
        a, b = (Statistic.from_dict(data[side]) for side in ("a", "b"))
        return RatioDifference(a, b, PairedDifference.from_dict(data["paired"]))


def _short(difference: PairedDifference | RatioDifference) -> str:
    value, low, high = difference.interval()
    name = type(difference).__name__
    return f"<{name}: {value:.4g} (95%: {low:.4g} to {high:.4g}), {difference.n:,} requests>"
