"""The stages of a small run in few processes.

A training of a few seconds spends most of them on the start of its process: it imports TensorFlow, traces and compiles the
step, and traces the model again for its export. The evaluation then imports TensorFlow again and loads the models. So one
process trains all replicas of a small run side by side, and evaluates them with the models that it still has in memory.

Such a process reads commands from its stdin and writes their results to its stdout, both as JSON lines. It ends when its
stdin ends. If the process dies during a command, a new process tries the command again and continues from the checkpoints.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.progress import StageProgress
from pipelines.train.launcher import Outcome, log_path, reason, show, training_environment
from ranker import layout
from ranker.config import Experiment, load
from ranker.errors import UserError
from ranker.files import sweep, temporary_directory
from ranker.json_text import json_text
from ranker.seeds import ReplicaSpec
from ranker.training import checkpoint
from ranker.training.publish import finished

_ROWS = 1_000_000
"""Training rows of a small run, at most."""
_ROWS_A_PROCESS = 500_000
"""Rows times replicas that are worth a further process."""


def is_small(experiment: Experiment, manifest: Mapping[str, Any]) -> bool:
    """Whether the replicas of a run can be trained in few processes to the same bytes, and quicker.

    Args:
        experiment: the configuration.
        manifest: of the prepared data.
    """
    trainings = [experiment.arm(arm).training for arm in experiment.arms]
    rows = manifest["counts"]["train"]
    return rows <= min(_ROWS, *(training.segment_rows for training in trainings)) and all(
        training.threads == 1 and training.distribution == "none" for training in trainings
    )


class StageProcesses:
    """The processes that train and evaluate a small run: a context manager that ends them."""

    def __init__(self, run: Path):
        self._run = run
        self._processes: list[_Process] = []
        self.hold_models = False
        """Whether replicas were trained here, so that an evaluation need not load them."""

    def __enter__(self) -> StageProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.close()

    def start(self) -> None:
        """Starts a process for replicas that are not there: it imports TensorFlow while another stage works."""
        if not layout.replicas_dir(self._run).exists():
            self._processes = [_Process(self._run)]
            self._processes[0].start()

    def train(self, keys: Mapping[ReplicaSpec, str], rows: int, workers: int) -> list[Outcome]:
        """Trains what is not there yet.

        Args:
            keys: each replica's content key.
            rows: of the training split.
            workers: how many replicas may train at a time.

        Returns:
            One outcome a replica.
        """
        versions = {spec: _finished(self._run, spec, key) for spec, key in keys.items()}
        outcomes = {
            spec: Outcome(spec.arm, spec.replica, version, True, 0)
            for spec, version in versions.items()
            if version is not None
        }
        pending = [spec for spec, version in versions.items() if version is None]
        if pending:
            count = min(workers, len(pending), -(-rows * len(pending) // _ROWS_A_PROCESS))
            lanes = max(1, workers // count)
            self._processes += [_Process(self._run) for _ in range(count - len(self._processes))]
            self.hold_models = True
            # Neighbours share an arm, and so a shape.
            ends = [len(pending) * i // count for i in range(count + 1)]
            shares = [pending[start:end] for start, end in itertools.pairwise(ends)]
            with ThreadPoolExecutor(count) as threads:
                try:
                    trained = threads.map(
                        lambda process, share: self._train(
                            process, {spec: keys[spec] for spec in share}, lanes
                        ),
                        self._processes,
                        shares,
                    )
                    outcomes |= {spec: outcome for part in trained for spec, outcome in part.items()}
                except BaseException:
                    for process in self._processes:
                        process.kill()
                    raise
            for process in self._processes[1:]:
                process.close()
            self._processes = self._processes[:1]
        return [outcomes[spec] for spec in keys]

    def evaluate(self, progress: StageProgress) -> dict[str, Any] | None:
        """Evaluates the run; returns the report, or None if the process died.

        Raises:
            UserError: as `pipelines.evaluate.evaluate`.
        """
        code, error = self._processes[0].request({"evaluate": True}, lambda line: forward(progress, line))
        if code == 1:
            raise UserError(error)
        if code != 0:
            return None
        return json.loads(layout.report_path(self._run).read_text(encoding="utf-8"))

    def _train(
        self, process: _Process, keys: Mapping[ReplicaSpec, str], lanes: int
    ) -> dict[ReplicaSpec, Outcome]:
        outcomes: dict[ReplicaSpec, Outcome] = {}

        def receive(line: dict[str, Any]) -> None:
            show(log_path(self._run, line["arm"], line["replica"]), json_text(line))

        def attempt(specs: Sequence[ReplicaSpec], number: int) -> bool:
            """Trains some replicas; returns whether it is worth trying again."""
            names = [[spec.arm, spec.replica] for spec in specs]
            code, error = process.request({"train": names, "lanes": lanes}, receive)
            for spec in specs:
                version = _finished(self._run, spec, keys[spec])
                lost = "" if version is not None else error
                outcomes[spec] = Outcome(spec.arm, spec.replica, version, False, number, lost)
                with suppress(OSError):
                    log_path(self._run, spec.arm, spec.replica).unlink(missing_ok=True)
            return code not in (0, 1)

        def lost() -> list[ReplicaSpec]:
            return [spec for spec, outcome in outcomes.items() if outcome.version is None]

        # First all together, once more from the checkpoint, then each alone: a crash may be the work of one of them.
        if attempt(list(keys), 1) and lost() and attempt(lost(), 2):
            for spec in lost():
                attempt([spec], 3)
        return outcomes


def forward(progress: StageProgress, line: Mapping[str, Any]) -> None:
    """Reports the progress of an evaluation in another process."""
    progress(line["text"], line["share"], **line["figures"])


def _finished(run: Path, spec: ReplicaSpec, key: str) -> int | None:
    """The version of a replica that stands; removes what killed processes left beside it."""
    base = layout.replica_dir(run, spec.arm, spec.replica)
    version = finished(base, key)
    with suppress(OSError):
        sweep(base)
        if version is not None:
            checkpoint.sweep(base)
    return version


class _Process:
    """One process, started with the first command, and again after it has died."""

    def __init__(self, run: Path):
        self._run = run
        self._process: subprocess.Popen[str] | None = None
        self._is_stopped = False
        self._start_or_kill = threading.Lock()
        self._resources = ExitStack()
        self._directory = self._resources.enter_context(temporary_directory())
        self._stderr = self._resources.enter_context((self._directory / "stderr").open("w+b"))

    def request(
        self, command: Mapping[str, Any], receive: Callable[[dict[str, Any]], None]
    ) -> tuple[int, str]:
        """Sends a command and waits for its end.

        Args:
            command: JSON-serialisable.
            receive: gets each line of progress.

        Returns:
            0, 1 for a user's mistake and after `kill`, or how the process ended; and why it failed.
        """
        process = self._process or self.start()
        if process is None:
            return 1, "stopped"
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json_text(command) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                answer = json.loads(line)
                if "code" in answer:
                    return answer["code"], answer["error"]
                receive(answer)
        code = self._wait()
        if self._is_stopped:
            return 1, "stopped"
        self._stderr.seek(0)
        message = reason(code, self._stderr.read().decode(errors="replace"))
        self._stderr.seek(0)
        self._stderr.truncate()
        return code if code < 0 else 2, message

    def start(self) -> subprocess.Popen[str] | None:
        """Starts the process, which imports what its commands need; gives None after `kill`."""
        # Threads of the linear algebra under the logistic regression wait for each other longer than they work.
        environment = {"OPENBLAS_NUM_THREADS": "1", **training_environment(self._directory)}
        with self._start_or_kill:
            if self._is_stopped:
                return None
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.train.together", str(self._run)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=environment,
                encoding="utf-8",
            )
        return self._process

    def kill(self) -> None:
        """Ends the process whatever it does, for good: no later command starts it again."""
        with self._start_or_kill:
            self._is_stopped = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Ends the process, which has no command, and removes its temporary files."""
        if self._process is not None:
            self._process.kill()
            self._wait()
        self._resources.close()

    def _wait(self) -> int:
        """Waits for the end of the process; returns how it ended."""
        assert self._process is not None
        process, self._process = self._process, None
        with suppress(BrokenPipeError):
            process.communicate()
        return process.returncode


