"""One shard of one split: its rows in order, as TFRecord, with what must be known about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.prepare.order import runs
from pipelines.prepare.rows import ORDER
from pipelines.prepare.write import probe
from pipelines.prepare.write.examples import encode, is_empty, wire_text
from pipelines.prepare.write.statistics import NumericStatistics
from ranker import layout
from ranker.config import Experiment
from ranker.files import replacing
from ranker.tfrecord import Writer


@dataclass
class Shard:
    """A written shard.

    Attributes:
        split: `train` or `eval`.
        index: its number.
        name: its file, relative to the data directory.
        rows: rows in it.
        positives: of them, with a label above 0.
        label: statistics of the label.
        records: Examples in it.
        bytes: size of the file.
        sha256: of the file.
        numeric: statistics of numeric features (training split).
        missing: missing values of categorical features (training split).
        requests: how many it has, and
        varying: in how many a context feature has more than one value (eval split).
    """

    split: str
    index: int
    name: str
    rows: int = 0
    positives: int = 0
    label: NumericStatistics = field(default_factory=NumericStatistics)
    records: int = 0
    bytes: int = 0
    sha256: str = ""
    numeric: dict[str, NumericStatistics] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    varying: Counter[str] = field(default_factory=Counter)


def write_shard(
    experiment: Experiment, split: str, index: int, parts: Sequence[runs.RunPart], data: Path, work: Path
) -> Shard:
    """Writes one shard.

    Args:
        experiment: the configuration.
        split: `train` or `eval`.
        index: number of the shard.
        parts: its rows.
        data: the data directory.
        work: for an eval shard's sample of probe requests.

    Returns:
        What was written.
    """
    count = experiment.data.shards
    shard = Shard(split, index, f"{split}/{layout.shard_name(index, count)}")
    merged = runs.merge_train(parts, index, count) if split == "train" else runs.merge_eval(parts)
    sample = probe.Sample(experiment) if split == "eval" else None
    remainder: pa.RecordBatch | None = None
    with replacing(data / shard.name, sync=False) as temporary, Writer(temporary) as writer:
        for batch in merged:
            if sample is not None:
                sample.add(batch)
                _count_varying(batch, shard, experiment)
            batch = batch.drop_columns([ORDER])
            batch = batch if remainder is None else pa.concat_batches([remainder, batch])
            whole = batch.num_rows - batch.num_rows % layout.BLOCK_ROWS
            _write(batch.slice(0, whole), shard, writer, experiment)
            remainder = batch.slice(whole)
        if remainder is not None:
            _write(remainder, shard, writer, experiment)
    shard.sha256, shard.records, shard.bytes = writer.sha256, writer.records, writer.bytes
    if sample is not None:
        sample.write(work / f"probe-{index:05d}.parquet")
    return shard


def _count_varying(rows: pa.RecordBatch, shard: Shard, experiment: Experiment) -> None:
    """Counts the requests of a batch, whole and side by side, in which a context feature changes."""
    if not rows.num_rows:
        return
    request = rows.column(layout.REQUEST)
    is_next = pc.not_equal(request[1:], request[:-1]).to_numpy(zero_copy_only=False)
    number = np.concatenate([[0], np.cumsum(is_next)])
    shard.requests += int(number[-1]) + 1
    for name in experiment.context_features:
        column = rows.column(name)
        if pa.types.is_floating(column.type):
            values = column.to_numpy()
            differs = (values[1:] != values[:-1]) & ~(np.isnan(values[1:]) & np.isnan(values[:-1]))
        else:
            differs = pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
        shard.varying[name] += len(np.unique(number[1:][differs & ~is_next]))


def _write(rows: pa.RecordBatch, shard: Shard, writer: Writer, experiment: Experiment) -> None:
    if not rows.num_rows:
        return
    request = rows.schema.get_field_index(layout.REQUEST)
    wire = rows.set_column(request, layout.REQUEST, wire_text(rows.column(request)))
    writer.write(encode(wire))
    shard.rows += rows.num_rows
    label = rows.column(layout.LABEL).to_numpy()
    shard.positives += int(np.count_nonzero(label > 0))
    shard.label.add(label)
    if shard.split != "train":
        return
    for name, feature in experiment.features.items():
        column = rows.column(name)
        if feature.kind == "numeric":
            shard.numeric.setdefault(name, NumericStatistics()).add(column.to_numpy())
        else:
            missing = pc.sum(is_empty(column)).as_py() or 0
            shard.missing[name] = shard.missing.get(name, 0) + missing
