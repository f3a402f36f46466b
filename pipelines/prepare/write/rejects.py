"""The rejected rows as JSON lines, with the line of the file each stood on, and what they have in common."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.prepare.read.sources import Opened
from pipelines.prepare.rows import FILE_SHIFT, LINE, PLACE
from ranker.json_text import json_text

_MAX_DISTINCT = 1000  # reasons with their values that are told apart


class Locator:
    """Finds the file and the line of a row's place.

    Args:
        files: the source's files.
        before: for each block, by (file, place of its first row): lines of the file that come before it.
    """

    def __init__(self, files: Sequence[Opened], before: Mapping[tuple[int, int], int]):
        self._files = files
        self._before = before
        self._starts = sorted(before)

    def locate(self, place: int, line: int) -> tuple[str, int]:
        """(file's name, line from 1) of a row, from its place and the lines of its block before it."""
        file, offset = place >> FILE_SHIFT, place & ((1 << FILE_SHIFT) - 1)
        block = self._starts[bisect_right(self._starts, (file, offset)) - 1]
        return self._files[file].file.name, self._before[block] + line + 1


@dataclass
class Rejections:
    """Rejected rows in short.

    Attributes:
        reasons: rows by reason, values in it left out.
        examples: for each reason the first rejected row that has its commonest value.
    """

    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows were rejected."""
        return sum(self.reasons.values())

    @property
    def commonest(self) -> tuple[str, dict[str, Any]] | None:
        """The reason most rows have, and its example."""
        if not self.reasons:
            return None
        reason = max(self.reasons, key=lambda reason: self.reasons[reason])
        return reason, self.examples[reason]


def write_rejected(batches: Iterable[pa.RecordBatch], locator: Locator, path: Path) -> Rejections:
    """Writes rejected rows.

    Args:
        batches: rejected rows in the order of their places.
        locator: of the source's files.
        path: the JSON-lines file.

    Returns:
        Their reasons.
    """
    rejections = Rejections()
    values: Counter[str] = Counter()
    first: dict[str, dict[str, Any]] = {}
    with path.open("w", encoding="utf-8") as sink:
        for batch in batches:
            for row in batch.to_pylist():
                file, line = locator.locate(row[PLACE], row[LINE])
                entry = {"file": file, "line": line, "reason": row["reason"], "text": row["text"]}
                sink.write(json_text(entry, ensure_ascii=False) + "\n")
                reason = row["reason"].partition(":")[0]
                rejections.reasons[reason] += 1
                rejections.examples.setdefault(reason, entry)
                if row["reason"] in first or len(first) < _MAX_DISTINCT:
                    values[row["reason"]] += 1
                    first.setdefault(row["reason"], entry)
    for full, _ in reversed(values.most_common()):
        rejections.examples[full.partition(":")[0]] = first[full]
    return rejections