class _Commands:
    """The other side: obeys commands in a process of their own."""

    def __init__(self, run: Path, send: Callable[[Mapping[str, Any]], None]):
        self._run, self._send = run, send

    def obey(self, command: Mapping[str, Any]) -> None:
        """Does what a command says.

        Raises:
            UserError: it cannot be done.
        """
        experiment = load(layout.config_path(self._run))
        if "train" in command:
            self._train(experiment, command["train"], command["lanes"])
        else:
            self._evaluate(experiment)

    def _train(self, experiment: Experiment, names: Sequence[Sequence[Any]], lanes: int) -> None:
        from pipelines.evaluate import score
        from ranker.training.replica import train_replicas
        from ranker.training.specs import replica_specs
        from ranker.training.tensorboard import TensorBoardLog
        from ranker.training.trainer import Progress

        chosen = {(arm, replica) for arm, replica in names}
        specs = [spec for spec in replica_specs(experiment) if (spec.arm, spec.replica) in chosen]
        logs = {
            spec: TensorBoardLog(layout.tensorboard_dir(self._run, spec.arm, spec.replica)) for spec in specs
        }

        def report(spec: ReplicaSpec, progress: Progress) -> None:
            self._send({"arm": spec.arm, "replica": spec.replica, **asdict(progress)})
            if not progress.pilot and spec in logs:
                logs[spec](progress)

        train_replicas(experiment, self._run, specs, lanes, report, score.TRAINED)

    def _evaluate(self, experiment: Experiment) -> None:
        from pipelines.evaluate import evaluate
        from pipelines.runner import RunnerOptions

        def progress(text: str, share: float | None = None, **figures: float) -> None:
            self._send({"text": text, "share": share, "figures": figures})

        evaluate(experiment, self._run, RunnerOptions(), progress)


def main(arguments: Sequence[str]) -> int:
    """Obeys the commands on stdin until it ends."""
    # Whatever else writes to stdout must not stand between the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)

        def send(answer: Mapping[str, Any]) -> None:
            try:
                answers.write(json_text(answer) + "\n")
                answers.flush()
            except BrokenPipeError:
                # Whoever started this process is gone, and will go on when it comes back.
                os._exit(1)

        # Not with the first command: it may come later than the process.
        for module in ("ranker.training.replica", "pipelines.evaluate.score"):
            importlib.import_module(module)
        commands = _Commands(Path(arguments[0]), send)
        for line in sys.stdin:
            try:
                commands.obey(json.loads(line))
                send({"code": 0, "error": ""})
            except UserError as error:
                send({"code": 1, "error": str(error)})
            except OSError as error:
                path = error.filename or arguments[0]
                send({"code": 1, "error": f"{path}: cannot be used: {error.strerror or error}"})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
