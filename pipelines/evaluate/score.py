"""One shard scored by every model of the run, side by side: rows meet their predictions without a join."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.utils.shared import Shared

from pipelines.evaluate.baseline import COLUMN, LogisticRegression
from pipelines.evaluate.progress import write_rows
from pipelines.evaluate.replicas import TrainedReplica
from pipelines.evaluate.shard import measure_shard, merge_shards, sums_by_model
from pipelines.evaluate.spill import TableWriter
from ranker import layout
from ranker.config import Experiment
from ranker.errors import UserError
from ranker.files import replacing, write_whole
from ranker.json_text import json_text
from ranker.scored.scale import ValueRange
from ranker.storage import is_remote, location
from ranker.working_copy import fetch_prepared, fetch_version

if TYPE_CHECKING:
    from ranker.features import FeatureEncoder

CHUNK_ROWS = 1 << 16
"""Rows of a shard whose predictions are in memory at a time, and the rest of a request."""
Raw = Mapping[str, Any]
"""Column -> tensor [rows]."""
TRAINED: dict[Path, Callable[[Raw], np.ndarray]] = {}
"""Versions that this process has trained itself, and need not load: their directory -> what scores as they do."""


class Models:
    """All SavedModels of the run in memory, and the encoder of the baseline."""

    def __init__(self, experiment: Experiment, run: Path, replicas: Sequence[TrainedReplica]):
        from ranker.backend import tf
        from ranker.features import FeatureEncoder
        from ranker.inputs import plan

        self.encoder: FeatureEncoder = FeatureEncoder(plan(experiment, fetch_prepared(run)))
        self._modules = {}
        self._trained = {r.name: TRAINED[Path(r.path)] for r in replicas if Path(r.path) in TRAINED}
        for replica in replicas:
            if replica.name in self._trained:
                continue
            try:
                path = fetch_version(location(replica.path))
                self._modules[replica.name] = tf.saved_model.load(str(path))
            except (OSError, ValueError, tf.errors.OpError) as error:
                reason = str(error).splitlines()[0]
                raise UserError(
                    f"replica {replica.name}: {replica.path} cannot be loaded: {reason}"
                ) from None
        # A signature alone does not keep its module, which owns the vocabularies.
        self._signatures = {
            name: module.signatures["serving_default"] for name, module in self._modules.items()
        }

    def scores(self, raw: Raw) -> dict[str, np.ndarray]:
        """Probabilities of one block by every model, float32 [rows] each."""
        result = {name: score(raw) for name, score in self._trained.items()}
        for name, signature in self._signatures.items():
            inputs = signature.structured_input_signature[1]
            result[name] = signature(**{column: raw[column] for column in inputs})["score"].numpy()[:, 0]
        return result


class ScoreShard(beam.DoFn):
    """Scores the shard an element names: predictions to Parquet, statistics to JSON and sums by score beside.

    A mistake that the user can act on becomes the shard's `error`: the other shards are not lost to it.

    Args:
        experiment: the configuration.
        run: the run directory.
        replicas: whose predictions are wanted.
        baseline: the logistic regression, if there is one.
        value_range: of a regression's values; None: scores are probabilities.
        directory: where both files go.
    """

    def __init__(
        self,
        experiment: Experiment,
        run: Path,
        replicas: Sequence[TrainedReplica],
        baseline: LogisticRegression | None,
        directory: Path,
        value_range: ValueRange | None = None,
    ):
        self._value_range = value_range
        self._experiment, self._run, self._replicas = experiment, run, list(replicas)
        self._baseline, self._directory = baseline, directory
        self._shared = Shared()

    def process(self, shard: str) -> None:
        """Scores one shard; `shard` is its path."""
        name = Path(shard).stem
        statistics: dict[str, Any]
        try:
            models = self._shared.acquire(lambda: Models(self._experiment, self._run, self._replicas))
            local = fetch_prepared(self._run, [f"eval/{Path(shard).name}"])
            path = layout.split_dir(local, "eval") / Path(shard).name
            scored = self._score(path, models, rows_path(self._directory, name))
            with (
                replacing(predictions_path(self._directory, name), sync=False) as predictions,
                replacing(sums_path(self._directory, name), sync=False) as sums,
            ):
                statistics = self._measure(scored, predictions, sums)
            beam.metrics.Metrics.counter("evaluate", "rows").inc(statistics["result"]["counts"]["rows"])
            beam.metrics.Metrics.counter("evaluate", "shards").inc()
        except UserError as error:
            statistics = {"error": str(error)}
        write_whole(statistics_path(self._directory, name), json_text(statistics))

    def _measure(self, scored: Iterator[pa.RecordBatch], predictions: Path, sums: Path) -> dict[str, Any]:
        """Writes predictions and sums of a shard; returns its statistics, and where each model's sums are."""
        arms: dict[str, list[str]] = {}
        for replica in self._replicas:
            arms.setdefault(replica.arm, []).append(replica.name)
        further = [COLUMN] if self._baseline else []
        models = [*(replica.name for replica in self._replicas), *further]
        results = []
        schema = self._schema
        with (
            pq.ParquetWriter(predictions, schema, compression="zstd") as writer,
            sums.open("wb") as file,
        ):
            tables = TableWriter(file)
            for table in whole_requests(scored, schema, CHUNK_ROWS):
                self._check(table)
                writer.write_table(table)
                results.append(measure_shard(table, arms, further, self._value_range))
                for model, by_score in sums_by_model(table, models, self._value_range):
                    tables.write(model, by_score)
        return {"result": merge_shards(results).as_dict(), "sums": tables.places}

    @property
    def _stored(self) -> dict[str, str]:
        """Column of the predictions -> the key of an example that it comes from."""
        expressions = {key: layout.EXPRESSIONS[key] for key in self._experiment.data.stored_values}
        return {"request": layout.REQUEST, "item": self._experiment.item, **expressions}

    @property
    def _schema(self) -> pa.Schema:
        return _schema(self._replicas, list(self._stored), self._baseline is not None)

    def _score(self, shard: Path, models: Models, done: Path) -> Iterator[pa.RecordBatch]:
        stored, columns = self._stored, self._schema
        rows_scored = 0
        for raw, rows in read_blocks(shard, models.encoder, self._experiment.data.stored_values):
            values = {name: raw[column] for name, column in stored.items()}
            values = {key: tensor.numpy()[:rows] for key, tensor in values.items()}
            scores = {name: score[:rows] for name, score in models.scores(raw).items()}
            if self._baseline is not None:
                encoded = models.encoder({name: raw[name] for name in models.encoder.raw_signature()})
                ids, dense = encoded["ids"].numpy()[:rows], encoded["dense"].numpy()[:rows]
                scores[COLUMN] = self._baseline.predict(ids, dense)
            yield pa.RecordBatch.from_arrays(
                [pa.array(values.get(f.name, scores.get(f.name)), f.type) for f in columns],
                schema=columns,
            )
            rows_scored += rows
            if not is_remote(done):
                write_rows(done, rows_scored)

    def _check(self, table: pa.Table) -> None:
        for replica in self._replicas:
            score = table[replica.name].to_numpy()
            is_value = self._value_range is not None
            bad = int((~np.isfinite(score) if is_value else ~((score >= 0) & (score <= 1))).sum())
            if bad:
                raise UserError(
                    f"replica {replica.name}: {replica.path} gives {bad} of {len(score)} scores that are"
                    f" {'not finite' if is_value else 'no probability'}; its training has diverged"
                )


