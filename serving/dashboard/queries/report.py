"""The run's comparison of arms, `evaluation/report.json`, as far as a page needs it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranker import layout
from ranker.divergence import Interval


@dataclass(frozen=True)
class Arm:
    """One recipe.

    Attributes:
        name: of the arm.
        replicas: how many were trained.
        quality: measure -> (mean, standard deviation) over replicas; nan where unknown.
        divergence: label -> mean over pairs with its interval.
    """

    name: str
    replicas: int
    quality: Mapping[str, tuple[float, float]]
    divergence: Mapping[str, Interval]


@dataclass(frozen=True)
class Report:
    """What the run says: a sentence (may be empty), the arms (the first is deployed), the eval split's requests."""

    sentence: str
    arms: tuple[Arm, ...]
    counts: Mapping[str, int]


def read_report(run: Path | None) -> Report | None:
    """Reads the report of a run; None if it is not there or not one."""
    if run is None:
        return None
    try:
        tree = json.loads(layout.report_path(run).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    arms = tree.get("arms") if isinstance(tree, dict) else None
    if not isinstance(arms, dict):
        return None
    counts = tree.get("counts")
    return Report(
        str(tree.get("sentence") or ""),
        tuple(_arm(name, arm) for name, arm in arms.items() if isinstance(arm, dict)),
        {key: n for key, n in counts.items() if isinstance(n, int)} if isinstance(counts, dict) else {},
    )


def _arm(name: str, tree: Mapping[str, Any]) -> Arm:
    quality = {
        label: (_number(entry.get("mean")), _number(entry.get("std")))
        for label, entry in (tree.get("quality") or {}).items()
        if isinstance(entry, dict)
    }
    divergence = {
        label: Interval(_number(entry.get("value")), _number(entry.get("low")), _number(entry.get("high")))
        for label, entry in (tree.get("divergence") or {}).items()
        if isinstance(entry, dict)
    }
    return Arm(name, len(tree.get("replicas") or ()), quality, divergence)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
