"""One replica in one process: started, watched, tried again.

A crash, a leak or a thread setting of one training affects no other training. A worker that Beam kills leaves only a
checkpoint, from which the next try continues.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.train.memory import shortage
from ranker import layout
from ranker.config import load
from ranker.errors import UserError
from ranker.files import sweep, temporary_directory, write_whole
from ranker.json_text import json_text
from ranker.seeds import ReplicaSpec
from ranker.training import checkpoint
from ranker.training.publish import finished
from ranker.training.specs import (
    content_key,
    decision_path,
    pilot_arm,
    pilot_key,
    read_manifest,
    replica_specs,
    together,
)


@dataclass(frozen=True)
class Outcome:
    """What became of one replica.

    Attributes:
        arm: the replica's arm.
        replica: its index.
        version: the version that now stands, None if training failed.
        reused: whether it was there already.
        attempts: how many processes it took.
        error: the last line of a failed process, else empty.
    """

    arm: str
    replica: int
    version: int | None
    reused: bool
    attempts: int
    error: str = ""


def log_path(run: Path, arm: str, replica: int) -> Path:
    """Where a replica in training has its last line of progress, JSON; TF Serving ignores the file."""
    return layout.replica_dir(run, arm, replica) / ".progress.jsonl"


def write_outcome(run: Path, outcome: Outcome) -> None:
    """Leaves an outcome beside its replica.

    Raises:
        UserError: it cannot be written.
    """
    base = layout.replica_dir(run, outcome.arm, outcome.replica)
    try:
        write_whole(base / ".outcome.json", json_text(asdict(outcome)))
    except UserError as error:
        raise UserError(f"{error}; {outcome.error}" if outcome.error else str(error)) from None


def read_outcome(run: Path, spec: ReplicaSpec) -> Outcome:
    """What became of a replica in the pipeline that has just ended."""
    path = layout.replica_dir(run, spec.arm, spec.replica) / ".outcome.json"
    return Outcome(**json.loads(path.read_text(encoding="utf-8")))


def launch(run: Path, spec: ReplicaSpec, attempts: int = 3, timeout: float | None = None) -> Outcome:
    """Trains one replica in a subprocess, again after a crash, up to `attempts` times.

    A replica that stands costs no process. The process lives no longer than this one: it ends when it finds nobody
    who takes its progress.

    Args:
        run: the run directory, after `prepare`, with its `config.yaml`.
        spec: the replica.
        attempts: how many processes at most. A user's mistake (exit code 1) is not tried again.
        timeout: seconds one attempt may take, None for ever.

    Raises:
        UserError: the run is not prepared.
    """
    base = layout.replica_dir(run, spec.arm, spec.replica)
    experiment, manifest = load(layout.config_path(run)), read_manifest(run)
    key = content_key(experiment, spec, manifest, pilot_arm(experiment, manifest, run))
    version = finished(base, key)
    _clean(base, key if version is None else None)
    if version is not None:
        return Outcome(spec.arm, spec.replica, version, True, 0)
    error = shortage(experiment, run, spec.arm, len(together(experiment, spec)))
    if error:
        return Outcome(
            arm=spec.arm, replica=spec.replica, version=None, reused=False, attempts=0, error=error
        )
    for attempt in range(1, attempts + 1):
        code, last, error = _attempt(run, spec, timeout)
        _clean(base, key if code != 0 else None)
        if code == 0:
            return Outcome(spec.arm, spec.replica, last["version"], last["reused"], attempt)
        if code == 1:
            break
    return Outcome(
        arm=spec.arm, replica=spec.replica, version=None, reused=False, attempts=attempt, error=error
    )


def is_undecided(run: Path) -> bool:
    """Whether a replica that is to be trained waits for its number of epochs."""
    experiment, manifest = load(layout.config_path(run)), read_manifest(run)
    pilot = pilot_arm(experiment, manifest, run)
    if decision_path(run, pilot_key(experiment, manifest, pilot)).exists():
        return False
    return any(
        experiment.arm(spec.arm).training.epochs == "auto"
        and finished(
            layout.replica_dir(run, spec.arm, spec.replica), content_key(experiment, spec, manifest, pilot)
        )
        is None
        for spec in replica_specs(experiment)
    )


def choose_epochs(run: Path, attempts: int = 3) -> None:
    """Trains the pilot in a subprocess; see `launch`.

    Raises:
        UserError: it could not be trained.
    """
    for _ in range(attempts):
        code, _, error = _attempt(run, None, None)
        if code == 0:
            return
        if code == 1:
            break
    raise UserError(f"the pilot that chooses the number of epochs could not be trained: {error}")


def _clean(base: Path, keep: str | None) -> None:
    """Removes what killed processes left, and every checkpoint but the one of the key to `keep`."""
    with suppress(OSError):
        sweep(base)
        checkpoint.sweep(base, keep)


def _attempt(run: Path, spec: ReplicaSpec | None, timeout: float | None) -> tuple[int, dict, str]:
    """One process, of a replica or of the pilot.

    Returns:
        Its exit code (1 only for a user's mistake), its last line, and why it failed.
    """
    command = [sys.executable, "-m", "ranker.training", str(run)]
    command += [spec.arm, str(spec.replica)] if spec else []
    last, timed_out = "{}", threading.Event()
    with temporary_directory() as directory, (directory / "stderr").open("w+b") as stderr:
        environment = training_environment(directory)
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, env=environment, encoding="utf-8"
        )

        def end() -> None:
            timed_out.set()
            process.kill()

        timer = threading.Timer(timeout or 0, end)
        if timeout is not None:
            timer.start()
        try:
            with process:
                for last in process.stdout or ():
                    if spec:
                        show(log_path(run, spec.arm, spec.replica), last)
        finally:
            timer.cancel()
            with suppress(OSError):
                if spec:
                    log_path(run, spec.arm, spec.replica).unlink(missing_ok=True)
        stderr.seek(0)
        message = stderr.read().decode(errors="replace")
    if process.returncode == 0:
        return 0, json.loads(last), ""
    if timed_out.is_set():
        return -9, {}, f"no end within {timeout:g} s"
    crashed = process.returncode == 1 and "Traceback (most recent call last)" in message
    return 2 if crashed else process.returncode, {}, reason(process.returncode, message)


def training_environment(directory: Path) -> dict[str, str]:
    """The environment of a process that trains.

    Args:
        directory: where it keeps temporary files. TensorFlow writes some that only a process which ends by itself removes.
    """
    settings = {"TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "-1", "TMPDIR": str(directory)}
    return {**os.environ, **settings}


def show(path: Path, line: str) -> None:
    """Leaves a line of progress where `pipelines.train.watch` finds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line, encoding="utf-8")
    except OSError:
        return  # Progress that cannot be shown must not end a training.


def reason(code: int, stderr: str) -> str:
    """Why a process ended, from its exit code and what it wrote to stderr, one line."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    how = f" (killed by signal {-code})" if code < 0 else "" if code == 1 else f" (exit code {code})"
    return f"{lines[-1] if lines else 'no message'}{how}"
