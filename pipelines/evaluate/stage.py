"""`evaluate`: the whole stage, from replicas to a report."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np

from pipelines.evaluate import baseline as linear
from pipelines.evaluate.baseline import COLUMN, LogisticRegression
from pipelines.evaluate.page import page
from pipelines.evaluate.progress import reported_progress
from pipelines.evaluate.quality import K, Means, quality_values
from pipelines.evaluate.replicas import TrainedReplica, find_replicas
from pipelines.evaluate.report import build
from pipelines.evaluate.score import ScoreShard, statistics_path, sums_path
from pipelines.evaluate.shard import ShardResult, merge_shards
from pipelines.evaluate.spill import SpilledTable, merged
from pipelines.progress import StageProgress, silent
from pipelines.record import read_records, save_record
from pipelines.runner import RunnerOptions
from ranker import __version__, layout, storage
from ranker.config import Experiment, fingerprint
from ranker.errors import UserError
from ranker.files import explained, staging
from ranker.inputs import TrainingTarget, plan
from ranker.json_text import json_text
from ranker.scored.scale import ValueRange
from ranker.storage import location
from ranker.training.specs import read_manifest
from ranker.working_copy import fetch_prepared, scratch, train_shards


def evaluate(
    experiment: Experiment,
    run_dir: Path | str,
    options: RunnerOptions | None = None,
    progress: StageProgress = silent,
) -> dict[str, Any]:
    """Scores the eval split with every replica and compares them: `RUN/evaluation`.

    Does nothing if the existing report was made from the same data and replicas.

    Args:
        experiment: the configuration.
        run_dir: the run directory, after `prepare` and `train`.
        options: which engine, how many workers; this machine and one worker if not given.
        progress: gets the progress.

    Returns:
        The report, as `report.json` has it.

    Raises:
        UserError: data or replicas are missing or do not fit together, or the eval split is empty.
    """
    run, options, began = location(run_dir), options or RunnerOptions(), time.monotonic()
    manifest = read_manifest(run)
    replicas = find_replicas(experiment, run, manifest)
    inputs = fingerprint(
        experiment.name,
        experiment.item,
        experiment.monitor.budget,
        manifest["fingerprint"],
        [replica.as_dict() for replica in replicas],
        K,
        __version__,
    )
    previous = _read_report(run)
    if previous is not None and previous.get("inputs") == inputs:
        progress("evaluate: unchanged, kept", 1.0)
        return previous
    shards = layout.shard_paths(run, "eval")
    if not shards:
        raise UserError(f"{layout.split_dir(run, 'eval')}: has no examples; run `ranker prepare` first")
    target = layout.evaluation_dir(run)
    with staging(target, "report.json") as fresh, explained(target):
        (fresh / "predictions").mkdir()
        (fresh / ".work").mkdir()
        progress("evaluate: fitting a logistic regression for comparison")
        local = fetch_prepared(run, train_shards(run))
        model = fit_baseline(experiment, local)
        value_range = ValueRange.parse(plan(experiment, local).target.scale)
        with _results(run, fresh, options, manifest.get("counts", {}).get("eval", 0), progress) as results:
            graph = options.pipeline()
            _ = (
                graph
                | "Shards" >> beam.Create([str(shard) for shard in shards])
                # Without a shuffle between, all shards would be scored by the worker that created them.
                | "Spread" >> beam.Reshuffle()
                | "Score"
                >> beam.ParDo(
                    ScoreShard(
                        experiment=experiment,
                        run=run,
                        replicas=replicas,
                        baseline=model,
                        directory=results,
                        value_range=value_range,
                    )
                )
            )
            counters = options.run(graph)
        scored = [_read_shard(fresh, shard) for shard in shards]
        result = merge_shards([shard.result for shard in scored])
        if not result.counts["rows"]:
            raise UserError(f"{layout.split_dir(run, 'eval')}: has no rows; data.split must hold some out")
        tables: dict[str, list[SpilledTable]] = {}
        for shard in scored:
            for name, places in shard.tables.items():
                tables.setdefault(name, []).extend(places)
        weighted, is_value = experiment.data.weight is not None, value_range is not None
        quality = measure_quality(result.quality, tables, weighted, is_value)
        unweighted = measure_quality(result.unweighted, tables, False, is_value)
        arms: dict[str, list[TrainedReplica]] = {
            arm: [r for r in replicas if r.arm == arm] for arm in experiment.arms
        }
        save_record(run, "evaluate", time.monotonic() - began, counters)
        records = read_records(run)
        head = {
            "experiment": experiment.name,
            "inputs": inputs,
            "data": manifest["fingerprint"],
            "remarks": manifest.get("remarks", []),
            "versions": _versions(),
            "stages": {stage: record["seconds"] for stage, record in records.items()},
            "counters": {stage: record["counters"] for stage, record in records.items()},
        }
        described = _describe_baseline(model, quality, manifest)
        report = build(head, arms, result, quality, described, experiment.monitor.budget, unweighted)
        text = json_text(report, indent=1, ensure_ascii=False)
        (fresh / "report.json").write_text(text + "\n", encoding="utf-8")
        (fresh / "report.html").write_text(page(report), encoding="utf-8")
        shutil.rmtree(fresh / ".work")
    return report


@contextmanager
def _results(
    run: Path, fresh: Path, options: RunnerOptions, rows: int, progress: StageProgress
) -> Iterator[Path]:
    """Where workers write while the block runs; afterwards it is in `fresh`, whether they see this disk or not."""
    if storage.is_remote(run) and not options.is_local:
        with scratch(run, "evaluate") as results:
            yield results
            storage.fetch_tree(results, fresh)
        return
    with reported_progress(fresh / ".work", rows, progress):
        yield fresh


def fit_baseline(experiment: Experiment, run: Path) -> LogisticRegression | None:
    """Fits the logistic regression on the training split, or on a sample of it; None with one class only.

    It learns the label, whatever the replicas learn; of a regression there is none.
    """
    from ranker.training.rows.examples import blocks

    if experiment.task == "regression":
        return None
    inputs = replace(plan(experiment, run), target=TrainingTarget())
    weighted = experiment.data.weight is not None
    rows = linear.take_rows([blocks([path], inputs, weighted) for path in layout.shard_paths(run, "train")])
    if not rows:
        return None
    sizes = [size for column in inputs.embedded for size in [column.size, *[0] * (column.width - 1)]]
    return linear.fit(sizes, rows["ids"], rows["dense"], rows["label"], rows["weight"])


def measure_quality(
    means: Mapping[str, Means],
    tables: Mapping[str, Sequence[SpilledTable]],
    weighted: bool,
    is_value: bool,
) -> dict[str, dict[str, float]]:
    """Quality of every model, some of its rows in memory at a time.

    Args:
        means: of all shards, by model.
        tables: each model's rows added up by score.
        weighted: whether `means` are.
        is_value: whether scores are the values of a regression.
    """
    return {
        name: quality_values(of_model, merged(tables[name]), weighted=weighted, is_value=is_value)
        for name, of_model in means.items()
    }


class _ScoredShard(NamedTuple):
    """What `ScoreShard` left of a shard beside its predictions."""

    result: ShardResult
    tables: dict[str, list[SpilledTable]]


def _read_shard(directory: Path, shard: Path) -> _ScoredShard:
    document = json.loads(statistics_path(directory, shard.stem).read_text(encoding="utf-8"))
    if "error" in document:
        raise UserError(document["error"])
    path = sums_path(directory, shard.stem)
    tables = {
        name: [SpilledTable(path, *place) for place in places] for name, places in document["sums"].items()
    }
    return _ScoredShard(ShardResult.from_dict(document["result"]), tables)


def _describe_baseline(
    model: LogisticRegression | None, quality: Mapping[str, Mapping[str, float]], manifest: Mapping[str, Any]
) -> dict[str, Any]:
    if model is None:
        reason = "the label has values and no classes, or the training split has no rows or one class only"
        return {"model": None, "reason": reason}
    train_rows = manifest.get("counts", {}).get("train", model.rows)
    return {
        "model": "logistic regression",
        **quality[COLUMN],
        "trained_rows": model.rows,
        "train_rows": train_rows,
    }


def _read_report(run: Path) -> dict[str, Any] | None:
    try:
        return json.loads(layout.report_path(run).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _versions() -> dict[str, str]:
    from ranker.export import versions

    return {**versions(), "apache_beam": beam.__version__, "numpy": np.__version__}
