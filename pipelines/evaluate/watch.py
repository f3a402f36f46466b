"""How many rows are scored while a pipeline runs, from the files its workers leave."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.progress import Progress, duration, looking


def write_rows(path: Path, rows: int) -> None:
    """Leaves how many rows of a shard are scored."""
    path.write_text(str(rows), encoding="ascii")


@contextmanager
def watch(work: Path, total: int, progress: Progress, seconds: float = 1.0) -> Iterator[None]:
    """While the block runs, looks every `seconds` and reports what is new.

    Args:
        work: where the shards' `.rows` files are.
        total: rows of all shards.
        progress: told how it stands.
        seconds: between two looks.
    """
    began, before = time.monotonic(), 0

    def look() -> None:
        nonlocal before
        rows = sum(map(_rows, work.glob("*.rows")))
        if rows != before:
            text, share, figures = standing(rows, total, time.monotonic() - began)
            progress(text, share, **figures)
            before = rows

    with looking(look, "evaluate-watch", seconds):
        yield


def standing(rows: int, total: int, seconds: float) -> tuple[str, float, dict[str, float]]:
    """What to say of `rows` of `total`, scored in so many seconds: (text, share, figures)."""
    rate = rows / max(seconds, 1e-9)
    left = (total - rows) / rate
    text = f"evaluate: {rows:,} of {total:,} rows scored, {rate:,.0f} rows/s, {duration(left)} left"
    figures = {"rows": rows, "rows_per_second": round(rate), "seconds_left": round(left, 1)}
    return text, min(rows / max(total, 1), 0.99), figures


def _rows(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii") or 0)
    except OSError:
        return 0
