"""`CompareReplicas`: the comparison of models as a transform for anybody's pipeline over logged predictions.

Rows meet by their request: a hash of the request's id picks a shard, and Beam's shuffle moves Arrow batches keyed by
shard, not single rows. A shard is measured where it lands; what leaves it are sums that merge. A request is never cut,
and there are many more shards than workers, so that no worker gets a share that depends on how skewed the log is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google_crc32c import value as crc32c

from pipelines.evaluate.quality import Means, merge_quality, shard_quality
from ranker.divergence import Comparison, Settings, measure_requests
from ranker.errors import UserError
from ranker.scored.align import ModelScores, align, text_column

BATCH_ROWS = 1 << 16
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("request", "item", "model")),
        *((name, pa.float64()) for name in ("score", "label")),
    ]
)


@dataclass(frozen=True)
class ReplicaComparison:
    """What `CompareReplicas` gives; merges with those of other rows of other requests.

    Attributes:
        comparison: statistics of every pair of models, with the coverage of each.
        quality: model -> measure -> (mean, weight), of the rows with labels. AUC is not among them: it cannot be merged
            from parts exactly.
        rows: rows read, by model.
        repeated: rows whose request and item came before, by model.
        contradicted: of these, rows with another score, by model.
    """

    comparison: Comparison = field(default_factory=Comparison.empty)
    quality: dict[str, Means] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    contradicted: dict[str, int] = field(default_factory=dict)

    def merge(self, addend: ReplicaComparison) -> ReplicaComparison:
        """Both together. Associative and commutative, up to the rounding of sums."""
        models = dict.fromkeys([*self.quality, *addend.quality])
        return ReplicaComparison(
            self.comparison.merge(addend.comparison),
            {
                model: merge_quality(
                    [side.quality[model] for side in (self, addend) if model in side.quality]
                )
                for model in models
            },
            _added(self.rows, addend.rows),
            _added(self.repeated, addend.repeated),
            _added(self.contradicted, addend.contradicted),
        )


def _added(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in {**a, **b}}


class CompareReplicas(beam.PTransform):
    """Compares models by rows of (request, item, model, score[, label]).

    Input: Arrow tables or record batches with these columns, `ModelScores` (what `serving.prediction_logs` reads from TF
    Serving's request logs), or rows as dictionaries or named tuples, in any order and mixture. Ids may be text, numbers or
    times: their text is that of `ranker.text`. Scores are probabilities. Rows without a model are of a label log: their
    label is that of their request and item wherever a model's row has none; of several the highest counts (a click among
    impressions). Output: one `ReplicaComparison`.

    A request is never cut: the rows of the largest one, for all models, must fit into a worker's memory.

    Args:
        models: the names of the models, at least two.
        k: how deep the top of a list is.
        shards: parts that requests are divided into; many more than workers. A part must fit into a worker's memory.

    Raises:
        UserError: fewer than two models, a name twice, `shards` below 1; while it runs: a row of another model, or without
            a column.
    """

    def __init__(self, models: Sequence[str], *, k: int = 10, shards: int = 256):
        super().__init__()
        if len(models) < 2 or len(set(models)) != len(models):
            raise UserError(
                f"`models` must be at least two distinct names. Received: {', '.join(models) or 'none'}"
            )
        if shards < 1:
            raise UserError(f"`shards` must be >= 1. Received: {shards}")
        self.models, self.k, self.shards = tuple(models), k, shards

    def expand(self, rows: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            rows
            | "Divide by request" >> beam.ParDo(DivideByRequest(self.models, self.shards))
            | "Meet" >> beam.GroupByKey()
            | "Measure" >> beam.ParDo(MeasureShard(self.models, self.k))
            | "Merge" >> beam.CombineGlobally(MergeComparisons())
        )


class DivideByRequest(beam.DoFn):
    """Rows -> (shard, Arrow batch as bytes). Single rows are gathered to batches within a bundle."""

    def __init__(self, models: Sequence[str], shards: int):
        self._models, self._shards = tuple(models), shards
        self._pending: list[Mapping[str, Any]] = []
        self._windowed: Any = None

    def start_bundle(self) -> None:  # noqa: D102
        self._pending = []

    def process(self, element: Any, window: Any = beam.DoFn.WindowParam) -> Iterator[tuple[int, bytes]]:  # noqa: D102
        self._windowed = window
        if isinstance(element, ModelScores):
            element = _table_of(element)
        if isinstance(element, (pa.Table, pa.RecordBatch)):
            table = pa.Table.from_batches([element]) if isinstance(element, pa.RecordBatch) else element
            yield from self._divide(table)
            return
        self._pending.append(element if isinstance(element, Mapping) else element._asdict())
        if len(self._pending) >= BATCH_ROWS:
            yield from self._divide(self._gathered())

    def finish_bundle(self) -> Iterator[Any]:  # noqa: D102
        if self._pending:
            from apache_beam.utils.windowed_value import WindowedValue

            for pair in self._divide(self._gathered()):
                yield WindowedValue(pair, self._windowed.max_timestamp(), (self._windowed,))

    def _gathered(self) -> pa.Table:
        names = dict.fromkeys(name for row in self._pending for name in row)
        columns = {name: [row.get(name) for row in self._pending] for name in names}
        self._pending = []
        return pa.table(columns)

    def _divide(self, table: pa.Table) -> Iterator[tuple[int, bytes]]:
        table = _canonical(table, self._models)
        encoded = table["request"].combine_chunks().dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        hashes = np.array([crc32c(text.encode()) for text in encoded.dictionary.to_pylist()], np.int64)
        shard = (hashes % self._shards)[encoded.indices.to_numpy()]
        order = np.argsort(shard, kind="stable")
        table = table.take(pa.array(order)).combine_chunks()
        numbers, starts = np.unique(shard[order], return_index=True)
        for number, start, stop in zip(numbers, starts, [*starts[1:], len(order)], strict=True):
            yield int(number), _to_bytes(table.slice(start, stop - start))


def _table_of(scores: ModelScores) -> pa.Table:
    columns = {
        "request": scores.request,
        "item": scores.item,
        "model": pa.repeat(scores.model, len(scores.score)),
        "score": scores.score,
    }
    return pa.table(columns if scores.label is None else {**columns, "label": scores.label})


def _canonical(table: pa.Table, models: Sequence[str]) -> pa.Table:
    """The columns by their names, ids as text, numbers as float64."""
    is_labels = "model" not in table.column_names and "label" in table.column_names
    required = ("request", "item") if is_labels else ("request", "item", "model", "score")
    absent = [name for name in required if name not in table.column_names]
    if absent:
        raise UserError(f"rows must have {', '.join(absent)}. Received: {', '.join(table.column_names)}")
    columns: list[Any] = []
    for name in ("request", "item"):
        columns.append(text_column(table[name]))
    # Null in rows of a label log. The text of null would be the name of a model.
    model = table["model"] if "model" in table.column_names else pa.nulls(len(table))
    if model.null_count == len(table):
        columns.append(pa.nulls(len(table), pa.string()))
    else:
        columns.append(pc.if_else(pc.is_valid(model), text_column(model), None))
    for name in ("score", "label"):
        column = table[name] if name in table.column_names else pa.nulls(len(table), pa.float64())
        columns.append(column.cast(pa.float64()))
    table = pa.table(columns, schema=SCHEMA)
    strangers = set(table["model"].drop_null().unique().to_pylist()) - set(models)
    if strangers:
        raise UserError(f"a row's model must be one of {', '.join(models)}. Received: {min(strangers)!r}")
    return table


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    # Texts of ids and names repeat: what is shuffled is held in memory or sent.
    with pa.ipc.new_stream(sink, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


class MeasureShard(beam.DoFn):
    """(shard, Arrow batches) -> `ReplicaComparison`."""

    def __init__(self, models: Sequence[str], k: int):
        self._models, self._k = tuple(models), k

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[ReplicaComparison]:  # noqa: D102
        # In an order of their own, so that which of two repeated rows counts does not depend on the runner.
        batches = sorted(element[1])
        table = pa.concat_tables([pa.ipc.open_stream(batch).read_all() for batch in batches])
        yield compare_rows(table, self._models, self._k)


def compare_rows(table: pa.Table, models: Sequence[str], k: int) -> ReplicaComparison:
    """The comparison of whole requests, in memory.

    Args:
        table: of `SCHEMA`.
        models: names, in the order of the result's pairs.
        k: how deep the top of a list is.
    """
    is_label = pc.is_null(table["model"])
    labels = table.filter(is_label)
    table = _labelled(table.filter(pc.invert(is_label)), labels)
    model = table["model"].to_numpy(zero_copy_only=False)
    sides = []
    for name in models:
        rows = pa.array(np.flatnonzero(model == name))
        part = table.take(rows)
        sides.append(
            ModelScores(
                name, part["request"], part["item"], part["score"].to_numpy(), part["label"].to_numpy()
            )
        )
    aligned = align(sides)
    settings, total = Settings(k=k), Comparison.empty()
    for batch in aligned.request_batches(aligned.scores):
        total = total.merge(measure_requests(batch, settings).summarise())
    quality = {}
    if aligned.label is not None and not np.isnan(aligned.label).all():
        for name, scores in zip(models, aligned.scores, strict=True):
            labelled = ~np.isnan(aligned.label) & ~np.isnan(scores)
            if labelled.any():
                request = np.unique(aligned.request[labelled], return_inverse=True)[1]
                quality[name] = shard_quality(aligned.label[labelled], scores[labelled], request)
    return ReplicaComparison(
        total,
        quality,
        {side.model: len(side.score) for side in sides},
        dict(zip(models, aligned.repeated.tolist(), strict=True)),
        dict(zip(models, aligned.contradicted.tolist(), strict=True)),
    )


def _labelled(table: pa.Table, labels: pa.Table) -> pa.Table:
    """Rows of models, with the label of a label log where they have none."""
    if not len(labels):
        return table
    # NaN is no label, and would be the highest.
    labels = labels.filter(pc.is_finite(labels["label"]))
    logged = labels.group_by(["request", "item"]).aggregate([("label", "max")])
    joined = table.join(logged, ["request", "item"], join_type="left outer")
    own_label = pc.if_else(pc.is_nan(pc.fill_null(joined["label"], np.nan)), None, joined["label"])
    label = pc.coalesce(own_label, joined["label_max"])
    return joined.set_column(joined.schema.get_field_index("label"), "label", label).select(SCHEMA.names)


class MergeComparisons(beam.CombineFn):
    """Merges the shards' results; nothing gives the empty one."""

    def create_accumulator(self) -> ReplicaComparison:  # noqa: D102
        return ReplicaComparison()

    def add_input(self, accumulator: ReplicaComparison, result: ReplicaComparison) -> ReplicaComparison:  # noqa: D102
        return accumulator.merge(result)

    def merge_accumulators(self, accumulators: Iterable[ReplicaComparison]) -> ReplicaComparison:  # noqa: D102
        total = ReplicaComparison()
        for accumulator in accumulators:
            total = total.merge(accumulator)
        return total

    def extract_output(self, accumulator: ReplicaComparison) -> ReplicaComparison:  # noqa: D102
        return accumulator
