"""Says how trainings stand while a pipeline runs: Beam shows nothing of an element until it is done."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.train.launcher import log_path
from ranker.seeds import ReplicaSpec


@contextmanager
def watch(
    run: Path, specs: Sequence[ReplicaSpec], progress: Callable[[str], None], seconds: float = 2.0
) -> Iterator[None]:
    """While the block runs, reports every replica in training each `seconds`."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(seconds):
            for spec in specs:
                line = standing(run, spec)
                if line:
                    progress(line)

    thread = threading.Thread(target=look, name="train-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def standing(run: Path, spec: ReplicaSpec) -> str | None:
    """One line on a replica in training: how far, loss, speed, what is left; None where there is nothing to say."""
    try:
        last = log_path(run, spec.arm, spec.replica).read_bytes().splitlines()[-1]
        now = json.loads(last)
        rate = now["examples_per_second"]
        left = (now["steps"] - now["step"]) * (now["seconds"] / max(now["done"], 1))
    except (OSError, IndexError, ValueError, KeyError):
        return None
    if now["step"] == now["steps"]:
        return f"replica {spec.arm}/{spec.replica}: trained, loss {now['loss'][0]:.4f}; exporting"
    share = 100 * now["step"] / now["steps"]
    return (
        f"replica {spec.arm}/{spec.replica}: {share:3.0f}%, loss {now['loss'][0]:.4f},"
        f" {rate:,.0f} examples/s, {left:.0f} s left"
    )
