"""How trainings stand while a pipeline runs, seen from what they leave beside their replicas."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.progress import StageProgress, duration, polling
from pipelines.train.launcher import log_path
from ranker import layout
from ranker.seeds import ReplicaSpec
from ranker.training.publish import finished


@contextmanager
def watch(
    run: Path, keys: Mapping[ReplicaSpec, str], progress: StageProgress, seconds: float = 2.0
) -> Iterator[None]:
    """While the block runs, reports each `seconds` the whole stage and every replica in training.

    Args:
        run: the run directory.
        keys: each replica's content key.
        progress: told how it stands.
        seconds: between two looks.
    """
    finished = {spec for spec, key in keys.items() if _is_there(run, spec, key)}
    before, began = len(finished), time.monotonic()

    def look() -> None:
        finished.update(
            spec for spec, key in keys.items() if spec not in finished and _is_there(run, spec, key)
        )
        progress(*_whole(len(finished), before, len(keys), time.monotonic() - began))
        for spec in keys.keys() - finished:
            now = standing(run, spec)
            if now is not None:
                text, share, figures = now
                progress(text, share, **figures)

    with polling(look, "train-watch", seconds):
        yield


def standing(run: Path, spec: ReplicaSpec) -> tuple[str, float, dict[str, float]] | None:
    """A replica in training: a line, the share done, and the figures; None where there is nothing to say."""
    try:
        last = log_path(run, spec.arm, spec.replica).read_bytes().splitlines()[-1]
        now: dict[str, Any] = json.loads(last)
        seconds_left = (now["steps"] - now["step"]) * (now["seconds"] / max(now["done"], 1))
        share = now["step"] / now["steps"]
        if now["loss"][0] is None:
            return None
        figures = {
            "step": now["step"],
            "steps": now["steps"],
            "loss": now["loss"][0],
            "examples_per_second": round(now["examples_per_second"]),
            "seconds_left": round(seconds_left, 1),
        }
    except (OSError, IndexError, ValueError, KeyError):
        return None
    name = f"replica {spec.arm}/{spec.replica}"
    if now.get("pilot"):
        return f"{name}: a pilot chooses the number of epochs, {100 * share:3.0f}% at most", 0.0, figures
    if now["step"] == now["steps"]:
        return f"{name}: trained, loss {figures['loss']:.4f}; exporting", 0.99, figures
    text = (
        f"{name}: {100 * share:3.0f}%, loss {figures['loss']:.4f},"
        f" {figures['examples_per_second']:,} examples/s, {duration(seconds_left)} left"
    )
    return text, min(share, 0.99), figures


def _whole(done: int, before: int, total: int, seconds: float) -> tuple[str, float]:
    text = f"train: {done} of {total} replicas trained"
    if before < done < total:
        text += f", about {duration(seconds / (done - before) * (total - done))} left"
    return text, min(done / total, 0.99)


def _is_there(run: Path, spec: ReplicaSpec, key: str) -> bool:
    return finished(layout.replica_dir(run, spec.arm, spec.replica), key) is not None
