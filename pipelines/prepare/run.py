"""`prepare`: the whole stage, from a configuration to a published data directory."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from pipelines.prepare import pipeline
from pipelines.prepare.clean.cleaner import Cleaner
from pipelines.prepare.clean.join import ReadTable, read_table
from pipelines.prepare.clean.tables import SideTable
from pipelines.prepare.drift import drift
from pipelines.prepare.finish import finish
from pipelines.prepare.manifest import Manifest
from pipelines.prepare.plan import Plan, files_by_split, make_plan
from pipelines.prepare.read import reading
from pipelines.prepare.remarks import Limits
from pipelines.prepare.stages import Directories
from pipelines.prepare.watch import watched
from pipelines.progress import StageProgress, silent
from pipelines.record import save_record
from pipelines.runner import RunnerOptions
from ranker import layout
from ranker.config import Experiment
from ranker.errors import UserError
from ranker.files import explained, staging
from ranker.storage import fetch_tree, is_remote, local_files, location, objects, put, remove
from ranker.working_copy import scratch

_DIRECTORIES = (
    "train",
    "eval",
    "vocabulary",
    "rejected",
    ".work/tables",
    ".work/rejected",
    ".work/held",
    ".work/runs",
)


def prepare(
    experiment: Experiment,
    run_dir: Path | str,
    options: RunnerOptions | None = None,
    progress: StageProgress = silent,
) -> Manifest:
    """Prepares the data of an experiment in `RUN/data`.

    Nothing is done if the data there were made from the same configuration and files.

    Args:
        experiment: the configuration.
        run_dir: the run directory, made if it is not there; or its URI in an object store.
        options: which engine, how many workers; this machine and one worker if not given.
        progress: told how far the work has come.

    Returns:
        The manifest of what is there now.

    Raises:
        UserError: a mistake in the configuration or the files, or no room to write.
    """
    options, run, began = options or RunnerOptions(), location(run_dir), time.monotonic()
    plan = make_plan(experiment)
    existing = Manifest.read(layout.manifest_path(run))
    if existing is not None and existing.inputs == plan.inputs and existing.is_whole(layout.data_dir(run)):
        progress("prepare: data unchanged, nothing to do", 1.0)
        _speak(existing, progress)
        return existing
    manifest, counters = _prepare(plan, run, options, progress)
    save_record(run, "prepare", time.monotonic() - began, counters)
    _speak(manifest, progress)
    return manifest


def _speak(manifest: Manifest, progress: StageProgress) -> None:
    for remark in manifest.remarks:
        progress(f"prepare: {remark['subject']}: {remark['text']}", 1.0)


def _prepare(
    plan: Plan, run: Path, options: RunnerOptions, progress: StageProgress
) -> tuple[Manifest, dict[str, int]]:
    options.check_reachable()
    target, shards = layout.data_dir(run), dict[str, Path]()
    with ExitStack() as stack:
        # Workers elsewhere share nothing with this machine but the store.
        shared = None
        if is_remote(run) and not options.is_local:
            if plan.experiment.data.negatives is not None:
                raise UserError(
                    "data.negatives: is drawn through files that workers share, on one machine or on a mounted run"
                    f" directory. Received: {run} with {options.runner}"
                )
            place = stack.enter_context(scratch(run, "prepare"))
            shared = Directories(place / "data", place / "work")
        data = stack.enter_context(staging(target, "manifest.json", shards))
        stack.enter_context(explained(target))
        directories = Directories(data, data / ".work")
        for name in _DIRECTORIES:
            (data / name).mkdir(parents=True)
        with _rejected_rows_kept(data / "rejected", layout.failed_rejected_dir(run)):
            tables = _read_tables(plan, directories)
            sides = {name: table.side for name, table in tables.items()}
            if shared is not None:
                sides = {name: _shared_table(side, shared) for name, side in sides.items()}
            cleaner = Cleaner(
                plan.experiment,
                sides,
                plan.log_derives,
                plan.derives,
                files_by_split(
                    plan.experiment.data.split, [opened_file.file.name for opened_file in plan.events]
                ),
            )
            graph = options.pipeline()
            pipeline.build(graph, plan, cleaner, shared or directories, shuffled=not options.is_local)
            with watched(directories, reading.batches(list(plan.events)), progress):
                counters = options.run(graph)
            if shared is not None:
                shards.update(_fetch_results(shared, directories))
            progress("prepare: writing the manifest")
            manifest = finish(plan, tables, directories)
        for line in _changes(target / "statistics.json", data / "statistics.json"):
            progress(f"prepare: since the last run, {line}", 1.0)
        directories.clear()
        if is_remote(target):
            progress(f"prepare: uploading to {target}")
    return manifest, counters


def _shared_table(side: SideTable, shared: Directories) -> SideTable:
    """A side table that all workers can read."""
    path = shared.work / "tables" / Path(side.path).name
    put(Path(side.path), path)
    return replace(side, path=str(path))


def _fetch_results(shared: Directories, directories: Directories) -> dict[str, Path]:
    """Fetches what workers have left but the shards; these are name -> object."""
    fetch_tree(shared.work, directories.work, lambda name: not name.startswith("tables/"))
    fetch_tree(shared.data, directories.data, lambda name: name.startswith("vocabulary/"))
    return {name: shared.data / name for name in objects(shared.data) if name.endswith(".tfrecord")}


def _read_tables(plan: Plan, directories: Directories) -> dict[str, ReadTable]:
    limits = Limits(plan.experiment.data.max_rejected, plan.experiment.data.min_joined)
    tables = {}
    for table in plan.tables:
        bad = directories.data / "rejected" / "tables" / f"{table.name}.jsonl"
        tables[table.name] = read_table(plan, table, directories.work / "tables", bad)
        limits.refuse(tables[table.name].remark)
    return tables


@contextmanager
def _rejected_rows_kept(rejected: Path, failed_rows: Path) -> Iterator[None]:
    """Saves the rejected rows of a run that a mistake ends, and says where; those of an earlier run go."""
    if is_remote(failed_rows):
        remove(failed_rows)
    else:
        shutil.rmtree(failed_rows, ignore_errors=True)
    try:
        yield
    except UserError as error:
        if not any(path.stat().st_size for path in rejected.rglob("*.jsonl")):
            raise
        if is_remote(failed_rows):
            for name in local_files(rejected):
                put(rejected / name, failed_rows / name)
        else:
            shutil.copytree(rejected, failed_rows)
        raise UserError(f"{error}. The rejected rows are in {failed_rows}") from None


def _changes(old: Path, new: Path) -> list[str]:
    """What drifted since the data that were here before."""
    try:
        before = json.loads(old.read_text(encoding="utf-8"))
        return [
            str(change)
            for change in drift(before, json.loads(new.read_text(encoding="utf-8")))
            if change.exceeded
        ]
    except (OSError, ValueError, KeyError):
        return []
