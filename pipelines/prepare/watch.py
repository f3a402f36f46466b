"""How far a pipeline has come, seen from its files: the same for every engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.prepare.stages import Directories

_INTERVAL = 0.5  # seconds
_SORTED_SHARE = 0.7  # of the whole time


@contextmanager
def watched(
    directories: Directories, total: int, report: Callable[[str, float | None], None]
) -> Iterator[None]:
    """Reports while the block runs, at most every half second and only what is new.

    Args:
        directories: where the pipeline writes.
        total: about how many batches will be sorted into runs.
        report: told a text and the share that is done.
    """
    ended = threading.Event()
    began = time.monotonic()

    def watch() -> None:
        said = ""
        while not ended.wait(_INTERVAL):
            text, share = progress(directories, total, time.monotonic() - began)
            if text != said:
                report(text, share)
            said = text

    thread = threading.Thread(target=watch, name="prepare-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def progress(directories: Directories, total: int, seconds: float) -> tuple[str, float]:
    """What to say: (text, share done)."""
    written = _bytes(directories.data, "*/part-*.tfrecord")
    runs = list((directories.work / "runs").glob("*.arrow"))
    if not written:
        done = min(len(runs), total)
        share = done / max(total, 1)
        left = f", about {seconds / share - seconds:.0f} s left" if share > 0.05 else ""
        return f"prepare: read and sorted {done} of about {total} batches{left}", _SORTED_SHARE * share
    share = min(1.0, written / max(_bytes(directories.work, "runs/*.arrow"), 1))
    return f"prepare: wrote {written >> 20:,} MB of shards", _SORTED_SHARE + (1 - _SORTED_SHARE) * share


def _bytes(directory: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in directory.glob(pattern))
