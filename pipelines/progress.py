"""How stages tell what they are doing, and the thread that looks at their files meanwhile.

A Beam engine shows nothing of an element until it is done. What its workers leave on disk shows it at once, and for
every engine alike.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Told how something stands; `ranker.terminal.Reporter.update` is one."""

    def __call__(self, text: str, share: float | None = None, **figures: float) -> None:
        """Takes a line for people, and the same for machines.

        Args:
            text: what stands before the first colon is the subject.
            share: how much is done, in [0, 1], if known; 1 ends the subject.
            figures: by name, such as `rows_per_second`.
        """


def silent(text: str, share: float | None = None, **figures: float) -> None:
    """A progress that nobody follows."""


@contextmanager
def looking(look: Callable[[], None], name: str, seconds: float) -> Iterator[None]:
    """While the block runs, a thread calls `look` each `seconds`."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(seconds):
            look()

    thread = threading.Thread(target=watch, name=name, daemon=True)
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
