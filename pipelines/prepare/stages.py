"""The pipeline's steps as Beam DoFns, each a thin shell around a plain function."""

from __future__ import annotations

import os
import pickle
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from pipelines.prepare.clean.cleaner import Cleaned, Cleaner
from pipelines.prepare.clean.expectations import count_violations
from pipelines.prepare.clean.negatives import (
    MergeItems,
    positive_items,
    read_items,
    with_negatives,
    write_items,
)
from pipelines.prepare.order import runs
from pipelines.prepare.order.threshold import (
    RadixSelection,
    count_digit,
    is_held_out,
    settle_digit,
    threshold,
)
from pipelines.prepare.plan import Plan
from pipelines.prepare.read import reading
from pipelines.prepare.read.reading import Block
from pipelines.prepare.rows import EVAL, ORDER, PLACE, TIME
from pipelines.prepare.write.shards import Shard, write_shard
from pipelines.prepare.write.vocabulary import TokenSummary, count_tokens, write_vocabulary
from ranker.config import Categorical, Experiment
from ranker.files import replacing, temporary_directory

Tally = Counter[tuple[Any, ...]]
"""Counts under tuple keys; tallies of all workers are added up."""


@dataclass(frozen=True)
class Directories:
    """Where a run writes: the data directory to be published, and its scratch space.

    Both are on one filesystem, or in one object store that workers share and nothing else.
    """

    data: Path
    work: Path

    def clear(self) -> None:
        """Removes the scratch space."""
        shutil.rmtree(self.work)


def batch_path(directory: Path, rows: pa.RecordBatch, by: str = ORDER) -> Path:
    """A file for a batch, named so that names sort by the batch's first row, and tell how many it has."""
    return directory / f"{rows.column(by)[0].as_py():020d}-{rows.num_rows}.arrow"


def rows_of(path: Path) -> int:
    """How many rows a file of `batch_path` has."""
    return int(path.stem.rpartition("-")[2])


def count(name: str, by: int) -> None:
    """Adds to a Beam counter of this stage."""
    beam.metrics.Metrics.counter("prepare", name).inc(by)


class ReadBlock(beam.DoFn):
    """Blocks into batches of raw rows; lines that are no rows go to `rejected`, counts to `tally`."""

    def __init__(self, plan: Plan):
        self._plan = plan

    def process(self, block: Block) -> Iterator[Any]:
        """Reads one block."""
        plan, lines = self._plan, 0
        source = plan.experiment.data.events
        for part in reading.read(block, plan.events[block.file], source, plan.needs):
            lines += part.lines
            yield from part.rows
            if part.rejected is not None:
                yield beam.pvalue.TaggedOutput("rejected", part.rejected)
        count("blocks", 1)
        count("lines", lines)
        yield beam.pvalue.TaggedOutput("tally", Counter({("lines", block.file, block.start): lines}))


class CleanRows(beam.DoFn):
    """Raw rows into example rows; bad rows go to `rejected`, counts to `tally`."""

    def __init__(self, cleaner: Cleaner):
        self._cleaner = cleaner

    def process(self, raw: pa.RecordBatch) -> Iterator[Any]:
        """Cleans one batch."""
        for cleaned in self._cleaner(raw):
            yield from self._results(cleaned)
        yield beam.pvalue.TaggedOutput("tally", Counter({("looked_up",): raw.num_rows}))

    def _results(self, cleaned: Cleaned) -> Iterator[Any]:
        tally: Tally = cleaned.tally()
        if cleaned.rows is not None:
            tally["good",] = cleaned.rows.num_rows
            count("rows", cleaned.rows.num_rows)
            tally.update(count_violations(cleaned.rows, self._cleaner.experiment))
            yield cleaned.rows
        if cleaned.rejected is not None:
            yield beam.pvalue.TaggedOutput("rejected", cleaned.rejected)
        yield beam.pvalue.TaggedOutput("tally", tally)


class KeepRejected(beam.DoFn):
    """Rejected rows into files named by the place of the first."""

    def __init__(self, directory: Path):
        self._directory = directory

    def process(self, batch: pa.RecordBatch) -> Iterator[Tally]:
        """Writes one batch."""
        batch = batch.sort_by(PLACE)
        write_batch(batch, batch_path(self._directory, batch, PLACE))
        count("rejected", batch.num_rows)
        yield Counter({("rejected",): batch.num_rows})


