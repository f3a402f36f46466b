"""`prepare`: the whole stage, from a configuration to a published data directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines.prepare import pipeline
from pipelines.prepare.clean import Cleaner
from pipelines.prepare.finish import finish
from pipelines.prepare.join import read_table
from pipelines.prepare.manifest import Manifest
from pipelines.prepare.plan import make_plan
from pipelines.prepare.publish import explained, staging
from pipelines.prepare.stages import Directories
from pipelines.runner import RunnerOptions
from ranker import layout
from ranker.config import Experiment


@dataclass(frozen=True)
class Progress:
    """How far a stage has come.

    Attributes:
        stage: what is being done, for people.
        done: units done.
        total: units there are; 0 if not known.
        unit: what is counted.
    """

    stage: str
    done: int = 0
    total: int = 0
    unit: str = ""


def prepare(
    experiment: Experiment,
    run_dir: Path | str,
    options: RunnerOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
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
    run, report = Path(run_dir), progress or (lambda _: None)
    options = options or RunnerOptions()
    plan = make_plan(experiment)
    there = Manifest.read(layout.manifest_path(run))
    if there is not None and there.inputs == plan.inputs:
        report(
            Progress("data unchanged, nothing to prepare", there.counts["read"], there.counts["read"], "rows")
        )
        return there
    target = layout.data_dir(run)
    with staging(target) as data, explained(target):
        directories = Directories(data, data / ".work")
        for name in (
            "train",
            "eval",
            "vocabulary",
            "rejected",
            ".work/tables",
            ".work/rejected",
            ".work/held",
            ".work/runs",
        ):
            (data / name).mkdir(parents=True)
        tables = {table.name: read_table(plan, table, directories.work / "tables") for table in plan.tables}
        cleaner = Cleaner(experiment, {name: table.side for name, table in tables.items()}, plan.derives)
        graph = options.pipeline()
        pipeline.build(graph, plan, cleaner, directories)
        options.run(graph)
        report(Progress("writing the manifest"))
        manifest = finish(plan, tables, directories)
        directories.clear()
    return manifest