def whole_requests(batches: Iterable[pa.RecordBatch], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """Gathers batches to tables of whole requests: of at least `rows` rows, but for the last; one if there is no row.

    Args:
        batches: with a column `request`; the rows of a request stand together.
        schema: of the batches.
        rows: of a table, at least.
    """
    pending: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        pending.append(batch)
        count += batch.num_rows
        if count < rows:
            continue
        table = pa.Table.from_batches(pending, schema)
        is_last = pc.equal(table["request"], table["request"][-1])
        end = int(is_last.to_numpy().argmax())  # of a request that may go on
        if end > 0:
            yield table[:end].combine_chunks()
            pending, count = table[end:].combine_chunks().to_batches(), count - end
    yield pa.Table.from_batches(pending, schema)


def read_blocks(
    shard: Path, encoder: FeatureEncoder, expressions: Sequence[str]
) -> Iterator[tuple[Raw, int]]:
    """The raw columns of one shard, a block of exactly `BLOCK_ROWS` rows at a time.

    A short block is filled with its own rows: float results depend on the batch size in their last digits, so
    that every score is computed at the same one.

    Returns:
        Column -> tensor [BLOCK_ROWS], and how many of the rows are real.

    Raises:
        UserError: the shard cannot be read.
    """
    from ranker.backend import tf
    from ranker.training.rows.examples import parse_block

    parse = parse_block(encoder, expressions, requests=True)
    records = tf.data.TFRecordDataset([str(shard)])
    dataset = records.map(tf.autograph.experimental.do_not_convert(parse)).prefetch(2)
    try:
        for raw in dataset:
            rows = int(tf.size(raw[layout.LABEL]))
            for start in range(0, rows, layout.BLOCK_ROWS):
                count = min(layout.BLOCK_ROWS, rows - start)
                position = start + tf.range(layout.BLOCK_ROWS) % count
                yield {name: tf.gather(values, position) for name, values in raw.items()}, count
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
        raise UserError(f"{shard}: cannot be read: {error.message.splitlines()[0]}") from None


def predictions_path(directory: Path, shard: str) -> Path:
    """Where one shard's predictions go."""
    return directory / "predictions" / f"{shard}.parquet"


def sums_path(directory: Path, shard: str) -> Path:
    """Where one shard's rows go, added up by each model's score, until the report is made."""
    return directory / ".work" / f"{shard}.sums"


def statistics_path(directory: Path, shard: str) -> Path:
    """Where one shard's statistics go, until the report is made."""
    return directory / ".work" / f"{shard}.json"


def rows_path(directory: Path, shard: str) -> Path:
    """The file that counts a shard's scored rows while they are scored."""
    return directory / ".work" / f"{shard}.rows"


def _schema(replicas: Sequence[TrainedReplica], stored: Sequence[str], baseline: bool) -> pa.Schema:
    fields = [(name, pa.string() if name in ("request", "item") else pa.float32()) for name in stored]
    fields += [(replica.name, pa.float32()) for replica in replicas]
    return pa.schema(fields + ([(COLUMN, pa.float32())] if baseline else []))