class HoldRows(beam.DoFn):
    """Example rows into files, to wait for the split by time; gives the files' names."""

    def __init__(self, directory: Path):
        self._directory = directory

    def process(self, rows: pa.RecordBatch) -> Iterator[str]:
        """Writes one batch."""
        path = batch_path(self._directory, rows)
        write_batch(rows, path)
        yield str(path)


class FindThreshold(beam.DoFn):
    """All held files into (first held-out row, file), one a file."""

    def __init__(self, share: float):
        self._share = share

    def process(self, group: tuple[None, Iterable[str]]) -> Iterator[tuple[RadixSelection | None, str]]:
        """Finds the threshold over all files."""
        paths = sorted(group[1])

        def chunks() -> Iterator[tuple[Any, Any]]:
            for path in paths:
                rows = read_batch(path)
                yield rows.column(TIME).to_numpy(), rows.column(ORDER).to_numpy()

        first = threshold(chunks, self._share)
        for path in paths:
            yield first, path


def split_by_time(first: RadixSelection | None, path: str) -> pa.RecordBatch:
    """Reads held rows back and says which are held out."""
    return mark_held_out(read_batch(path), first)


def mark_held_out(rows: pa.RecordBatch, first: RadixSelection | None) -> pa.RecordBatch:
    """Says of rows with their times which are held out."""
    held_out = is_held_out(rows.column(TIME).to_numpy(), rows.column(ORDER).to_numpy(), first)
    return rows.drop_columns([TIME]).append_column(EVAL, pa.array(held_out))


def times_of(rows: pa.RecordBatch) -> pa.RecordBatch:
    """What decides whether rows are held out."""
    return rows.select([TIME, ORDER])


def count_digits(times: pa.RecordBatch, digit: int, selection: RadixSelection | None) -> Iterator[np.ndarray]:
    """Counts a digit of one batch of `times_of`, as long as there is something to select."""
    if selection is not None:
        yield count_digit(selection, digit, times.column(TIME).to_numpy(), times.column(ORDER).to_numpy())


def sum_counts(counts: Iterable[Any]) -> Any:
    """The sum of counts of the same digit; 0 of none."""
    return sum(counts, start=np.int64(0))


def settle(counts: np.ndarray, digit: int, selection: RadixSelection | None) -> RadixSelection | None:
    """The selection after a digit more."""
    return None if selection is None else settle_digit(selection, digit, counts)


