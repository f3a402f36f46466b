"""One replica in one process: started, watched, tried again.

A crash, a leak or a thread setting of one training can then touch no other, and a worker that Beam kills or retries
leaves nothing behind but a checkpoint the next try goes on from.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from ranker import layout
from ranker.seeds import ReplicaSpec


@dataclass(frozen=True)
class Outcome:
    """What became of one replica.

    Attributes:
        arm: the replica's arm.
        replica: its index.
        version: the version that now stands, None if training failed.
        reused: whether it was there already.
        attempts: how many processes it took.
        error: the last lines of a failed process, else empty.
    """

    arm: str
    replica: int
    version: int | None
    reused: bool
    attempts: int
    error: str = ""


def log_path(run: Path, arm: str, replica: int) -> Path:
    """Where a replica's training writes its progress, as JSON lines; TF Serving ignores the file."""
    return layout.replica_dir(run, arm, replica) / ".progress.jsonl"


def write_outcome(run: Path, outcome: Outcome) -> None:
    """Leaves an outcome beside its replica."""
    path = layout.replica_dir(run, outcome.arm, outcome.replica) / ".outcome.json"
    temporary = path.with_name(f".outcome-{os.getpid()}.tmp")
    temporary.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    temporary.replace(path)


def read_outcome(run: Path, spec: ReplicaSpec) -> Outcome:
    """What became of a replica in the pipeline that has just ended."""
    path = layout.replica_dir(run, spec.arm, spec.replica) / ".outcome.json"
    return Outcome(**json.loads(path.read_text(encoding="utf-8")))


def launch(run: Path, spec: ReplicaSpec, attempts: int = 3, timeout: float | None = None) -> Outcome:
    """Trains one replica in a subprocess, again after a crash, up to `attempts` times.

    Args:
        run: the run directory, after `prepare`.
        spec: the replica.
        attempts: how many processes at most. A user's mistake (exit code 1) is not tried again.
        timeout: seconds one attempt may take, None for ever.
    """
    progress = log_path(run, spec.arm, spec.replica)
    progress.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ranker.training", str(run), spec.arm, str(spec.replica)]
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
    error = ""
    for attempt in range(1, attempts + 1):
        with progress.open("wb") as out:
            try:
                done = subprocess.run(
                    command, stdout=out, stderr=subprocess.PIPE, timeout=timeout, env=environment, check=False
                )
            except subprocess.TimeoutExpired:
                error = f"no end within {timeout:g} s"
                continue
        if done.returncode == 0:
            result = json.loads(progress.read_text().splitlines()[-1])
            progress.unlink()
            return Outcome(spec.arm, spec.replica, result["version"], result["reused"], attempt)
        error = _reason(done.returncode, done.stderr.decode(errors="replace"))
        if done.returncode == 1 and "Traceback" not in error:
            break
    return Outcome(spec.arm, spec.replica, None, False, attempt, error)


def _reason(code: int, stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{lines[-1] if lines else 'no message'} ({how})"
