"""The story of `prepare`, top to bottom: read, clean, split, learn the vocabularies, draw negatives, sort, write."""

from __future__ import annotations

from collections import Counter

import apache_beam as beam
import pyarrow as pa

from pipelines.prepare import stages
from pipelines.prepare.clean.cleaner import Cleaner
from pipelines.prepare.order.threshold import DIGITS, begin
from pipelines.prepare.plan import Plan
from pipelines.prepare.read import reading
from pipelines.prepare.rows import ArrowBatchCoder  # noqa: F401  (registers the coder)
from pipelines.prepare.stages import Directories
from pipelines.prepare.write.vocabulary import MergeCounts
from ranker.config.data import TimeSplit


def build(
    pipeline: beam.Pipeline, plan: Plan, cleaner: Cleaner, directories: Directories, shuffled: bool
) -> None:
    """Adds all steps of `prepare` to an empty pipeline.

    Rows travel as Arrow record batches. On one machine they meet in files below `directories.work`, so that the local
    runner, which holds all that it shuffles in memory, need not hold the log: only names, counts and token tables are
    shuffled. On a cluster workers see no common disk, and the engine shuffles the rows, keyed by shard.

    Args:
        pipeline: where the steps go.
        plan: what is to be done.
        cleaner: of the rows.
        directories: where workers write.
        shuffled: whether the engine shuffles rows.
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
        share = experiment.data.split.eval
        by_time = ShuffledSplitByTime(share) if shuffled else SplitByTime(share, directories)
        rows = rows | "Split by time" >> by_time
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
    if shuffled:
        shards = (
            rows
            | "Divide by shard"
            >> beam.ParDo(stages.DivideRows(experiment)).with_output_types(
                tuple[tuple[str, int], pa.RecordBatch]
            )
            | "Rows of a shard" >> beam.GroupByKey()
            | "Write shard" >> beam.ParDo(stages.WriteShuffledShard(experiment, directories))
        )
    else:
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


class ShuffledSplitByTime(beam.PTransform):
    """Finds the first held-out moment by counting, digit by digit; rows wait wherever the engine holds them."""

    def __init__(self, share: float):
        super().__init__()
        self._share = share

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        """Adds the steps."""
        times = rows | "Times" >> beam.Map(stages.times_of).with_output_types(pa.RecordBatch)
        selection = (
            times
            | "Sizes" >> beam.Map(lambda batch: batch.num_rows)
            | "All rows" >> beam.CombineGlobally(sum)
            | "Begin" >> beam.Map(begin, self._share)
        )
        for digit in range(DIGITS):
            selection = (
                times
                | f"Count {digit}"
                >> beam.FlatMap(stages.count_digits, digit, beam.pvalue.AsSingleton(selection))
                | f"Sum {digit}" >> beam.CombineGlobally(stages.sum_counts)
                | f"Settle {digit}" >> beam.Map(stages.settle, digit, beam.pvalue.AsSingleton(selection))
            )
        split = beam.Map(stages.mark_held_out, beam.pvalue.AsSingleton(selection))
        return rows | "Split" >> split.with_output_types(pa.RecordBatch)


def typed(step: beam.ParDo) -> beam.PTransform:
    """A step with its three outputs; only where the type is said does Beam use the coder for Arrow batches."""
    step = step.with_output_types(pa.RecordBatch, rejected=pa.RecordBatch, tally=Counter)
    return step.with_outputs("rejected", "tally", main="rows")
