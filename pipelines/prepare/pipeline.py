"""The story of `prepare`, top to bottom: read, clean, split, learn the vocabularies, draw negatives, sort, write."""

from __future__ import annotations

from collections import Counter

import apache_beam as beam
import pyarrow as pa

from pipelines.prepare import stages
from pipelines.prepare.clean.cleaner import Cleaner
from pipelines.prepare.plan import Plan
from pipelines.prepare.read import reading
from pipelines.prepare.rows import ArrowBatchCoder  # noqa: F401  (registers the coder)
from pipelines.prepare.stages import Directories
from pipelines.prepare.write.vocabulary import MergeCounts
from ranker.config.data import TimeSplit


def build(pipeline: beam.Pipeline, plan: Plan, cleaner: Cleaner, directories: Directories) -> None:
    """Adds all steps of `prepare` to an empty pipeline.

    Rows travel as Arrow record batches. What is wider than a batch goes through files below `directories.work`,
    so that no engine has to hold the log; only names, counts and token tables are shuffled.
    """
    experiment, work = plan.experiment, directories.work
    raw = (
        pipeline
        | "Blocks" >> beam.Create(reading.blocks(list(plan.events)))
        | "Spread blocks" >> beam.Reshuffle()
        | "Read" >> typed(beam.ParDo(stages.ReadBlock(plan)))
    )
    clean = raw.rows | "Clean" >> typed(beam.ParDo(stages.CleanRows(cleaner)))
    rejected = (
        (raw.rejected, clean.rejected)
        | "All rejected" >> beam.Flatten()
        | "Keep rejected" >> beam.ParDo(stages.KeepRejected(work / "rejected"))
    )
    rows = clean.rows
    if isinstance(experiment.data.split, TimeSplit):
        rows = rows | "Split by time" >> SplitByTime(experiment.data.split.eval, directories)
    tokens = (
        rows
        | "Count tokens"
        >> beam.ParDo(stages.CountTokens(experiment)).with_output_types(tuple[str, pa.RecordBatch])
        | "Merge counts" >> beam.CombinePerKey(MergeCounts())
        | "Write vocabulary"
        >> beam.ParDo(stages.WriteVocabulary(experiment, directories.data / "vocabulary"))
    )
    tallies = [raw.tally, clean.tally, rejected, tokens]
    if experiment.data.negatives is not None:
        rows, sampled = rows | "Negatives" >> stages.DrawNegatives(experiment, work)
        tallies.append(sampled)
    shards = (
        rows
        | "Sort into runs" >> beam.ParDo(stages.WriteRun(experiment, work / "runs"))
        | "Runs of a shard" >> beam.GroupByKey()
        | "Write shard" >> beam.ParDo(stages.WriteShard(experiment, directories))
    )
    (
        (*tallies, shards)
        | "All results" >> beam.Flatten()
        | "Collect" >> stages.Collect(work / "results.pickle")
    )


class SplitByTime(beam.PTransform):
    """Holds all rows on disk until the first held-out moment is known."""

    def __init__(self, share: float, directories: Directories):
        super().__init__()
        self._share = share
        self._directories = directories

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        """Adds the steps."""
        return (
            rows
            | "Hold" >> beam.ParDo(stages.HoldRows(self._directories.work / "held"))
            | "One key" >> beam.Map(lambda path: (None, path))
            | "All held" >> beam.GroupByKey()
            | "Find threshold" >> beam.ParDo(stages.FindThreshold(self._share))
            | "Spread files" >> beam.Reshuffle()
            | "Split" >> beam.MapTuple(stages.split_by_time).with_output_types(pa.RecordBatch)
        )


def typed(step: beam.ParDo) -> beam.PTransform:
    """A step with its three outputs; only where the type is said does Beam use the coder for Arrow batches."""
    step = step.with_output_types(pa.RecordBatch, rejected=pa.RecordBatch, tally=Counter)
    return step.with_outputs("rejected", "tally", main="rows")
