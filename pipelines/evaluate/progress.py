"""Reports how many rows are scored while a pipeline runs, from files that its workers write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.progress import StageProgress, duration, polling


def write_rows(path: Path, rows: int) -> None:
    """Writes how many rows of a shard are scored."""
    path.write_text(str(rows), encoding="ascii")


@contextmanager
def reported_progress(
    work: Path, total: int, progress: StageProgress, seconds: float = 1.0
) -> Iterator[None]:
    """While the block runs, counts the scored rows every `seconds` and reports a new count.

    Args:
        work: where the shards' `.rows` files are.
        total: rows of all shards.
        progress: gets each new count.
        seconds: between two counts.
    """
    began, before = time.monotonic(), 0

    def report_new_rows() -> None:
        nonlocal before
        rows = sum(map(_rows, work.glob("*.rows")))
        if rows != before:
            text, share, figures = progress_line(rows, total, time.monotonic() - began)
            progress(text, share, **figures)
            before = rows

    with polling(report_new_rows, "evaluate-progress", seconds):
        yield


def progress_line(rows: int, total: int, seconds: float) -> tuple[str, float, dict[str, float]]:
    """Text, share done and figures for `rows` of `total` rows that were scored in `seconds`."""
    rate = rows / max(seconds, 1e-9)
    seconds_left = (total - rows) / rate
    text = f"evaluate: {rows:,} of {total:,} rows scored, {rate:,.0f} rows/s, {duration(seconds_left)} left"
    figures = {"rows": rows, "rows_per_second": round(rate), "seconds_left": round(seconds_left, 1)}
    return text, min(rows / max(total, 1), 0.99), figures


def _rows(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii") or 0)
    except OSError:
        return 0
