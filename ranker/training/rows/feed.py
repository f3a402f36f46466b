"""Rows on their way to the trainer: all in memory, or a segment at a time, read ahead by a thread.

A windowed shuffle (see `ranker.training.rows.order`) needs for the places [start, stop) of an epoch only the rows in a
window around them, and the blocks in which the epoch permutes its base order. So rows that do not fit into memory are read
in segments, and each segment keeps a window's rows of the one before. Both ways give the same rows in the same batches,
and so the same weights, byte for byte.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ranker.config import Training
from ranker.errors import UserError
from ranker.inputs import Inputs
from ranker.training.rows.examples import Examples, blocks, read

_PART_ROWS = 1 << 20
"""Places of a part of rows in memory."""
_SEGMENTS = 3
"""Segments in memory: one in training, one waiting, one as it is read."""


class Part(NamedTuple):
    """What is trained on next: the places [start, stop) of an epoch's order.

    Attributes:
        epoch: counted from 0.
        start: the first place, and
        stop: the one after the last.
        first: the base position of the first of `examples`.
        examples: all rows that may stand at these places.
    """

    epoch: int
    start: int
    stop: int
    first: int
    examples: Examples


class Feed(Protocol):
    """Where rows come from."""

    @property
    def rows(self) -> int:
        """How many an epoch has."""

    def parts(
        self, epochs: int, window: int, unit: int, epoch: int = 0, start: int = 0, block: int = 1
    ) -> Iterator[Part]:
        """All parts of a training, from a place of an epoch on, in order.

        Args:
            epochs: how many there are.
            window: no row moves this far from its place in the epoch's base order.
            unit: every part starts at a multiple of so many places (the first one: at `start`).
            epoch: the first one wanted.
            start: the first place wanted of that epoch.
            block: rows within which an epoch after the first permutes the base order; 1 if it does not.
        """


class Memory:
    """Rows that are all in memory.

    A part is an epoch, or a stretch of one: the order of rows takes as much memory as narrow rows.
    """

    def __init__(self, examples: Examples):
        self._examples = examples

    @property
    def examples(self) -> Examples:
        """The rows in their base order."""
        return self._examples

    @property
    def rows(self) -> int:
        """How many an epoch has."""
        return int(self._examples.label.shape[0])

    def parts(
        self, epochs: int, window: int, unit: int, epoch: int = 0, start: int = 0, block: int = 1
    ) -> Iterator[Part]:
        """As `Feed.parts`."""
        # A part of an order costs two windows, and of one that keeps requests together all of it.
        whole = self._examples.request is not None or 8 * window > _PART_ROWS
        size = self.rows if whole else -(-_PART_ROWS // unit) * unit
        for this in range(epoch, epochs):
            place = start if this == epoch else 0
            while place < self.rows:
                stop = min((place // size + 1) * size, self.rows)
                yield Part(this, place, stop, 0, self._examples)
                place = stop


class Stream:
    """Rows that are read in segments, the next one while the trainer works on this one.

    Memory: three segments and their windows, one in training, one waiting, one as it was read.

    Args:
        blocks: starts to read from the first row; yields encoded blocks of rows as `examples.blocks` does.
        rows: how many it yields.
        segment: places in a part, at least; must not be less than the window.
    """

    def __init__(self, blocks: Callable[[], Iterator[dict[str, np.ndarray]]], rows: int, segment: int):
        self._blocks, self.rows, self._segment = blocks, rows, segment

    def parts(
        self, epochs: int, window: int, unit: int, epoch: int = 0, start: int = 0, block: int = 1
    ) -> Iterator[Part]:
        """As `Feed.parts`.

        Raises:
            UserError: the blocks have another number of rows than was said.
        """

        def assemble() -> Iterator[Part]:
            for this in range(epoch, epochs):
                yield from self._epoch(this, start if this == epoch else 0, window, unit, block)

        return ahead(assemble())

    def _epoch(self, epoch: int, start: int, window: int, unit: int, block: int) -> Iterator[Part]:
        size = -(-self._segment // unit) * unit
        reader = _Reader(self._blocks())
        while start < self.rows:
            stop = min((start // size + 1) * size, self.rows)
            # Whole blocks, whose rows stand anywhere in them.
            first = max(0, start - window) // block * block
            last = min(self.rows, -(-(stop + window) // block) * block)
            # One size for all, so that the compiled program is the same for every part.
            yield Part(epoch, start, stop, first, reader.rows(first, last, size + 2 * (window + block - 1)))
            start = stop
        reader.finish(self.rows)


def of_shards(paths: Sequence[Path], inputs: Inputs, weighted: bool, rows: int, training: Training) -> Feed:
    """The rows of some shards: in memory if they are at most `training.segment_rows`, else in segments of a third of that.

    Args:
        paths: TFRecord shards of blocks.
        inputs: the plan of the input columns.
        weighted: whether the rows carry sample weights.
        rows: how many the shards hold, as `statistics.json` says.
        training: the shuffle window and `segment_rows`.

    Raises:
        UserError: the window does not fit into a segment.
    """
    if rows > training.segment_rows and training.compares_rows:
        raise UserError(
            f"training.segment_rows must be at least the {rows} training rows where training.loss compares the rows of a"
            f" request, which are kept together. Received: {training.segment_rows}"
        )
    if rows <= training.segment_rows:
        return Memory(read(paths, inputs, weighted, rows))
    window = training.shuffle_window
    if window == "full" or window > training.segment_rows:
        raise UserError(
            f"training.shuffle_window must be at most training.segment_rows ({training.segment_rows}) where the"
            f" training rows ({rows}) are more than that, and so are not held in memory. Received: {window}"
        )
    segment = max(training.segment_rows // _SEGMENTS, window)  # no less than the window, as `Stream` wants it
    return Stream(lambda: blocks(paths, inputs, weighted), rows, segment)


class _Reader:
    """Reads ever later ranges of rows, which may overlap."""

    def __init__(self, blocks: Iterator[dict[str, np.ndarray]]):
        self._blocks = blocks
        self._kept: deque[dict[str, np.ndarray]] = deque()
        self._first = self._read = 0

    def rows(self, first: int, last: int, size: int) -> Examples:
        """The rows [first, last), filled up with zeros to `size`."""
        while self._read < last:
            block = next(self._blocks, None)
            if block is None:
                raise _other_count(self._read, last)
            self._kept.append(block)
            self._read += len(block["label"])
            self._drop(first)
        self._drop(first)
        result = {n: np.zeros((size, *v.shape[1:]), v.dtype) for n, v in self._kept[0].items()}
        at = self._first - first
        for block in self._kept:
            skip, take = max(0, -at), min(len(block["label"]), last - first - at)
            for name, values in block.items():
                result[name][at + skip : at + take] = values[skip:take]
            at += len(block["label"])
        return Examples(**result)

    def finish(self, rows: int) -> None:
        """Raises UserError if there are more than so many rows."""
        if next(self._blocks, None) is not None or self._read != rows:
            raise _other_count(self._read, rows, "more than ")

    def _drop(self, first: int) -> None:
        while self._kept and self._first + len(self._kept[0]["label"]) <= first:
            self._first += len(self._kept.popleft()["label"])


def _other_count(read: int, stated: int, prefix: str = "") -> UserError:
    return UserError(
        f"the training examples are {prefix}{read} rows, but the statistics speak of {stated} or more;"
        " run `ranker prepare` again"
    )


def ahead(items: Iterator[Part]) -> Iterator[Part]:
    """Yields what `items` yields, while a thread computes the next one."""
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
