"""The outcome of comparing replicas: statistics by pair, by replica and over all; and coverage."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ranker.divergence.bits import Array
from ranker.divergence.catalogue import measure_interval
from ranker.divergence.statistics import Statistic
from ranker.errors import UserError

PairName = tuple[str, str]
Statistics = dict[str, Statistic]
Key = TypeVar("Key")


@dataclass(frozen=True)
class Coverage:
    """How much of what was asked could be compared. Counts, so that they merge.

    Attributes:
        requests: requests asked.
        answered: replica -> requests it answered at all.
        coverage_mismatch: replica -> requests it answered with an item missing or duplicated.
        invalid_score: replica -> scores that are no probability.
        paired: pair -> requests that both replicas answered well.
    """

    requests: int = 0
    answered: dict[str, int] = field(default_factory=dict)
    coverage_mismatch: dict[str, int] = field(default_factory=dict)
    invalid_score: dict[str, int] = field(default_factory=dict)
    paired: dict[PairName, int] = field(default_factory=dict)

    def merge(self, other: "Coverage") -> "Coverage":
        """Counts of both."""
        return Coverage(
            self.requests + other.requests,
            _added(self.answered, other.answered),
            _added(self.coverage_mismatch, other.coverage_mismatch),
            _added(self.invalid_score, other.invalid_score),
            _added(self.paired, other.paired),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Statistics of every measure. Merge minutes to hours, machines to fleets: the result is that of one go.

    Attributes:
        pairs: (a, b) -> label -> statistic.
        replicas: replica -> label -> statistic of its mean over its pairs (`bias`: against the others) and,
            with three live replicas or more, `component`: its own noise variance (log-odds squared).
        means: label -> statistic of the mean over pairs, a request at a time (`overall` adds `bias`).
        coverage: counts.
    """

    pairs: dict[PairName, Statistics]
    replicas: dict[str, Statistics]
    means: Statistics
    coverage: Coverage

    def __repr__(self) -> str:
        swap = f", top1_swap {self.means['top1_swap']!r}" if "top1_swap" in self.means else ""
        return f"<Comparison of {', '.join(self.replicas) or 'nothing'}: {self.coverage.requests:,} requests{swap}>"

    @staticmethod
    def empty() -> "Comparison":
        """Nothing compared: the neutral element of `merge`."""
        return Comparison({}, {}, {}, Coverage())

    @property
    def overall(self) -> Statistics:
        """Label -> the mean over pairs; for the signed `bias`, where pairs cancel, the widest pair."""
        biases = (s["bias"] for s in self.pairs.values() if "bias" in s)
        widest = max(biases, key=_magnitude, default=Statistic.empty())
        return {label: widest if label == "bias" else statistic for label, statistic in self.means.items()}

    def matrix(self, label: str) -> Array:
        """Values by pair, float64 [M, M] in the order of `replicas`; diagonal nan, `bias` antisymmetric."""
        names = list(self.replicas)
        values = np.full((len(names), len(names)), np.nan)
        for (a, b), statistics in self.pairs.items():
            i, j = names.index(a), names.index(b)
            values[i, j] = _get(statistics, label).value
            values[j, i] = -values[i, j] if label == "bias" else values[i, j]
        return values

    def spread(self, label: str) -> tuple[float, float]:
        """Smallest and largest value over pairs: an interval is conditional on these replicas."""
        values = [_get(statistics, label).value for statistics in self.pairs.values()]
        defined = [value for value in values if not np.isnan(value)]
        return (min(defined), max(defined)) if defined else (float("nan"), float("nan"))

    def summary(self, level: float = 0.95) -> dict[str, dict[str, float]]:
        """Label -> {value, low, high, min, max}: overall with its interval, and the range over pairs."""
        result = {}
        for label, statistic in self.overall.items():
            interval, (least, most) = measure_interval(label, statistic, level), self.spread(label)
            result[label] = {**interval._asdict(), "min": least, "max": most}
        return result

    def merge(self, other: "Comparison") -> "Comparison":
        """Both sets of requests together; replicas and pairs may differ. Associative and commutative."""
        return Comparison(
            _merged(self.pairs, other.pairs),
            _merged(self.replicas, other.replicas),
            _merged({"": self.means}, {"": other.means})[""],
            self.coverage.merge(other.coverage),
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        coverage = self.coverage
        return {
            "pairs": [{"a": a, "b": b, "measures": _rows(s)} for (a, b), s in self.pairs.items()],
            "replicas": [{"replica": name, "measures": _rows(s)} for name, s in self.replicas.items()],
            "means": _rows(self.means),
            "coverage": {
                "requests": coverage.requests,
                "answered": coverage.answered,
                "coverage_mismatch": coverage.coverage_mismatch,
                "invalid_score": coverage.invalid_score,
                "paired": [{"a": a, "b": b, "requests": n} for (a, b), n in coverage.paired.items()],
            },
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Comparison":
        """The inverse of `as_dict`."""
        counts = dict(data["coverage"])
        counts["paired"] = {(row["a"], row["b"]): row["requests"] for row in counts["paired"]}
        return Comparison(
            {(row["a"], row["b"]): _statistics(row["measures"]) for row in data["pairs"]},
            {row["replica"]: _statistics(row["measures"]) for row in data["replicas"]},
            _statistics(data["means"]),
            Coverage(**counts),
        )


def merge(comparisons: Iterable[Comparison]) -> Comparison:
    """All of them together; nothing gives the empty comparison."""
    result = Comparison.empty()
    for comparison in comparisons:
        result = result.merge(comparison)
    return result


def _get(statistics: Statistics, label: str) -> Statistic:
    if label not in statistics:
        raise UserError(f"the measure must be one of {', '.join(statistics)}. Received: {label!r}")
    return statistics[label]


def _magnitude(statistic: Statistic) -> float:
    return abs(statistic.value) if statistic.n else -1.0


def _rows(statistics: Statistics) -> dict[str, Any]:
    return {label: statistic.as_dict() for label, statistic in statistics.items()}


def _statistics(rows: Mapping[str, Any]) -> Statistics:
    return {label: Statistic.from_dict(row) for label, row in rows.items()}


def _added(a: dict[Key, int], b: dict[Key, int]) -> dict[Key, int]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in {**a, **b}}


def _merged(a: dict[Key, Statistics], b: dict[Key, Statistics]) -> dict[Key, Statistics]:
    result = {key: dict(statistics) for key, statistics in a.items()}
    for key, statistics in b.items():
        merged = result.setdefault(key, {})
        for label, statistic in statistics.items():
            merged[label] = merged[label].merge(statistic) if label in merged else statistic
    return result
