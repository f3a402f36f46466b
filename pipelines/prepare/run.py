"""`prepare`: the whole stage, from a configuration to a published data directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pipelines.prepare import pipeline
from pipelines.prepare.clean import Cleaner
from pipelines.prepare.drift import drift
from pipelines.prepare.finish import finish
from pipelines.prepare.join import read_table
from pipelines.prepare.manifest import Manifest
from pipelines.prepare.plan import make_plan
from pipelines.prepare.publish import explained, staging
from pipelines.prepare.stages import Directories
from pipelines.runner import RunnerOptions
from ranker import layout
from ranker.config import Experiment

Progress = Callable[[str, float | None], None]
"""Told how the work stands: a text, and the share that is done where it is known."""

_DIRECTORIES = ("train", "eval", "vocabulary", "rejected",
                ".work/tables", ".work/rejected", ".work/held", ".work/runs")  # fmt: skip


def prepare(
    experiment: Experiment,
    run_dir: Path | str,
    options: RunnerOptions | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Prepares the data of an experiment in `RUN/data`.

    Nothing is done if the data there were made from the same configuration and files.

    Args:
        experiment: the configuration.
        run_dir: the run directory; made if it is not there.
        options: which engine, how many workers; this machine and one worker if not given.
        progress: called with how far the work has come.

    Returns:
        The manifest of what is there now.

    Raises:
        UserError: a mistake in the configuration or the files, or no room to write.
    """
    run, report = Path(run_dir), progress or (lambda text, share: None)
    options = options or RunnerOptions()
    plan = make_plan(experiment)
    there = Manifest.read(layout.manifest_path(run))
    if there is not None and there.inputs == plan.inputs:
        report("prepare: data unchanged, nothing to do", 1.0)
        return there
    target = layout.data_dir(run)
    with staging(target) as data, explained(target):
        directories = Directories(data, data / ".work")
        for name in _DIRECTORIES:
            (data / name).mkdir(parents=True)
        tables = {table.name: read_table(plan, table, directories.work / "tables") for table in plan.tables}
        cleaner = Cleaner(experiment, {name: table.side for name, table in tables.items()}, plan.derives)
        graph = options.pipeline()
        pipeline.build(graph, plan, cleaner, directories)
        options.run(graph)
        report("prepare: writing the manifest", None)
        manifest = finish(plan, tables, directories)
        for line in _changes(target / "statistics.json", data / "statistics.json"):
            report(f"prepare: since the last run, {line}", None)
        directories.clear()
    return manifest


def _changes(old: Path, new: Path) -> list[str]:
    """What drifted since the data that were here before."""
    try:
        before = json.loads(old.read_text(encoding="utf-8"))
        return [
            str(one) for one in drift(before, json.loads(new.read_text(encoding="utf-8"))) if one.exceeded
        ]
    except (OSError, ValueError, KeyError):
        return []
