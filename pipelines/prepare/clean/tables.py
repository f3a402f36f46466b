"""Side tables: read once, one row a key, and looked up for whole batches."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.prepare.read.columns import as_text, decode
from ranker.files import local_file
from ranker.storage import location


@dataclass(frozen=True)
class SideTable:
    """A prepared side table in a file of its own, which every worker maps into memory.

    Attributes:
        key: the column of the rows that is looked up.
        columns: what a match brings.
        path: an Arrow IPC file, or an object: `__key__` and the columns.
    """

    key: str
    columns: tuple[str, ...]
    path: str


def write_table(key: pa.Array, columns: dict[str, pa.Array], path: Path) -> np.ndarray:
    """Writes a side table, the first row of each key.

    Args:
        key: the key of each row.
        columns: what a match brings, in parallel.
        path: where to write it.

    Returns:
        Indices of the rows whose key an earlier row had, or that have no key: they are not in the table.
    """
    keys = decode(as_text(key))
    encoded = pc.dictionary_encode(keys)
    _, first = np.unique(encoded.indices.to_numpy(zero_copy_only=False), return_index=True)
    first = np.sort(first)
    first = first[pc.not_equal(keys, "").to_numpy(zero_copy_only=False)[first]]
    all_columns = {"__key__": keys, **columns}
    batch = pa.RecordBatch.from_pydict(
        {name: values.take(pa.array(first)) for name, values in all_columns.items()}
    )
    with pa.OSFile(os.fspath(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return np.setdiff1d(np.arange(len(keys)), first)


def look_up(table: SideTable, key: pa.Array) -> tuple[dict[str, pa.Array], np.ndarray]:
    """Finds the rows of a batch's keys.

    Args:
        table: the side table.
        key: text [n].

    Returns:
        (columns, unmatched): the table's columns [n], null where there is no match, and a bool mask [n].
    """
    rows = _load(table.path)
    encoded = as_text(key)
    # Distinct keys are looked up, then rows follow their code.
    row_of_code = pc.index_in(encoded.dictionary, rows.column("__key__"))
    indices = row_of_code.take(encoded.indices)
    unmatched = indices.is_null().to_numpy(zero_copy_only=False)
    return {name: rows.column(name).take(indices) for name in table.columns}, unmatched


@lru_cache(32)
def _load(path: str) -> pa.RecordBatch:
    # A copy of an object is gone from the disk then, and stays in the map.
    with local_file(location(path)) as file, pa.memory_map(os.fspath(file)) as source:
        return pa.ipc.open_file(source).get_batch(0)
