"""Rows of a Parquet file, a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.prepare.read.files import open_input
from pipelines.prepare.rows import LINE, PLACE, rejected

_BATCH_ROWS = 65_536


def read_group(
    path: str, group: int, first: int, columns: tuple[str, ...], base: int
) -> Iterator[tuple[pa.RecordBatch | None, pa.RecordBatch | None]]:
    """Reads one row group.

    Args:
        path: the file.
        group: number of the row group.
        first: rows of the groups before it.
        columns: the wanted columns.
        base: the file's part of the rows' places.

    Yields:
        (rows, rejected): rows in batches with `__place__` and `__line__` (the row's number in the file); if
        the group breaks off, one rejected entry that says so.
    """
    row = first
    try:
        with open_input(path) as stream:
            found = pq.ParquetFile(stream)
            for batch in found.iter_batches(_BATCH_ROWS, row_groups=[group], columns=list(columns)):
                numbers = np.arange(row, row + batch.num_rows)
                arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
                arrays[PLACE] = pa.array(numbers.astype(np.uint64) + np.uint64(base))
                arrays[LINE] = pa.array(numbers - first)
                yield pa.RecordBatch.from_pydict(arrays), None
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        reason = f"damaged Parquet row group {group}: {' '.join(str(error).split())[:200]}"
        yield None, rejected([base + row], [row - first], [reason], [b""])
