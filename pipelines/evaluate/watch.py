"""Says how many shards are scored while a pipeline runs, from the files it leaves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def watch(work: Path, shards: int, progress: Callable[[str], None], seconds: float = 1.0) -> Iterator[None]:
    """While the block runs, looks every `seconds` and reports when another shard is done."""
    stop = threading.Event()

    def look() -> None:
        before = -1
        while not stop.wait(seconds):
            done = sum(1 for _ in work.glob("*.json"))
            if done != before:
                progress(f"evaluate: {done} of {shards} shards scored")
                before = done

    thread = threading.Thread(target=look, name="evaluate-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
