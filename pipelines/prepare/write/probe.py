"""Probe requests: a frozen uniform sample of eval requests with at least two candidates (of rows, without requests)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.prepare.order.hashing import hash_text
from pipelines.prepare.rows import ORDER
from pipelines.prepare.write.examples import plain_text
from ranker.config import Experiment
from ranker.files import replacing
from ranker.layout import LABEL, REQUEST

REQUESTS = 1000
_SEED = 0x9B0BE


class Sample:
    """The requests of one shard with the smallest hashes."""

    def __init__(self, experiment: Experiment):
        self._columns = tuple(experiment.served_columns)
        self._requests = max(REQUESTS, experiment.monitor.requests)
        self._candidates = 2 if experiment.data.has_requests else 1
        self._kept: pa.Table | None = None

    def add(self, rows: pa.RecordBatch) -> None:
        """Adds whole requests, the rows of each together."""
        encoded = rows.column(REQUEST).dictionary_encode()
        candidates = np.bincount(encoded.indices.to_numpy(), minlength=len(encoded.dictionary))
        hashes = np.where(
            candidates >= self._candidates, hash_text(encoded.dictionary, _SEED), np.uint64(2**64 - 1)
        )
        chosen = np.argsort(hashes, kind="stable")[: self._requests]
        chosen = chosen[candidates[chosen] >= self._candidates]
        keep = np.isin(encoded.indices.to_numpy(), chosen)
        table = pa.Table.from_batches([rows.filter(pa.array(keep))])
        table = table.select([REQUEST, LABEL, ORDER, *self._columns])
        self._kept = _smallest([table] if self._kept is None else [self._kept, table], self._requests)

    def write(self, path: Path) -> None:
        """Writes the sample, if there is any."""
        if self._kept is not None and len(self._kept):
            with replacing(path, sync=False) as temporary:
                pq.write_table(self._kept, temporary)


def write_probe(parts: list[Path], experiment: Experiment, path: Path) -> int:
    """Merges the shards' samples into `probe.parquet`; returns how many requests it has."""
    tables = [pq.read_table(part) for part in sorted(parts)]
    columns = experiment.served_columns
    text = {name for name, column in columns.items() if column.kind != "numeric"}
    if not tables:
        fields = [(name, pa.binary() if name in text else pa.float32()) for name in columns]
        tables = [
            pa.schema(
                [(REQUEST, pa.string()), (LABEL, pa.float32()), (ORDER, pa.uint64()), *fields]
            ).empty_table()
        ]
    table = _smallest(tables, max(REQUESTS, experiment.monitor.requests))
    requests = len(table[REQUEST].unique())
    for name in text:
        table = table.set_column(
            table.schema.get_field_index(name), name, plain_text(table[name].combine_chunks())
        )
    table = table.drop_columns([ORDER]).rename_columns(["request", "label", *columns])
    pq.write_table(table.combine_chunks(), path, compression="zstd")
    return requests


def _smallest(tables: list[pa.Table], requests: int) -> pa.Table:
    """The `requests` requests with the smallest hashes, in that order, rows of each in the base order."""
    table = pa.concat_tables(tables)
    if not len(table):
        return table
    encoded = table[REQUEST].combine_chunks().dictionary_encode()
    hashes = hash_text(encoded.dictionary, _SEED)
    position = np.empty(len(hashes), np.int64)
    position[np.argsort(hashes, kind="stable")] = np.arange(len(hashes))
    row = position[encoded.indices.to_numpy()]
    order = np.lexsort((table[ORDER].to_numpy(), row))
    return table.take(pa.array(order[row[order] < requests]))
