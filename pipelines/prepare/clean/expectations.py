"""`data.expectations`: what the values of features must satisfy, counted over all rows, checked at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.prepare.read.columns import decode
from ranker.config import Expectation, Experiment
from ranker.errors import UserError


def check_config(experiment: Experiment) -> None:
    """Raises a UserError if an expectation names no feature, or asks of it what its kind does not have."""
    for name, expected in experiment.data.expectations.items():
        feature = experiment.features.get(name)
        if feature is None:
            raise UserError(
                f"data.expectations.{name}: no such feature; there is: {', '.join(experiment.features)}"
            )
        bounded = expected.min is not None or expected.max is not None
        if (feature.kind != "numeric" and bounded) or (
            feature.kind != "categorical" and expected.allowed is not None
        ):
            has = {"categorical": "allowed and max_missing", "numeric": "min, max and max_missing"}.get(
                feature.kind, "max_missing"
            )
            raise UserError(f"data.expectations.{name}: a {feature.kind} feature has {has}")


def count_violations(rows: pa.RecordBatch, experiment: Experiment) -> Counter[tuple[str, str, str]]:
    """Rows of a batch that break an expectation, under ("expectation", feature, rule); missing ones are counted too."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for name, expected in experiment.data.expectations.items():
        broken = _broken(rows.column(name), expected)
        counts.update({("expectation", name, rule): int(mask.sum()) for rule, mask in broken.items()})
    return counts


def refuse_violations(counts: Mapping[tuple[str, str, str], int], rows: int, experiment: Experiment) -> None:
    """Raises a UserError for the first expectation that `rows` good rows do not satisfy."""
    for name, expected in experiment.data.expectations.items():
        for rule in ("min", "max", "allowed", "max_missing"):
            limit, broken = getattr(expected, rule), counts.get(("expectation", name, rule), 0)
            if limit is None or broken <= (rows * limit if rule == "max_missing" else 0):
                continue
            phrases = {
                "min": "below",
                "max": "above",
                "allowed": "not among",
                "max_missing": "missing; at most a share of",
            }
            shown = ", ".join(limit) if rule == "allowed" else f"{limit:g}"
            raise UserError(
                f"data.expectations.{name}: {broken:,} of {rows:,} rows are {phrases[rule]} {shown[:200]}"
            )


def _broken(column: pa.Array, expected: Expectation) -> dict[str, np.ndarray]:
    broken: dict[str, np.ndarray] = {}
    if pa.types.is_floating(column.type):
        values = column.to_numpy(zero_copy_only=False)
        broken["max_missing"] = np.isnan(values)
        broken["min"] = values < (-np.inf if expected.min is None else expected.min)
        broken["max"] = values > (np.inf if expected.max is None else expected.max)
        return broken
    text = decode(column)
    broken["max_missing"] = pc.equal(text, "").to_numpy(zero_copy_only=False)
    if expected.allowed is not None:
        is_allowed = pc.is_in(text, pa.array(expected.allowed, pa.string())).to_numpy(zero_copy_only=False)
        broken["allowed"] = ~is_allowed & ~broken["max_missing"]
    return broken
