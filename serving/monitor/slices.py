"""Parts of the requests by a feature's value: by the request for context features, by the candidate for item features.

The frozen probe alone decides where a feature is cut. So every round has the same parts, and so has live traffic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ranker.errors import UserError
from ranker.text import texts
from serving.monitor.requests import Array, ProbeSet

MOST_VALUES = 5
"""Values kept apart per feature, the most frequent ones; the rest is `other`."""
OTHER, MISSING = "(other)", "(missing)"


@dataclass(frozen=True, eq=False)
class Slice:
    """Rows whose feature has one value (or lies in one range).

    Attributes:
        feature: its name.
        value: the value as text, `(other)` or `(missing)`.
        by_request: it is the same for all candidates of a request.
        rows: bool [R].
        requests: bool [N]; requests with such a row.
    """

    feature: str
    value: str
    by_request: bool
    rows: Array
    requests: Array


@dataclass(frozen=True)
class Cut:
    """How a feature's values fall into parts.

    Attributes:
        feature: its name.
        by_request: it is the same for all candidates of a request.
        numeric: the values are numbers.
        names: the texts kept apart.
        levels: the numbers kept apart, where there are few.
        edges: of the ranges of numbers, where there are many; the last one is included.
    """

    feature: str
    by_request: bool
    numeric: bool
    names: tuple[str, ...] = ()
    levels: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()

    def parts(self, values: Sequence[Any] | Array) -> Array:
        """The part of each value, text (object) [R]."""
        if not self.numeric:
            names = _text_values(values)
            return np.where(np.isin(names, [*self.names, MISSING]), names, OTHER)
        numbers = np.array([_as_number(value) for value in values], dtype=np.float32)
        parts = np.full(len(numbers), OTHER, dtype=object)
        parts[np.isnan(numbers)] = MISSING
        for level in self.levels:
            parts[numbers == np.float32(level)] = f"{level:g}"
        for low, high in pairwise(self.edges):
            last = high == self.edges[-1]
            inside = (numbers >= low) & ((numbers <= high) if last else (numbers < high))
            parts[inside] = f"{low:g} to {high:g}" if last else f"{low:g} to under {high:g}"
        return parts

    def slices(self, parts: Array, owner: Array, requests: int) -> Iterator[Slice]:
        """One slice a part.

        Args:
            parts: of each row [R].
            owner: request of each row [R].
            requests: how many there are.
        """
        for part in sorted(set(parts.tolist())):
            rows = parts == part
            is_in_part = np.zeros(requests, dtype=bool)
            is_in_part[owner[rows]] = True
            yield Slice(self.feature, part, self.by_request, rows, is_in_part)


def cuts(probe: ProbeSet, features: Sequence[str]) -> tuple[Cut, ...]:
    """How each feature is cut.

    Raises:
        UserError: the probe has no such feature.
    """
    result = []
    for feature in features:
        if feature not in probe.columns:
            raise UserError(
                f"`monitor.slices` must name features of the probe ({', '.join(probe.columns)}). Received: {feature!r}"
            )
        values = probe.columns[feature]
        numeric = values.dtype.kind == "f"
        if not numeric:
            values = _text_values(values)
        first = values[probe.offsets[:-1]][probe.owner]
        by_request = bool(
            ((values == first) | (values != values) & (first != first)).all()
        )  # nan is not itself
        bounds = _ranges(values) if numeric else {"names": _frequent(values)}
        result.append(Cut(feature, by_request, numeric, **bounds))
    return tuple(result)


def slices(probe: ProbeSet, features: Sequence[str]) -> tuple[Slice, ...]:
    """The probe's own parts by each feature.

    Raises:
        UserError: the probe has no such feature.
    """
    return tuple(
        part
        for cut in cuts(probe, features)
        for part in cut.slices(cut.parts(probe.columns[cut.feature]), probe.owner, len(probe))
    )


def _text_values(values: Iterable[Any]) -> Array:
    names = texts(values)
    return np.where(names == "", MISSING, names)


def _as_number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _frequent(texts: Array) -> tuple[str, ...]:
    names, counts = np.unique(texts, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    return tuple(name for name in names[frequent].tolist() if name != MISSING)


def _ranges(values: Array) -> dict[str, Any]:
    numbers = values[~np.isnan(values)]
    levels = np.unique(numbers)
    if len(levels) <= MOST_VALUES:
        return {"levels": tuple(levels.tolist())}
    return {"edges": tuple(np.unique(np.quantile(numbers, [0, 0.25, 0.5, 0.75, 1])).tolist())}
