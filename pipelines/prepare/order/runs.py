"""An external sort: sorted runs on disk, and a merge that holds only a range of the keys in memory.

Each batch of example rows becomes one run, which is an Arrow file. Its record batch i has the rows of train shard i, and
its batch `shards + i` those of eval shard i, both in the order of the shard. A shard is then written one range of keys at a
time: the rows of the range are read from every run, concatenated and sorted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

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
"""About as many rows of a shard are sorted at a time."""
READ_BYTES = 64 << 20
"""About as many bytes of a shard are read at a time, or a range if that is more."""
_SHARD_SEED = 0x5A4D
_SAMPLE_EVERY = 512
_MAPPED = 8


class RunPart(NamedTuple):
    """Sorted rows of one shard on this disk: a batch of an Arrow file."""

    path: Path
    number: int


def part_index(split: str, shard: int, shards: int) -> int:
    """Which part of a run has the rows of a shard."""
    return shard if split == "train" else shards + shard


def divide(rows: pa.RecordBatch, shards: int) -> list[pa.RecordBatch]:
    """Sorts a batch into the parts of all shards, text (but requests) as `wire_text`.

    Args:
        rows: example rows with `__order__`, `__eval__` and `__request__`.
        shards: shards of each split.

    Returns:
        The part of each shard by `part_index`; some have no rows.
    """
    order = rows.column(ORDER).to_numpy()
    held_out = rows.column(EVAL).to_numpy(zero_copy_only=False)
    train = np.flatnonzero(~held_out)
    train = train[np.argsort(order[train])]
    held = np.flatnonzero(held_out)
    shard, rank = _eval_keys(rows.column(REQUEST).take(pa.array(held)), shards)
    held = held[np.lexsort((order[held], rank, shard))]
    ends = np.concatenate(
        [
            np.searchsorted(order[train], _first_keys(shards)),
            [len(train)],
            len(train) + np.searchsorted(np.sort(shard), np.arange(1, shards)),
            [rows.num_rows],
        ]
    )
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
    starts = [0, *ends.tolist()]
    return [batch.slice(start, end - start) for start, end in zip(starts, ends.tolist(), strict=False)]


def write_run(parts: Sequence[pa.RecordBatch], path: Path) -> None:
    """Writes parts as one run: an Arrow file, which appears when it is whole."""
    with (
        replacing(path, sync=False) as temporary,
        pa.OSFile(os.fspath(temporary), "wb") as sink,
        pa.ipc.new_file(sink, parts[0].schema) as writer,
    ):
        for part in parts:
            writer.write_batch(part)


def merge_train(parts: Sequence[RunPart], shard: int, shards: int) -> Iterator[pa.RecordBatch]:
    """The rows of one train shard by `__order__`, a range at a time."""
    rows = _rows(parts)
    bounds = [0, *(int(key) for key in _first_keys(shards)), 2**64]
    low, high = bounds[shard], bounds[shard + 1]
    ranges = max(1, -(-rows // RANGE_ROWS))
    cuts = np.array([low + (high - low) * i // ranges for i in range(1, ranges)], np.uint64)
    for batch, chosen in _ranges(parts, lambda part: np.searchsorted(part.column(ORDER).to_numpy(), cuts)):
        order = batch.column(ORDER).to_numpy()[chosen]
        yield batch.take(pa.array(chosen[np.argsort(order)]))


def merge_eval(parts: Sequence[RunPart]) -> Iterator[pa.RecordBatch]:
    """The rows of one eval shard by (request, `__order__`), a range of whole requests at a time."""
    cuts = _request_cuts(parts, -(-_rows(parts) // RANGE_ROWS))
    for batch, chosen in _ranges(
        parts, lambda rows: np.array([_first_row(rows, cut) for cut in cuts], np.int64)
    ):
        rank = _rank(batch.column(REQUEST).take(pa.array(chosen)).dictionary_encode())
        order = batch.column(ORDER).to_numpy()[chosen]
        yield batch.take(pa.array(chosen[np.lexsort((order, rank))]))


def _ranges(parts: Sequence[RunPart], positions) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Cuts every part at `positions(its rows)`; gives the rows of some ranges, and which of them are each range's.

    To open a part takes as long as to copy some thousand rows: so as many ranges as memory allows are read at once.
    """
    all_cuts = []
    size = rows_in_all = 0
    for part in parts:
        with _mapped(part) as rows:
            all_cuts.append(np.concatenate([[0], positions(rows), [rows.num_rows]]).astype(np.int64))
            size, rows_in_all = size + rows.nbytes, rows_in_all + rows.num_rows
    if not rows_in_all:
        return
    cuts = np.stack(all_cuts)  # [parts, ranges + 1]
    ranges = cuts.shape[1] - 1
    together = max(1, int(READ_BYTES * ranges / size))
    for first in range(0, ranges, together):
        of_ranges = cuts[:, first : first + together + 1]
        batch = _read(parts, of_ranges[:, 0], of_ranges[:, -1])
        if batch is None:
            continue
        # Where the rows of each part begin in the batch.
        lengths = of_ranges[:, -1] - of_ranges[:, 0]
        begins = np.cumsum(lengths) - lengths
        places = of_ranges - of_ranges[:, :1] + begins[:, None]
        for starts, ends in zip(places.T, places.T[1:], strict=False):
            counts = ends - starts
            if counts.any():
                yield (
                    batch,
                    np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum()),
                )


def _read(parts: Sequence[RunPart], starts: np.ndarray, ends: np.ndarray) -> pa.RecordBatch | None:
    """Rows [start, end) of every part, one part after the other; None if there is none."""
    mapped, copied = [], []
    for part, start, end in zip(parts, starts.tolist(), ends.tolist(), strict=True):
        if start == end:
            continue
        # Mapped anew each time, and few at a time: pages that were read, and those around them, are given back when
        # the map is closed.
        with _mapped(part) as rows:
            mapped.append(rows.slice(start, end - start))
        if len(mapped) == _MAPPED:
            copied.append(pa.concat_batches(mapped))
            mapped = []
    return pa.concat_batches([*copied, *mapped]) if copied or mapped else None


@contextmanager
def _mapped(part: RunPart) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(os.fspath(part.path)) as source:
        yield pa.ipc.open_file(source).get_batch(part.number)


def _rows(parts: Sequence[RunPart]) -> int:
    total = 0
    for part in parts:
        with _mapped(part) as rows:
            total += rows.num_rows
    return total


def _request_cuts(parts: Sequence[RunPart], ranges: int) -> list[str]:
    """Requests that cut all parts into about `ranges` ranges."""
    if ranges < 2:
        return []
    sample: list[str] = []
    for part in parts:
        with _mapped(part) as rows:
            requests = rows.column(REQUEST)
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
