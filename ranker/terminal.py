"""Progress of commands on stderr: lines for people, or JSON lines for machines.

Stdout stays for results, so that `--json` output can be piped.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ranker.errors import UserError
from ranker.json_text import json_text

_SECONDS_BETWEEN = 5.0


class Reporter:
    """Shows the progress of work.

    On a terminal a new line on a subject replaces the subject's last line, with a bar where the share is known. In a
    log each update is a line of its own, at most one a subject in a few seconds.

    Args:
        as_json: JSON lines instead of text: `time` (seconds since 1970) and `message`; of work under way also
            `subject`, `share` where it is known, and figures such as `rows_per_second`.
    """

    def __init__(self, as_json: bool = False):
        self._json = as_json
        # A descriptor of its own: `stderr_to_file` may point the process's stderr elsewhere meanwhile.
        self._file = os.fdopen(os.dup(2), "w", buffering=1)
        weakref.finalize(self, self._file.close)
        self._console = Console(file=self._file, highlight=False)
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last_lines: dict[str, float] = {}

    def line(self, text: str) -> None:
        """Reports an event."""
        self._say(text)

    @contextmanager
    def work(self) -> Iterator[None]:
        """While the block runs, `update` shows on the terminal."""
        if self._json or not self._console.is_terminal:
            yield
            return
        columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
        with Progress(*columns, console=self._console, transient=True) as self._progress:
            try:
                yield
            finally:
                self._progress, self._tasks = None, {}

    def update(self, text: str, share: float | None = None, **figures: float) -> None:
        """Reports how far work is.

        Args:
            text: a line; the text before its first colon is the subject, whose last line it replaces.
            share: how much is done, in [0, 1], if known; with 1 the work is over, and the line stays.
            figures: what the text says, by name, for machines.
        """
        subject = text.split(":", 1)[0]
        if share == 1.0:
            if self._progress is not None and subject in self._tasks:
                self._progress.remove_task(self._tasks.pop(subject))
            self._say(text, subject=subject, share=share, **figures)
        elif self._progress is not None:
            if subject not in self._tasks:
                self._tasks[subject] = self._progress.add_task(text, total=None)
            total = None if share is None else 1.0
            self._progress.update(self._tasks[subject], description=text, total=total, completed=share)
        elif time.monotonic() - self._last_lines.get(subject, -_SECONDS_BETWEEN) >= _SECONDS_BETWEEN:
            self._last_lines[subject] = time.monotonic()
            self._say(
                text, subject=subject, **({} if share is None else {"share": round(share, 4)}), **figures
            )

    def _say(self, text: str, **fields: Any) -> None:
        if self._json:
            line = {"time": round(time.time(), 3), "message": text, **fields}
            print(json_text(line), file=self._file, flush=True)
        else:
            self._console.print(text, markup=False, soft_wrap=True)


@contextmanager
def stderr_to_file(path: Path) -> Iterator[None]:
    """While the block runs, appends all that this process and its children write to stderr to a file.

    Beam's workers log much to stderr. People want to see progress instead, and need the log when something breaks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    saved_stderr = os.dup(2)
    try:
        with file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(saved_stderr, 2)
        os.close(saved_stderr)
