"""How far `prepare` has come, seen from its files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.prepare.stages import Directories, rows_of
from pipelines.progress import StageProgress, duration, polling

_INTERVAL = 0.5  # seconds
_SORTED_SHARE = 0.7  # of the whole time
_TOO_EARLY = 0.05  # a share from which nothing can be told


@contextmanager
def watched(directories: Directories, total: int, report: StageProgress) -> Iterator[None]:
    """Reports while the block runs, at most every half second and only what is new.

    Args:
        directories: where the pipeline writes.
        total: about how many batches will be sorted into runs.
        report: told how it stands.
    """
    began, reported = time.monotonic(), ""

    def look() -> None:
        nonlocal reported
        text, share, figures = progress(directories, total, time.monotonic() - began)
        if text != reported:
            report(text, share, **figures)
        reported = text

    with polling(look, "prepare-progress", _INTERVAL):
        yield


def progress(directories: Directories, total: int, seconds: float) -> tuple[str, float, dict[str, float]]:
    """What to say: (text, share done, `rows`, `rows_per_second` and, where it can be told, `seconds_left`)."""
    runs = list((directories.work / "runs").glob("*.arrow"))
    held = list((directories.work / "held").glob("*.arrow"))
    # With a split by time all rows are held before the first run is sorted: two halves of the reading.
    read = min(1.0, (len(runs) + len(held)) / max(total * (2 if held else 1), 1))
    rows = sum(map(rows_of, held or runs))
    written = _bytes(directories.data, "*/part-*.tfrecord")
    shards = min(1.0, written / max(_bytes(directories.work, "runs/*.arrow"), 1)) if written else 0.0
    share = min(_SORTED_SHARE * (1.0 if written else read) + (1 - _SORTED_SHARE) * shards, 0.99)
    figures: dict[str, float] = {"rows": rows, "rows_per_second": round(rows / max(seconds, 1e-9))}
    text = f"prepare: {rows:,} rows read, {figures['rows_per_second']:,} rows/s"
    if written:
        text = f"prepare: {rows:,} rows sorted, {written >> 20:,} MB of shards written"
    if share > _TOO_EARLY:
        figures["seconds_left"] = round(seconds / share - seconds, 1)
        text += f", about {duration(figures['seconds_left'])} left"
    return text, share, figures


def _bytes(directory: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in directory.glob(pattern))
