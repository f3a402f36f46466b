"""What a batch brings on its way to those who asked: waited for, put together, in their order."""

from __future__ import annotations

import threading

import numpy as np

from serving.server.steps import Done, Outputs
from serving.status import ServingError


class Answer:
    """Where a caller waits for what a batch thread brings."""

    def __init__(self) -> None:
        # Held until there is an answer. A plain lock: an Event costs four times as much, for every request.
        self._missing = threading.Lock()
        self._missing.acquire()
        self._answer: Outputs | ServingError = []

    def give(self, answer: Outputs | ServingError) -> None:
        """Wakes the caller."""
        self._answer = answer
        self._missing.release()

    def wait(self) -> Outputs:
        """The outputs, once they are there.

        Raises:
            ServingError: the error that came instead.
        """
        with self._missing:
            if isinstance(self._answer, ServingError):
                raise self._answer
            return self._answer


class Whole:
    """Puts a request that was run in pieces together again."""

    def __init__(self, count: int, done: Done):
        self._pieces: list[Outputs | ServingError | None] = [None] * count
        self._done = done
        self._lock = threading.Lock()
        self._missing = count

    def take(self, place: int, piece: Outputs | ServingError) -> None:
        """Takes one piece; the last one ends the request."""
        with self._lock:
            self._pieces[place] = piece
            self._missing -= 1
            if self._missing:
                return
        errors = [piece for piece in self._pieces if isinstance(piece, ServingError)]
        outputs = [piece for piece in self._pieces if isinstance(piece, list)]
        self._done(errors[0] if errors else [np.concatenate(arrays) for arrays in zip(*outputs, strict=True)])


def reordered(places: list[int], done: Done) -> Done:
    """A `done` that takes the outputs in another order: the first wanted one is at `places[0]`, and so on."""

    def take(answer: Outputs | ServingError) -> None:
        done(answer if isinstance(answer, ServingError) else [answer[place] for place in places])

    return take
