"""The rejected rows as JSON lines, with the line of the file each stood on."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from pipelines.prepare.read.sources import Opened
from pipelines.prepare.rows import FILE_SHIFT, LINE, PLACE


def write_rejected(
    batches: Iterable[pa.RecordBatch], before: dict[tuple[int, int], int], files: Sequence[Opened], path: Path
) -> Counter[str]:
    """Writes rejected rows.

    Args:
        batches: rejected rows in the order of their places.
        before: for each block, by (file, place of its first row): lines of the file that come before it.
        files: the source's files.
        path: the JSON-lines file.

    Returns:
        How many there are of each reason, values in it left out.
    """
    reasons: Counter[str] = Counter()
    starts = sorted(before)
    with path.open("w", encoding="utf-8") as sink:
        for batch in batches:
            for row in batch.to_pylist():
                file, place = row[PLACE] >> FILE_SHIFT, row[PLACE] & ((1 << FILE_SHIFT) - 1)
                block = starts[bisect_right(starts, (file, place)) - 1]
                entry = {
                    "file": files[file].file.name,
                    "line": before[block] + row[LINE] + 1,
                    "reason": row["reason"],
                    "text": row["text"],
                }
                sink.write(json.dumps(entry, ensure_ascii=False) + "\n")
                reasons[row["reason"].partition(":")[0]] += 1
    return reasons
