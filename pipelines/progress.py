"""The progress of a stage: who receives it, and the thread that reads it from files.

A Beam engine shows nothing of an element until the element is done. Files that its workers write show it at once, and
for every engine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class StageProgress(Protocol):
    """Receives the progress of a stage, as `ranker.terminal.Reporter.update` does."""

    def __call__(self, text: str, share: float | None = None, **figures: float) -> None:
        """Shows a line to people and writes the same for machines.

        Args:
            text: the text before the first colon is the subject.
            share: how much is done, in [0, 1], if known; 1 ends the subject.
            figures: by name, such as `rows_per_second`.
        """


def silent(text: str, share: float | None = None, **figures: float) -> None:
    """Ignores all progress."""


@contextmanager
def polling(poll: Callable[[], None], name: str, seconds: float) -> Iterator[None]:
    """While the block runs, a thread calls `poll` every `seconds`."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(seconds):
            poll()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def duration(seconds: float) -> str:
    """Seconds for people: `50 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
