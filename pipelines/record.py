"""Seconds and counters of each stage of a run, in `RUN/logs/stages`: the report also shows those of earlier commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranker.files import write_whole
from ranker.json_text import json_text

STAGES = ("prepare", "train", "evaluate")


def save_record(run: Path, stage: str, seconds: float, counters: Mapping[str, int]) -> None:
    """Writes what a stage that has worked took; a stage that had nothing to do keeps its earlier record.

    Args:
        run: the run directory.
        stage: of `STAGES`.
        seconds: by the clock.
        counters: Beam's, by name.

    Raises:
        UserError: it cannot be written.
    """
    text = json_text({"seconds": round(seconds, 3), "counters": dict(sorted(counters.items()))})
    write_whole(_directory(run) / f"{stage}.json", text + "\n")


def read_records(run: Path) -> dict[str, dict[str, Any]]:
    """Stage -> `seconds` and `counters`, of the stages that have left a record, in their order."""
    records = {}
    for stage in STAGES:
        try:
            records[stage] = json.loads((_directory(run) / f"{stage}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # a run of another version, or one whose logs were cleared
    return records


def _directory(run: Path) -> Path:
    return run / "logs" / "stages"
