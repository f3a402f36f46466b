"""Which features changed between two logs, from their `statistics.json`.

A difference between replicas that were trained on different logs may be the logs' and not the replicas'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PSI_LIMIT = 0.25
"""A population stability index above this is called a large shift (Siddiqi, Credit Risk Scorecards, 2006)."""
MISSING_LIMIT = 0.05
_BINS = 10
_FLOOR = 1e-4  # an empty bin counts as this share, or one value would make the index infinite


@dataclass(frozen=True)
class Drift:
    """One feature's change.

    Attributes:
        feature: its name.
        measure: `psi` (population stability index of its values, >= 0, 0 for equal distributions),
            `missing` (change of the share of missing values, -1 to 1), or `kind` (a feature came, went or
            changed its kind; the value is 1).
        value: the measure.
        limit: what it may be, in magnitude.
    """

    feature: str
    measure: str
    value: float
    limit: float

    @property
    def exceeded(self) -> bool:
        """Whether the change is larger than the limit."""
        return abs(self.value) > self.limit

    def __str__(self) -> str:
        """One line for people."""
        if self.measure == "kind":
            return f"{self.feature}: is only in one of the two logs, or changed its kind"
        name = "population stability index" if self.measure == "psi" else "change of the missing share"
        return f"{self.feature}: {name} {self.value:.3f} (limit {self.limit:g})"


def drift(
    old: Mapping[str, Any], new: Mapping[str, Any], psi: float = PSI_LIMIT, missing: float = MISSING_LIMIT
) -> list[Drift]:
    """Compares two statistics.

    Args:
        old: the earlier `statistics.json`, parsed.
        new: the later one.
        psi: limit of the population stability index.
        missing: limit of the change of the missing share.

    Returns:
        All measures of all features, the largest relative to its limit first. Numbers are compared over ten bins
        between the earlier quantiles, categories over the most frequent tokens of both and the rest.
    """
    before, after = old["features"], new["features"]
    drifts = []
    for name in dict.fromkeys([*before, *after]):
        if name not in before or name not in after or before[name]["kind"] != after[name]["kind"]:
            drifts.append(Drift(name, "kind", 1.0, 0.0))
            continue
        shares = _numeric if before[name]["kind"] == "numeric" else _categorical
        drifts.append(Drift(name, "psi", _psi(*shares(before[name], after[name])), psi))
        change = _missing_share(after[name]) - _missing_share(before[name])
        drifts.append(Drift(name, "missing", change, missing))
    return sorted(drifts, key=lambda measure: -abs(measure.value) / max(measure.limit, 1e-12))


def _numeric(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    if not old["quantiles"] or not new["quantiles"]:
        gone = np.array([float(bool(old["quantiles"])), float(bool(new["quantiles"]))])
        return np.array([gone[0], 1 - gone[0]]), np.array([gone[1], 1 - gone[1]])
    cuts = np.unique(np.asarray(old["quantiles"], np.float64)[:: 100 // _BINS][1:-1])
    return _bin_shares(old["quantiles"], cuts), _bin_shares(new["quantiles"], cuts)


def _bin_shares(quantiles: Sequence[float], cuts: np.ndarray) -> np.ndarray:
    """Shares of the values below the first cut, between cuts, and above the last, from 101 quantiles."""
    values, levels = np.asarray(quantiles, np.float64), np.linspace(0, 1, len(quantiles))
    # Equal neighbouring quantiles are a jump of the distribution function: its height lies at or below the value.
    last = np.append(values[1:] != values[:-1], True)
    below = np.interp(cuts, values[last], levels[last], left=0.0, right=1.0)
    below = np.where(cuts < values[0], 0.0, below)
    return np.diff(np.concatenate([[0.0], below, [1.0]]))


def _categorical(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    tops = [dict(map(tuple, side["top"])) for side in (old, new)]
    shared = [token for token in dict.fromkeys([*tops[0], *tops[1]]) if _known(token, tops, (old, new))]
    shares = []
    for top, side in zip(tops, (old, new), strict=True):
        total = max(side["count"], sum(top.values()), 1)
        named = [top.get(token, 0) / total for token in shared]
        shares.append(np.array([*named, max(0.0, 1 - sum(named))]))
    return shares[0], shares[1]


def _known(
    token: str, tops: list[dict[str, int]], sides: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> bool:
    """Whether a token's count is known on both sides: it is listed, or all tokens are and it has none."""
    return all(token in top or len(top) >= side["cardinality"] for top, side in zip(tops, sides, strict=True))


def _psi(old: np.ndarray, new: np.ndarray) -> float:
    a, b = np.maximum(old, _FLOOR), np.maximum(new, _FLOOR)
    return float(np.sum((b - a) * np.log(b / a)))


def _missing_share(feature: Mapping[str, Any]) -> float:
    return feature["missing"] / max(feature["count"] + feature["missing"], 1)
