"""Vocabularies: token counts of the training split, merged as tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.prepare.rows import EVAL
from ranker.config import Categorical, Experiment
from ranker.files import replacing

COUNTS = pa.schema([("token", pa.string()), ("count", pa.int64())])
_TOP = 20
_COMPACT_ROWS = 200_000


def count_tokens(rows: pa.RecordBatch, experiment: Experiment) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Counts the tokens of each categorical feature in the training rows of a batch.

    Yields:
        (feature, table of `COUNTS`): one entry for each token that occurs. Missing values are no tokens.
    """
    train = pc.invert(rows.column(EVAL)).to_numpy(zero_copy_only=False)
    for name, feature in experiment.features.items():
        if not isinstance(feature, Categorical) or not feature.has_vocabulary:
            continue
        column = rows.column(name)
        size = len(column.dictionary)
        codes = column.indices.fill_null(size).to_numpy()
        counts = np.bincount(codes[train], minlength=size + 1)[:size]
        seen = np.flatnonzero(counts)
        tokens, counts = column.dictionary.take(pa.array(seen)), pa.array(counts[seen])
        if feature.multivalued:
            lists = pc.split_pattern(tokens, feature.multivalued)
            counts = counts.take(pc.list_parent_indices(lists))
            tokens = lists.flatten()
        is_token = pc.not_equal(tokens, "")
        yield name, _batch(tokens.filter(is_token), counts.filter(is_token))


class MergeCounts(beam.CombineFn):
    """Adds up tables of token counts."""

    def create_accumulator(self) -> list[pa.RecordBatch]:
        """No tables."""
        return []

    def add_input(self, accumulator: list[pa.RecordBatch], element: pa.RecordBatch) -> list[pa.RecordBatch]:
        """One table more; they are added up when they have grown to a multiple of the last sum."""
        accumulator.append(element)
        if sum(len(table) for table in accumulator[1:]) > max(_COMPACT_ROWS, len(accumulator[0])):
            return [merge(accumulator)]
        return accumulator

    def merge_accumulators(self, accumulators: list[list[pa.RecordBatch]]) -> list[pa.RecordBatch]:
        """All tables as one."""
        return [merge([table for accumulator in accumulators for table in accumulator])]

    def compact(self, accumulator: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        """Added up before it travels."""
        return [merge(accumulator)]

    def extract_output(self, accumulator: list[pa.RecordBatch]) -> pa.RecordBatch:
        """The sum."""
        return merge(accumulator)


def merge(tables: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Adds up tables of `COUNTS`; the order of the result's rows is not defined."""
    table = pa.Table.from_batches(tables, COUNTS)
    added = table.group_by("token", use_threads=False).aggregate([("count", "sum")]).combine_chunks()
    return _batch(_one(added["token"]), _one(added["count_sum"]))


@dataclass(frozen=True)
class TokenSummary:
    """What the statistics say about a feature's tokens.

    Attributes:
        feature: its name.
        cardinality: distinct tokens, before `min_count` and `max_vocabulary`.
        top: the most frequent tokens and their counts.
        size: tokens in the vocabulary.
    """

    feature: str
    cardinality: int
    top: tuple[tuple[str, int], ...]
    size: int


def write_vocabulary(feature: str, counts: pa.RecordBatch, config: Categorical, path: Path) -> TokenSummary:
    """Writes the tokens by (-count, token), one a line.

    A token with a line break would be two lines of the file, so it stays out of the vocabulary.
    """
    order = pc.sort_indices(counts, sort_keys=[("count", "descending"), ("token", "ascending")])
    counts = counts.take(order)
    top = tuple(zip(counts["token"][:_TOP].to_pylist(), counts["count"][:_TOP].to_pylist(), strict=True))
    tokens = counts["token"].filter(pc.greater_equal(counts["count"], config.min_count))
    tokens = tokens.filter(pc.invert(pc.match_substring_regex(tokens, "[\r\n]")))
    tokens = tokens[: config.max_vocabulary] if config.max_vocabulary else tokens
    with replacing(path, sync=False) as temporary, temporary.open("wb") as sink:
        for start in range(0, len(tokens), 100_000):
            sink.write(
                "".join(f"{token}\n" for token in tokens[start : start + 100_000].to_pylist()).encode()
            )
    return TokenSummary(feature, len(counts), top, len(tokens))


def _batch(tokens: pa.Array, counts: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([tokens, counts.cast(pa.int64())], schema=COUNTS)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