class CountTokens(beam.DoFn):
    """Example rows into token counts of the training rows, by feature."""

    def __init__(self, experiment: Experiment):
        self._experiment = experiment

    def process(self, rows: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Counts one batch."""
        yield from count_tokens(rows, self._experiment)


class WriteVocabulary(beam.DoFn):
    """(feature, token counts) into the feature's vocabulary file."""

    def __init__(self, experiment: Experiment, directory: Path):
        self._experiment = experiment
        self._directory = directory

    def process(self, element: tuple[str, pa.RecordBatch]) -> Iterator[TokenSummary]:
        """Writes one file."""
        name, counts = element
        feature = self._experiment.features[name]
        if isinstance(feature, Categorical):
            summary = write_vocabulary(name, counts, feature, self._directory / f"{name}.txt")
            count("tokens", summary.size)
            yield summary


class AddNegatives(beam.DoFn):
    """Example rows, and the negatives of the positives among them; counts go to `tally`."""

    def __init__(self, experiment: Experiment):
        self._experiment = experiment

    def process(self, rows: pa.RecordBatch, items: str) -> Iterator[Any]:
        """Adds those of one batch; `items` is the file with the items of all training rows."""
        if not items:  # the end of the run says that there are too few
            yield rows
            return
        total = 0
        for batch in with_negatives(rows, read_items(items), self._experiment):
            total += batch.num_rows
            yield batch
        count("sampled", total - rows.num_rows)
        yield beam.pvalue.TaggedOutput("tally", Counter({("sampled",): total - rows.num_rows}))


class DrawNegatives(beam.PTransform):
    """Adds negatives to example rows; gives the rows, and tallies."""

    def __init__(self, experiment: Experiment, directory: Path):
        super().__init__()
        self._experiment = experiment
        self._path = directory / "items.arrow"

    def expand(self, rows: beam.PCollection) -> tuple[beam.PCollection, beam.PCollection]:
        """Gathers the items of all training rows, then draws."""
        experiment = self._experiment
        items = (
            rows
            | "Positive items" >> beam.Map(positive_items, experiment)
            | "Merge items" >> beam.CombineGlobally(MergeItems(experiment.item))
            | "Write items" >> beam.Map(write_items, self._path)
        )
        drawn = rows | "Draw" >> beam.ParDo(
            AddNegatives(experiment), beam.pvalue.AsSingleton(items)
        ).with_output_types(pa.RecordBatch, tally=Counter).with_outputs("tally", main="rows")
        counted = items | "Count items" >> beam.Map(
            lambda path: Counter({("items",): len(read_items(path)) if path else 0})
        )
        return drawn.rows, (drawn.tally, counted) | "Tallies" >> beam.Flatten()


class WriteRun(beam.DoFn):
    """Example rows into sorted runs on disk: ((split, shard), run) for every shard."""

    def __init__(self, experiment: Experiment, directory: Path):
        self._experiment = experiment
        self._directory = directory

    def process(self, rows: pa.RecordBatch) -> Iterator[tuple[tuple[str, int], str]]:
        """Writes one run."""
        shards = self._experiment.data.shards
        path = batch_path(self._directory, rows)
        runs.write_run(runs.divide(rows, shards), path)
        for key in _shard_keys(shards):
            yield key, str(path)


class DivideRows(beam.DoFn):
    """Example rows into ((split, shard), sorted rows), for every shard, if only to say that it is there."""

    def __init__(self, experiment: Experiment):
        self._experiment = experiment

    def process(self, rows: pa.RecordBatch) -> Iterator[tuple[tuple[str, int], pa.RecordBatch]]:
        """Divides one batch."""
        shards = self._experiment.data.shards
        parts = runs.divide(rows, shards)
        for split, shard in _shard_keys(shards):
            yield (split, shard), parts[runs.part_index(split, shard, shards)]


def _shard_keys(shards: int) -> Iterator[tuple[str, int]]:
    # The local runner deals keys out to workers in turn, in the order it meets them: all large shards first,
    # or with two workers one would get the training split and the other the eval split.
    for split in ("train", "eval"):
        for shard in range(shards):
            yield split, shard


class WriteShard(beam.DoFn):
    """All runs of a shard into its file."""

    def __init__(self, experiment: Experiment, directories: Directories):
        self._experiment = experiment
        self._directories = directories

    def process(self, group: tuple[tuple[str, int], Iterable[str]]) -> Iterator[Shard]:
        """Writes one shard."""
        (split, index), names = group
        part = runs.part_index(split, index, self._experiment.data.shards)
        yield self._write(split, index, [runs.RunPart(Path(name), part) for name in sorted(set(names))])

    def _write(self, split: str, index: int, parts: list[runs.RunPart]) -> Shard:
        directories = self._directories
        shard = write_shard(
            experiment=self._experiment,
            split=split,
            index=index,
            parts=parts,
            data=directories.data,
            work=directories.work,
        )
        count("shards", 1)
        count("shard_bytes", shard.bytes)
        return shard


class WriteShuffledShard(WriteShard):
    """All rows of a shard, as the engine brings them, into its file; they wait on the worker's own disk to be sorted."""

    def process(self, group: tuple[tuple[str, int], Iterable[pa.RecordBatch]]) -> Iterator[Shard]:  # type: ignore[override]
        """Writes one shard."""
        (split, index), batches = group
        with temporary_directory() as disk:
            parts = []
            for number, batch in enumerate(batches):
                parts.append(runs.RunPart(disk / f"{number}.arrow", 0))
                runs.write_run([batch], parts[-1].path)
            yield self._write(split, index, parts)


class Collect(beam.PTransform):
    """All elements of a small collection as a pickled list in one file of the scratch space."""

    def __init__(self, path: Path):
        super().__init__()
        self._path = path

    def expand(self, collection: beam.PCollection) -> beam.PCollection:
        """Gathers and writes."""
        return (
            collection
            | "No key" >> beam.Map(lambda element: (None, element))
            | "All" >> beam.GroupByKey()
            | "Write" >> beam.Map(_dump, self._path)
        )


def write_batch(batch: pa.RecordBatch, path: Path) -> None:
    """Writes one batch as an Arrow file, which appears when it is whole."""
    with (
        replacing(path, sync=False) as temporary,
        pa.OSFile(os.fspath(temporary), "wb") as sink,
        pa.ipc.new_file(sink, batch.schema) as writer,
    ):
        writer.write_batch(batch)


def read_batch(path: str | Path) -> pa.RecordBatch:
    """Reads what `write_batch` wrote."""
    with pa.memory_map(os.fspath(path)) as source:
        return pa.ipc.open_file(source).get_batch(0)


def _dump(group: tuple[None, Iterable[Any]], path: Path) -> None:
    with replacing(path, sync=False) as temporary:
        temporary.write_bytes(pickle.dumps(list(group[1])))
