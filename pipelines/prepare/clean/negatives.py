"""Negatives for a log of positives: items of the training rows, drawn for each positive by a hash of its place.

A draw depends on the seed and on the positive's place in the base order alone: any number of workers and any size of
batches give the same rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.prepare.order.hashing import hash_text, mix
from pipelines.prepare.read.columns import decode
from pipelines.prepare.rows import EVAL, ORDER
from ranker import layout
from ranker.config import Experiment
from ranker.config.data import Negatives
from ranker.files import replacing

COUNT = "__count__"
"""int64: how many positives of the training rows an item has."""
LOW_BITS = np.uint64(2**32 - 1)
"""Of a row's place in the base order, where the high ones are its request's."""
_COMPACT_ROWS = 200_000


def item_columns(experiment: Experiment) -> tuple[str, ...]:
    """The stored columns that belong to the item and are known of one that was not shown."""
    return tuple(
        name
        for name, column in experiment.columns.items()
        if column.role == "item" and not column.training_only
    )


def positive_items(rows: pa.RecordBatch, experiment: Experiment) -> pa.Table:
    """The items of a batch's positive training rows, one row each: the first one's place and columns, and their count."""
    is_positive = pc.greater(rows.column(layout.LABEL), 0)
    chosen = rows.filter(pc.and_(is_positive, pc.invert(rows.column(EVAL))))
    plain = {
        name: decode(column) if pa.types.is_dictionary(column.type) else column
        for name in (ORDER, *item_columns(experiment))
        for column in [chosen.column(name)]
    }
    plain[COUNT] = pa.array(np.ones(chosen.num_rows, np.int64))
    return merge_items([pa.table(plain)], experiment.item)


def merge_items(tables: Iterable[pa.Table], item: str) -> pa.Table:
    """One row an item, sorted by it: the columns of its first row in the base order, and the sum of the counts."""
    table = pa.concat_tables(tables)
    table = table.filter(pc.not_equal(table[item], "")).sort_by([(item, "ascending"), (ORDER, "ascending")])
    items = table[item].combine_chunks()
    if not len(items):
        return table
    is_first = np.append(True, pc.not_equal(items[1:], items[:-1]).to_numpy(zero_copy_only=False))
    starts = np.flatnonzero(is_first)
    counts = np.add.reduceat(table[COUNT].to_numpy(), starts)
    merged = table.take(pa.array(starts))
    return merged.set_column(merged.schema.get_field_index(COUNT), COUNT, pa.array(counts))


class MergeItems(beam.CombineFn):
    """Adds up tables of items.

    Args:
        item: the column that identifies one.
    """

    def __init__(self, item: str):
        self._item = item

    def create_accumulator(self) -> list[pa.Table]:
        """No tables."""
        return []

    def add_input(self, accumulator: list[pa.Table], element: pa.Table) -> list[pa.Table]:
        """One table more; they are added up when they have grown to a multiple of the last sum."""
        accumulator.append(element)
        if sum(len(table) for table in accumulator[1:]) > max(_COMPACT_ROWS, len(accumulator[0])):
            return [merge_items(accumulator, self._item)]
        return accumulator

    def merge_accumulators(self, accumulators: list[list[pa.Table]]) -> list[pa.Table]:
        """All tables as one."""
        return self.compact([table for accumulator in accumulators for table in accumulator])

    def compact(self, accumulator: list[pa.Table]) -> list[pa.Table]:
        """Added up before it travels."""
        return [merge_items(accumulator, self._item)] if accumulator else []

    def extract_output(self, accumulator: list[pa.Table]) -> pa.Table | None:
        """The sum; None without any rows."""
        return merge_items(accumulator, self._item) if accumulator else None


def write_items(table: pa.Table | None, path: Path) -> str:
    """Writes the items of all training rows; returns the file's name, empty where there are none."""
    if table is None or not len(table):
        return ""
    with (
        replacing(path, sync=False) as temporary,
        pa.OSFile(os.fspath(temporary), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table.combine_chunks())
    return str(path)


def read_items(path: Path | str) -> pa.Table:
    """Reads what `write_items` wrote."""
    with pa.memory_map(os.fspath(path)) as source:
        return pa.ipc.open_file(source).read_all()


def with_negatives(rows: pa.RecordBatch, items: pa.Table, experiment: Experiment) -> Iterator[pa.RecordBatch]:
    """A batch with requests of one positive each, and the negatives of its positives.

    Args:
        rows: example rows, which say whether they are held out.
        items: of all training rows, as `merge_items` gives them.
        experiment: the configuration, with `data.negatives`.

    Yields:
        The rows, then their negatives (if there are any).
    """
    settings = experiment.data.negatives
    assert settings is not None
    order = rows.column(ORDER).to_numpy()
    if experiment.data.request is not None:
        rows = _replaced(rows, layout.REQUEST, _own_requests(rows.column(layout.REQUEST), order))
    requests = rows.column(layout.REQUEST)
    if experiment.keeps_requests_together:
        high = hash_text(requests, experiment.data.order_seed) & ~LOW_BITS
        rows = _replaced(rows, ORDER, pa.array(high | (order & LOW_BITS)))
    yield rows
    positive = np.flatnonzero(rows.column(layout.LABEL).to_numpy() > 0)
    held_out = rows.column(EVAL).to_numpy(zero_copy_only=False)[positive]
    own_items = pc.index_in(
        decode(rows.column(experiment.item)).take(pa.array(positive)), items[experiment.item]
    )
    drawn = draw(
        order[positive], own_items.fill_null(-1).to_numpy(), held_out, items[COUNT].to_numpy(), settings
    )
    sizes = np.array([len(chosen) for chosen in drawn], np.int64)
    if not sizes.sum():
        return
    source, chosen = np.repeat(positive, sizes), np.concatenate(drawn)
    place = np.arange(len(source)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    places = mix(order[source] ^ mix(place.astype(np.uint64) + np.uint64(1)))
    if experiment.keeps_requests_together:
        places = (rows.column(ORDER).to_numpy()[source] & ~LOW_BITS) | (places & LOW_BITS)
    columns = {}
    zeros = pa.array(np.zeros(len(source), np.float32))
    for name in rows.schema.names:
        stored = experiment.columns.get(name)
        if name == ORDER:
            columns[name] = pa.array(places)
        elif name in (layout.LABEL, layout.GRADE):
            columns[name] = zeros
        elif stored is None or stored.role != "item":
            columns[name] = rows.column(name).take(pa.array(source))
        elif stored.training_only:
            columns[name] = _missing(rows.column(name).type, len(source))
        else:
            column = items[name].combine_chunks().take(pa.array(chosen))
            columns[name] = column.dictionary_encode() if pa.types.is_string(column.type) else column
    yield pa.RecordBatch.from_pydict(columns)


def draw(
    order: np.ndarray, own_items: np.ndarray, held_out: np.ndarray, counts: np.ndarray, settings: Negatives
) -> list[np.ndarray]:
    """Draws the negatives of each positive, all different and none the positive's own item.

    Args:
        order: place of each positive in the base order, uint64 [P].
        own_items: the item of each, -1 for one that no training row has [P].
        held_out: whether it is held out: then `settings.candidates` are drawn, else `settings.count` [P].
        counts: positives of each item [I].
        settings: how many, by what, from which seed.

    Returns:
        For each positive its items, int64; all other items where there are not enough.
    """
    weights = counts.astype(np.float64) if settings.by == "popularity" else np.ones(len(counts))
    ends = np.cumsum(weights) / weights.sum() if len(weights) else weights
    result = []
    for place, item, is_held_out in zip(order, own_items.tolist(), held_out.tolist(), strict=True):
        size = settings.candidates if is_held_out else settings.count
        available = len(counts) - (item >= 0)
        seed = mix(np.array([place], np.uint64) ^ mix(np.array([settings.seed], np.uint64)))
        if 3 * size >= available:
            result.append(_without_replacement(seed, item, min(size, available), weights))
        else:
            result.append(_by_rejection(seed, item, size, ends))
    return result


def _by_rejection(seed: np.ndarray, own_item: int, size: int, ends: np.ndarray) -> np.ndarray:
    """Few of many: drawn with replacement, without those that were drawn before."""
    chosen: dict[int, None] = {}
    start = 0
    while len(chosen) < size:
        steps = np.arange(start, start + 2 * size + 8, dtype=np.uint64)
        uniform = (mix(seed ^ mix(steps)) >> np.uint64(11)).astype(np.float64) / 2**53
        for item in np.minimum(np.searchsorted(ends, uniform, side="right"), len(ends) - 1).tolist():
            if item != own_item and len(chosen) < size:
                chosen[item] = None
        start += len(steps)
    return np.fromiter(chosen, np.int64, len(chosen))


def _without_replacement(seed: np.ndarray, own_item: int, size: int, weights: np.ndarray) -> np.ndarray:
    """Most of few: the smallest of exponential times over weights (Efraimidis and Spirakis, 2006)."""
    steps = np.arange(len(weights), dtype=np.uint64)
    uniform = ((mix(seed ^ mix(steps)) >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    times = -np.log(uniform) / weights
    if own_item >= 0:
        times[own_item] = np.inf
    return np.argsort(times, kind="stable")[:size].astype(np.int64)


def _own_requests(requests: pa.DictionaryArray, order: np.ndarray) -> pa.DictionaryArray:
    places = pa.array([f"{place:016x}" for place in order.tolist()], pa.string())
    joined = pc.binary_join_element_wise(decode(requests), places, layout.REQUEST_SEPARATOR)
    return joined.dictionary_encode()


def _missing(kind: pa.DataType, rows: int) -> pa.Array:
    if pa.types.is_floating(kind):
        return pa.array(np.full(rows, np.nan, np.float32))
    return pa.array([""] * rows, pa.string()).dictionary_encode()


def _replaced(rows: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    return rows.set_column(rows.schema.get_field_index(name), name, column)
