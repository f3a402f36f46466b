"""Parts of the probe by a feature's value: by the request for context features, by the candidate for item features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ranker.errors import UserError
from serving.monitor.requests import Array, ProbeSet

MOST_VALUES = 5
"""Values kept apart per feature, the most frequent ones; the rest is `other`."""
OTHER, MISSING = "(other)", "(missing)"


@dataclass(frozen=True, eq=False)
class Slice:
    """Rows of the probe whose feature has one value (or lies in one range).

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


def slices(probe: ProbeSet, features: Sequence[str]) -> tuple[Slice, ...]:
    """Cuts the probe by each feature; the cut follows from the probe alone, so it is the same every round.

    Raises:
        UserError: the probe has no such feature.
    """
    found: list[Slice] = []
    for feature in features:
        if feature not in probe.columns:
            raise UserError(
                f"`monitor.slices` must name features of the probe ({', '.join(probe.columns)}). Received: {feature!r}"
            )
        values = _as_text(probe.columns[feature])
        first = values[probe.offsets[:-1]][probe.owner]
        by_request = bool((values == first).all())
        for value in dict.fromkeys(values[np.argsort(values, kind="stable")].tolist()):
            rows = values == value
            requests = np.zeros(len(probe), dtype=bool)
            requests[probe.owner[rows]] = True
            found.append(Slice(feature, value, by_request, rows, requests))
    return tuple(found)


def _as_text(values: Array) -> Array:
    if values.dtype.kind == "f":
        return _ranges(values)
    texts = np.array([str(value) or MISSING for value in values], dtype=object)
    names, codes, counts = np.unique(texts, return_inverse=True, return_counts=True)
    if len(names) > MOST_VALUES:
        rare = np.ones(len(names), dtype=bool)
        rare[np.argsort(-counts, kind="stable")[:MOST_VALUES]] = False
        names = names.copy()
        names[rare] = OTHER
    return names[codes]


def _ranges(values: Array) -> Array:
    known = values[~np.isnan(values)]
    levels = np.unique(known)
    texts = np.full(len(values), MISSING, dtype=object)
    if len(levels) <= MOST_VALUES:
        for level in levels:
            texts[values == level] = f"{level:g}"
        return texts
    edges = np.unique(np.quantile(known, [0, 0.25, 0.5, 0.75, 1]))
    for low, high in pairwise(edges):
        last = high == edges[-1]
        inside = (values >= low) & ((values <= high) if last else (values < high))
        texts[inside] = f"{low:g} to {high:g}" if last else f"{low:g} to under {high:g}"
    return texts
