"""An external sort: sorted runs on disk, and a merge that holds only a range of the keys in memory.

Each batch of example rows becomes one run: an Arrow file whose record batch i holds the rows for train shard i, and
whose batch `shards + i` those for eval shard i, each sorted as the shard will be. A shard is then written range by
range: the rows of a range are cut out of every run, put together and sorted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.prepare.order.hashing import hash_text
from pipelines.prepare.read.columns import decode
from pipelines.prepare.rows import EVAL, ORDER, TIME
from pipelines.prepare.write.examples import wire_text
from ranker.files import replacing
from ranker.layout import REQUEST

RANGE_ROWS = 131_072
"""About as many rows of a shard are in memory at a time."""
_SHARD_SEED = 0x5A4D
_SAMPLE_EVERY = 512
_MAPPED = 8


def write_run(rows: pa.RecordBatch, shards: int, path: Path) -> int:
    """Sorts a batch into the parts of all shards and writes them as one run, text (but requests) as `wire_text`.

    Args:
        rows: example rows with `__order__`, `__eval__` and `__request__`.
        shards: shards of each split.
        path: the run; it appears when it is whole.

    Returns:
        Rows written for training.
    """
    order = rows.column(ORDER).to_numpy()
    held_out = rows.column(EVAL).to_numpy(zero_copy_only=False)
    train = np.flatnonzero(~held_out)
    train = train[np.argsort(order[train])]
    held = np.flatnonzero(held_out)
    shard, rank = _eval_keys(rows.column(REQUEST).take(pa.array(held)), shards)
    held = held[np.lexsort((order[held], rank, shard))]
    ends = np.concatenate([
        np.searchsorted(order[train], _first_keys(shards)), [len(train)],
        len(train) + np.searchsorted(np.sort(shard), np.arange(1, shards)), [rows.num_rows],
    ])  # fmt: skip
    indices = pa.array(np.concatenate([train, held]))
    columns = {}
    for name in rows.schema.names:
        column = rows.column(name)
        if name == REQUEST:
            columns[name] = decode(column.take(indices))
        elif pa.types.is_dictionary(column.type):
            columns[name] = _wire(column, indices)
        elif name not in (EVAL, TIME):
            columns[name] = column.take(indices)
    batch = pa.RecordBatch.from_pydict(columns)
    with (
        replacing(path, sync=False) as temporary,
        pa.OSFile(os.fspath(temporary), "wb") as sink,
        pa.ipc.new_file(sink, batch.schema) as writer,
    ):
        start = 0
        for end in ends.tolist():
            writer.write_batch(batch.slice(start, end - start))
            start = end
    return len(train)


def merge_train(paths: list[Path], shard: int, shards: int) -> Iterator[pa.RecordBatch]:
    """The rows of one train shard by `__order__`, a range at a time."""
    rows = _part_rows(paths, shard)
    bounds = [0, *(int(key) for key in _first_keys(shards)), 2**64]
    low, high = bounds[shard], bounds[shard + 1]
    ranges = max(1, -(-rows // RANGE_ROWS))
    cuts = np.array([low + (high - low) * i // ranges for i in range(1, ranges)], np.uint64)
    for batch in _ranges(paths, shard, lambda part: np.searchsorted(part.column(ORDER).to_numpy(), cuts)):
        yield batch.take(pa.array(np.argsort(batch.column(ORDER).to_numpy())))


def merge_eval(paths: list[Path], shard: int, shards: int) -> Iterator[pa.RecordBatch]:
    """The rows of one eval shard by (request, `__order__`), a range of whole requests at a time."""
    part = shards + shard
    rows = _part_rows(paths, part)
    cuts = _request_cuts(paths, part, -(-rows // RANGE_ROWS))
    for batch in _ranges(
        paths, part, lambda rows: np.array([_first_row(rows, cut) for cut in cuts], np.int64)
    ):
        rank = _rank(batch.column(REQUEST).dictionary_encode())
        yield batch.take(pa.array(np.lexsort((batch.column(ORDER).to_numpy(), rank))))


def _ranges(paths: list[Path], part: int, positions) -> Iterator[pa.RecordBatch]:
    """Cuts every run's part at `positions(part)` and puts equal ranges together."""
    cuts = []
    for path in paths:
        with pa.memory_map(os.fspath(path)) as source:
            rows = pa.ipc.open_file(source).get_batch(part)
            cuts.append(np.concatenate([[0], positions(rows), [rows.num_rows]]).astype(np.int64))
    for index in range(len(cuts[0]) - 1 if cuts else 0):
        mapped, copied = [], []
        for path, cut in zip(paths, cuts, strict=True):
            start, end = int(cut[index]), int(cut[index + 1])
            if start == end:
                continue
            # Mapped anew for each range, and few at a time: pages that were read, and those around them, are given
            # back when the map is closed.
            with pa.memory_map(os.fspath(path)) as source:
                mapped.append(pa.ipc.open_file(source).get_batch(part).slice(start, end - start))
            if len(mapped) == _MAPPED:
                copied.append(pa.concat_batches(mapped))
                mapped = []
        if copied or mapped:
            yield pa.concat_batches([*copied, *mapped])


