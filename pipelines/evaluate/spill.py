"""Tables of rows added up by score, on disk: a shard writes its tables into one file, the end of the stage merges all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ranker.divergence.sorted_quality import merge_by_score


class TableWriter:
    """Writes tables one after the other.

    Args:
        file: open for writing, empty.

    Attributes:
        places: name -> (first byte, rows, columns) of each of its tables.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self.places: dict[str, list[tuple[int, int, int]]] = {}

    def write(self, name: str, table: np.ndarray) -> None:
        """Appends a table, float64 [rows, columns]."""
        self.places.setdefault(name, []).append((self._file.tell(), *table.shape))
        self._file.write(np.ascontiguousarray(table, "<f8").tobytes())


@dataclass(frozen=True)
class SpilledTable:
    """A table in a file.

    Attributes:
        path: of the file.
        first_byte: of the table.
        rows: of the table.
        columns: of the table.
    """

    path: Path
    first_byte: int
    rows: int
    columns: int

    def read(self, start: int, count: int) -> np.ndarray:
        """Rows [start, start + count), fewer at the end, float64 [rows, columns]."""
        count = max(min(count, self.rows - start), 0)
        place = self.first_byte + 8 * start * self.columns
        # Not open between two blocks: there may be more tables than a process may have files open.
        numbers = np.fromfile(self.path, "<f8", count * self.columns, offset=place)
        return numbers.reshape(count, self.columns)


def merged(tables: Sequence[SpilledTable]) -> Iterator[np.ndarray]:
    """The rows of all tables in parts of increasing scores."""
    return merge_by_score([table.read for table in tables])
