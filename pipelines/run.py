"""The whole pipeline, in the order of the story: prepare, train, evaluate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from pipelines.evaluate import evaluate
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from pipelines.train import train
from pipelines.train.fan_out import write_config
from pipelines.train.together import StageProcesses
from ranker.config import Experiment
from ranker.storage import is_remote


class RunReporter(Protocol):
    """Receives the progress of a run, as `ranker.terminal.Reporter` does."""

    def line(self, text: str) -> None:
        """Reports an event."""

    def update(self, text: str, share: float | None = None, **figures: float) -> None:
        """Reports how far a stage is; see `pipelines.progress.StageProgress`."""


def run_stages(
    stages: Sequence[str], experiment: Experiment, run: Path, options: RunnerOptions, progress: RunReporter
) -> dict[str, Any]:
    """Runs stages of the pipeline on one run directory; each continues or skips what is there.

    Args:
        stages: of `prepare`, `train`, `evaluate`, in this order.
        experiment: the configuration.
        run: the run directory.
        options: the Beam runner.
        progress: gets events and progress.

    Returns:
        `stages` (name to seconds), and what the last stage of them returned under its name.

    Raises:
        UserError: a stage cannot do its work; what earlier stages made stands.
    """
    with StageProcesses(run) as processes:
        if options.is_local and not is_remote(run) and {"prepare", "train"} <= set(stages):
            processes.start()
        return _run_stages(
            stages=stages,
            experiment=experiment,
            run=run,
            options=options,
            progress=progress,
            processes=processes,
        )


def _run_stages(
    stages: Sequence[str],
    experiment: Experiment,
    run: Path,
    options: RunnerOptions,
    progress: RunReporter,
    processes: StageProcesses,
) -> dict[str, Any]:
    seconds: dict[str, float] = {}
    results: dict[str, Any] = {}
    for stage in stages:
        began = time.monotonic()
        if stage == "prepare":
            manifest = prepare(experiment, run, options, progress.update)
            results["prepare"] = {"counts": manifest.counts, "remarks": manifest.remarks}
            # The next stage may be another command, which finds the experiment here.
            write_config(experiment, run)
        elif stage == "train":
            outcomes = train(experiment, run, options, progress.update, processes)
            results["train"] = {f"{outcome.arm}/{outcome.replica}": outcome.version for outcome in outcomes}
        else:
            report = processes.evaluate(progress.update) if processes.hold_models else None
            results["evaluate"] = report or evaluate(experiment, run, options, progress.update)
        seconds[stage] = round(time.monotonic() - began, 3)
        progress.line(f"{stage}: done in {seconds[stage]:.1f} s")
    return {"stages": seconds, **results}
