"""A call in steps: what comes before the model runs, the run, and what is made of its outputs.

Each step may happen on another thread. The transport that read the request takes the first; a run that takes
no longer than waking a thread follows at once, a batched one happens whenever its batch does, any other on
a thread that may wait; the last step is taken wherever the run ended.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol, TypeVar

import numpy as np

from serving.status import ServingError

_T = TypeVar("_T")

Outputs = list[np.ndarray]
Done = Callable[[Outputs | ServingError], None]
"""Takes what a run gave. Must not raise."""


class Run(Protocol):
    """What a call waits for."""

    def is_quick(self) -> bool:
        """Whether it is over sooner than another thread could begin with it."""

    def now(self) -> Outputs:
        """Runs on this thread.

        Raises:
            ServingError: what the model answers.
        """

    def later(self, done: Done) -> bool:
        """Runs together with others, and then calls `done` from some thread.

        Returns:
            False if that is not this model's way: somebody must call `now`.

        Raises:
            ServingError: it was refused; `done` is not called.
        """


Steps = Generator[Run, Outputs, bytes]
"""Yields one run, takes its outputs (or its `ServingError`, thrown in), returns the serialised answer."""


def attempt(run: Run) -> Outputs | ServingError:
    """Runs on this thread; an error is a result too."""
    try:
        return run.now()
    except ServingError as error:
        return error


def resume(steps: Generator[Run, Outputs, _T], got: Outputs | ServingError) -> _T:
    """Takes the last step.

    Args:
        steps: has yielded its run.
        got: what that gave.

    Returns:
        What the last step returns.

    Raises:
        ServingError: of the run or of the step.
    """
    try:
        if isinstance(got, ServingError):
            steps.throw(got)
        else:
            steps.send(got)
    except StopIteration as end:
        answer: _T = end.value
        return answer
    raise RuntimeError("a call yields one run")


def finish(steps: Generator[Run, Outputs, _T]) -> _T:
    """Takes all steps on this thread.

    Returns:
        What the last step returns.

    Raises:
        ServingError: of the run or of a step.
    """
    return resume(steps, attempt(next(steps)))
