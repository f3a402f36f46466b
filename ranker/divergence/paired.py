"""The difference of two arms or two models on the same requests: what both share cancels, request by request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.intervals import Interval, paired_difference
from ranker.divergence.statistics import Statistic


@dataclass(frozen=True, eq=False)
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
        return paired_difference(parts[0], parts[1], self.covariance, self.n, self.bound, level)

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