def _part_rows(paths: list[Path], part: int) -> int:
    total = 0
    for path in paths:
        with pa.memory_map(os.fspath(path)) as source:
            total += pa.ipc.open_file(source).get_batch(part).num_rows
    return total


def _request_cuts(paths: list[Path], part: int, ranges: int) -> list[str]:
    """Requests that cut the part of all runs into about `ranges` ranges."""
    if ranges < 2:
        return []
    sample: list[str] = []
    for path in paths:
        with pa.memory_map(os.fspath(path)) as source:
            requests = pa.ipc.open_file(source).get_batch(part).column(REQUEST)
            sample += requests.take(pa.array(np.arange(0, len(requests), _SAMPLE_EVERY))).to_pylist()
    sample.sort(key=str.encode)
    picked = [sample[len(sample) * i // ranges] for i in range(1, ranges)]
    return sorted(set(picked), key=str.encode)


def _first_row(part: pa.RecordBatch, request: str) -> int:
    """First row of a sorted part whose request is not below `request`, as UTF-8 bytes compare."""
    column, encoded_request = part.column(REQUEST), request.encode()
    low, high = 0, len(column)
    while low < high:
        middle = (low + high) // 2
        if column[middle].as_py().encode() < encoded_request:
            low = middle + 1
        else:
            high = middle
    return low


def _first_keys(shards: int) -> np.ndarray:
    """The first base-order key of each train shard but the first."""
    return np.array([-(-(2**64) * shard // shards) for shard in range(1, shards)], np.uint64)


def _eval_keys(requests: pa.DictionaryArray, shards: int) -> tuple[np.ndarray, np.ndarray]:
    shard = (hash_text(requests, _SHARD_SEED) % np.uint64(shards)).astype(np.int64)
    return shard, _rank(requests)


def _rank(requests: pa.DictionaryArray) -> np.ndarray:
    """Position of each row's request among the sorted distinct ones."""
    ranks = np.empty(len(requests.dictionary), np.int64)
    ranks[pc.sort_indices(requests.dictionary).to_numpy()] = np.arange(len(ranks))
    return ranks[requests.indices.to_numpy(zero_copy_only=False)]


def _wire(column: pa.DictionaryArray, indices: pa.Array) -> pa.BinaryArray:
    codes = column.indices.take(indices)
    if len(column.dictionary) > len(codes):
        return wire_text(decode(pa.DictionaryArray.from_arrays(codes, column.dictionary)))
    # One slot more than the dictionary: the empty text, where a null index points.
    distinct = wire_text(pa.concat_arrays([column.dictionary, pa.array([""], pa.string())]))
    return distinct.take(codes.fill_null(len(distinct) - 1) if codes.null_count else codes)
