"""Requests of several callers run together: TF Serving's batching session.

Batches form per (inputs, outputs) set. A batch closes when it is full or its oldest request has waited
`batch_timeout_micros`; threads of the model's own run closed batches. `allowed_batch_sizes` rounds a
batch up by repeating a row. Callers get their rows back.

Source: TF Serving's batching_session and TensorFlow's shared_batch_scheduler (meaning of parameters,
error texts).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from serving.server.batch_answers import Answer, Whole, reordered
from serving.server.batch_rows import merge, rows_of
from serving.server.batching_options import BatchingOptions
from serving.server.metrics import Metrics
from serving.server.predict import Model
from serving.server.signatures import Feeds, Signature, TensorSpec
from serving.server.steps import Done
from serving.status import Code, ServingError, invalid

_QUEUE_BUCKETS = tuple(100 * 1.2**power for power in range(52))


@dataclass(slots=True)
class _Task:
    feeds: Feeds
    size: int
    deadline: float | None
    enqueued: float
    done: Done


@dataclass
class _Batch:
    fetches: Sequence[TensorSpec]
    closes: float
    size: int = 0
    tasks: list[_Task] = field(default_factory=list)


class BatchedModel:
    """A `Model` that runs another model's requests in batches."""

    def __init__(self, model: Model, options: BatchingOptions, metrics: Metrics):
        self._model = model
        self._options = options
        self._metrics = metrics
        self._changed = threading.Condition()
        self._queues: dict[tuple[tuple[tuple[str, int], ...], tuple[str, ...]], list[_Batch]] = {}
        self._closing = False
        threads = options.num_batch_threads or len(os.sched_getaffinity(0))
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{index}", daemon=True)
            for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Those of the model."""
        return self._model.signatures

    @property
    def pace(self) -> None:
        """None: a request waits for its batch."""
        return None

    @property
    def signature_defs(self) -> Mapping[str, Any]:
        """Those of the model."""
        return self._model.signature_defs

    def run(self, feeds: Feeds, fetches: Sequence[TensorSpec], timeout_ms: int = 0) -> list[np.ndarray]:
        """Runs one request as part of a batch, and waits for it.

        Raises:
            ServingError: as `submit`, or what the batch's run answers.
        """
        answer = Answer()
        self.submit(feeds, fetches, timeout_ms, answer.give)
        return answer.wait()

    def submit(self, feeds: Feeds, fetches: Sequence[TensorSpec], timeout_ms: int, done: Done) -> bool:
        """Puts one request into a batch; the thread that ran the batch calls `done`.

        Returns:
            True.

        Raises:
            ServingError: INVALID_ARGUMENT if the inputs have no common first dimension or it is larger
                than a batch, UNAVAILABLE if the queue is full.
        """
        size = rows_of(feeds)
        limit = self._options.max_batch_size
        largest = self._options.execution_size()
        if size > limit:
            raise invalid(f"Task size {size} is larger than maximum input batch size {limit}")
        now = time.monotonic()
        deadline = now + timeout_ms / 1000 if timeout_ms else None
        # The set of tensors is the batch's identity; its order is whatever the first request had.
        # A wrong dtype makes a batch of its own, or it would fail its neighbours' requests too.
        names = tuple(sorted([(spec.name, array.dtype.num) for spec, array in feeds]))
        key = (names, tuple(sorted([spec.name for spec in fetches])))
        ordered = sorted(fetches, key=lambda spec: spec.name)
        if ordered != list(fetches):
            done = reordered([ordered.index(spec) for spec in fetches], done)
        if size <= largest:
            pieces = [_Task(feeds, size, deadline, now, done)]
        else:
            starts = range(0, size, largest)
            whole = Whole(len(starts), done)
            pieces = [
                _Task(
                    [(spec, array[start : start + largest]) for spec, array in feeds],
                    min(largest, size - start),
                    deadline,
                    now,
                    partial(whole.take, place),
                )
                for place, start in enumerate(starts)
            ]
        with self._changed:
            if self._closing:
                raise ServingError(Code.UNAVAILABLE, "The batch scheduler is shutting down")
            queue = self._queues.setdefault(key, [])
            for piece in pieces:
                self._enqueue(queue, piece, ordered)
            self._changed.notify()
        return True

    def close(self) -> None:
        """Runs what is queued, ends the threads, closes the model."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._model.close()

    def _enqueue(self, queue: list[_Batch], task: _Task, fetches: Sequence[TensorSpec]) -> None:
        options = self._options
        last = queue[-1] if queue else None
        if last is None or last.size + task.size > options.execution_size():
            if len(queue) >= max(options.max_enqueued_batches, 1):
                raise ServingError(
                    Code.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full"
                )
            if last is not None:
                last.closes = 0.0
            last = _Batch(fetches, task.enqueued + options.batch_timeout_micros / 1e6)
            queue.append(last)
        last.tasks.append(task)
        last.size += task.size
        if last.size >= options.execution_size():
            last.closes = 0.0

    def _work(self) -> None:
        while True:
            with self._changed:
                batch = self._next()
                while batch is None:
                    if self._closing and not any(self._queues.values()):
                        return
                    self._changed.wait(self._wait_seconds())
                    batch = self._next()
            self._run(batch)

    def _next(self) -> _Batch | None:
        """Takes the batch that has been ready longest, if one is ready."""
        now = time.monotonic()
        ready = [
            (queue[0].tasks[0].enqueued, key)
            for key, queue in self._queues.items()
            if queue and (queue[0].closes <= now or self._closing)
        ]
        if not ready:
            return None
        return self._queues[min(ready)[1]].pop(0)

    def _wait_seconds(self) -> float | None:
        closes = [queue[0].closes for queue in self._queues.values() if queue]
        return max(min(closes) - time.monotonic(), 0) if closes else None

    def _run(self, batch: _Batch) -> None:
        now = time.monotonic()
        for task in batch.tasks:
            labels = (("thread_pool_name", self._options.thread_pool_name),)
            queued = (now - task.enqueued) * 1e6
            self._metrics.observe(
                "/tensorflow/serving/batching_session/queuing_latency", queued, labels, _QUEUE_BUCKETS
            )
        try:
            outputs = self._run_merged(batch, now)
        except ServingError as error:
            for task in batch.tasks:
                task.done(error)
            return
        start = 0
        for task in batch.tasks:
            task.done([array[start : start + task.size] for array in outputs])
            start += task.size

    def _run_merged(self, batch: _Batch, now: float) -> list[np.ndarray]:
        deadlines = [task.deadline for task in batch.tasks]
        latest = None if None in deadlines else max(d for d in deadlines if d is not None)
        if latest is not None and latest <= now:
            raise ServingError(
                Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue"
            )
        size = next((size for size in self._options.allowed_batch_sizes if size >= batch.size), batch.size)
        feeds = merge(
            [task.feeds for task in batch.tasks], size - batch.size, self._options.pad_variable_length_inputs
        )
        timeout_ms = 0 if latest is None else max(int((latest - now) * 1000), 1)
        outputs = self._model.run(feeds, batch.fetches, timeout_ms)
        for array in outputs:
            if array.ndim == 0:
                raise ServingError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
            if len(array) != size:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of "
                    "the input tensors",
                )
        return outputs
