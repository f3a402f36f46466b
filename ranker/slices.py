"""Parts of rows by a column's value: by the request for columns of the context, by the candidate for columns of the item.

A `Cut` is decided once, on one set of rows, and divides any further rows in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranker.text import texts

Array = NDArray[Any]

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
        dtype: of the numbers that decided it; numbers are compared in it.
    """

    feature: str
    by_request: bool
    numeric: bool
    names: tuple[str, ...] = ()
    levels: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    dtype: str = "float32"

    @staticmethod
    def of_numbers(feature: str, by_request: bool, numbers: Array) -> Cut:
        """Quarters of the numbers, floating [R], NaN where missing; their values where there are few."""
        finite = numbers[~np.isnan(numbers)]
        levels = np.unique(finite)
        if len(levels) <= MOST_VALUES:
            return Cut(feature, by_request, True, levels=tuple(levels.tolist()), dtype=str(numbers.dtype))
        edges = np.unique(np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]))
        return Cut(feature, by_request, True, edges=tuple(edges.tolist()), dtype=str(numbers.dtype))

    @staticmethod
    def of_texts(feature: str, by_request: bool, distinct: Array, counts: Array) -> Cut:
        """The most frequent texts.

        Args:
            feature: its name.
            by_request: it is the same for all candidates of a request.
            distinct: the texts in ascending order, each once [D]; `(missing)` or empty where missing.
            counts: rows of each [D].
        """
        frequent = distinct[np.argsort(-counts, kind="stable")[:MOST_VALUES]].tolist()
        return Cut(
            feature, by_request, False, names=tuple(name for name in frequent if name not in ("", MISSING))
        )

    def parts(self, values: Sequence[Any] | Array) -> Array:
        """The part of each value, text (object) [R]."""
        if not self.numeric:
            names = text_values(values)
            return np.where(np.isin(names, [*self.names, MISSING]), names, OTHER)
        if isinstance(values, np.ndarray) and values.dtype.kind == "f":
            numbers = values.astype(self.dtype)
        else:
            numbers = np.array([_as_number(value) for value in values], dtype=self.dtype)
        parts = np.full(len(numbers), OTHER, dtype=object)
        parts[np.isnan(numbers)] = MISSING
        for level in self.levels:
            parts[numbers == numbers.dtype.type(level)] = f"{level:g}"
        for low, high in pairwise(self.edges):
            last = high == self.edges[-1]
            inside = (numbers >= low) & ((numbers <= high) if last else (numbers < high))
            parts[inside] = self._range(low, high)
        return parts

    @property
    def part_names(self) -> tuple[str, ...]:
        """The parts in the order in which they are read: frequent texts first, numbers ascending."""
        ranges = (self._range(low, high) for low, high in pairwise(self.edges))
        return (*self.names, *(f"{level:g}" for level in self.levels), *ranges, OTHER, MISSING)

    def _range(self, low: float, high: float) -> str:
        return f"{low:g} to {high:g}" if high == self.edges[-1] else f"{low:g} to under {high:g}"

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


def text_values(values: Iterable[Any]) -> Array:
    """The values' texts, `(missing)` where a value is missing; object [R]."""
    names = texts(values)
    return np.where(names == "", MISSING, names)


def _as_number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
