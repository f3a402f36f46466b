"""Requests of several callers run together: TF Serving's batching session.

Batches form per (inputs, outputs) set. A batch closes when it is full or its oldest request has waited
`batch_timeout_micros`; threads of the model's own run closed batches. `allowed_batch_sizes` rounds a
batch up by repeating a row. Callers get their rows back.

Source: TF Serving's batching_session and TensorFlow's shared_batch_scheduler (meaning of parameters,
error texts).
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from serving.server.metrics import Metrics
from serving.server.requests.predict import ServedModel
from serving.server.requests.signatures import Feeds, ServedSignature, SignatureTensor
from serving.status import Code, StatusError, invalid

_QUEUE_BUCKETS = tuple(100 * 1.2**power for power in range(52))


@dataclass(frozen=True)
class BatchingOptions:
    """`BatchingParameters`, with TF Serving's defaults."""

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = 0
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0
    thread_pool_name: str = "model_server_batch_threads"

    def execution_size(self) -> int:
        """Most rows run at once."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size:
            return self.max_execution_batch_size
        return self.max_batch_size


def options_from_proto(proto: Any) -> BatchingOptions:
    """Options of a `BatchingParameters`.

    Raises:
        StatusError: INVALID_ARGUMENT if `allowed_batch_sizes` does not end in the largest batch size,
            or is not increasing.
    """
    defaults = BatchingOptions()

    def value(name: str) -> Any:
        return getattr(proto, name).value if proto.HasField(name) else getattr(defaults, name)

    options = BatchingOptions(
        max_batch_size=value("max_batch_size"),
        batch_timeout_micros=value("batch_timeout_micros"),
        max_enqueued_batches=value("max_enqueued_batches"),
        num_batch_threads=value("num_batch_threads"),
        allowed_batch_sizes=tuple(proto.allowed_batch_sizes),
        pad_variable_length_inputs=proto.pad_variable_length_inputs,
        enable_large_batch_splitting=value("enable_large_batch_splitting"),
        max_execution_batch_size=value("max_execution_batch_size"),
        thread_pool_name=value("thread_pool_name"),
    )
    sizes = options.allowed_batch_sizes
    if list(sizes) != sorted(set(sizes)):
        raise invalid("allowed_batch_sizes entries must be monotonically increasing")
    if sizes and sizes[-1] != options.execution_size():
        raise invalid(
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            f"{sizes[-1]}; expected {options.execution_size()}"
        )
    if options.max_batch_size <= 0 or options.max_enqueued_batches < 0:
        raise invalid(f"max_batch_size must be positive; was {options.max_batch_size}")
    return options


@dataclass(slots=True)
class _Task:
    feeds: Feeds
    size: int
    deadline: float | None
    enqueued: float
    answer: queue.SimpleQueue[list[np.ndarray] | Exception] = field(default_factory=queue.SimpleQueue)


@dataclass
class _Batch:
    fetches: Sequence[SignatureTensor]
    closes: float
    size: int = 0
    tasks: list[_Task] = field(default_factory=list)


class BatchedModel:
    """A `ServedModel` that runs another model's requests in batches."""

    def __init__(self, model: ServedModel, options: BatchingOptions, metrics: Metrics):
        self._model = model
        self._options = options
        self._metrics = metrics
        self._changed = threading.Condition()
        self._queues: dict[tuple[tuple[tuple[str, int], ...], tuple[str, ...]], list[_Batch]] = {}
        self._closing = False
        threads = options.num_batch_threads or len(os.sched_getaffinity(0))
        self._threads = [
            threading.Thread(target=self._run_batches, name=f"batch-{index}", daemon=True)
            for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def signatures(self) -> Mapping[str, ServedSignature]:
        """Those of the model."""
        return self._model.signatures

    @property
    def signature_defs(self) -> Mapping[str, Any]:
        """Those of the model."""
        return self._model.signature_defs

    def waiting(self) -> int:
        """Requests in the queue, without those of the batches that run."""
        with self._changed:
            return sum(len(batch.tasks) for batches in self._queues.values() for batch in batches)

    def run(self, feeds: Feeds, fetches: Sequence[SignatureTensor], timeout_ms: int = 0) -> list[np.ndarray]:
        """Runs one request as part of a batch, and waits for it.

        Raises:
            StatusError: INVALID_ARGUMENT if the inputs have no common first dimension or it is larger
                than a batch, UNAVAILABLE if the queue is full, or what the batch's run answers.
        """
        size = rows_of(feeds)
        limit = self._options.max_batch_size
        if size > limit:
            raise invalid(f"Task size {size} is larger than maximum input batch size {limit}")
        now = time.monotonic()
        deadline = now + timeout_ms / 1000 if timeout_ms else None
        # The set of tensors is the batch's identity; its order is whatever the first request had.
        # A wrong dtype makes a batch of its own, or it would fail its neighbours' requests too.
        names = tuple(sorted([(spec.name, array.dtype.num) for spec, array in feeds]))
        ordered = sorted(fetches, key=lambda spec: spec.name)
        key = (names, tuple(spec.name for spec in ordered))
        tasks = self._split(feeds, size, deadline, now)
        with self._changed:
            if self._closing:
                raise StatusError(Code.UNAVAILABLE, "The batch scheduler is shutting down")
            batches = self._queues.setdefault(key, [])
            for task in tasks:
                self._enqueue(batches, task, ordered)
            self._changed.notify()
        pieces = [_wait_for_outputs(task) for task in tasks]
        outputs = pieces[0]
        if len(pieces) > 1:
            outputs = [np.concatenate(arrays) for arrays in zip(*pieces, strict=True)]
        return [outputs[ordered.index(spec)] for spec in fetches]

    def close(self) -> None:
        """Runs what is queued, ends the threads, closes the model."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._model.close()

    def _split(self, feeds: Feeds, size: int, deadline: float | None, now: float) -> list[_Task]:
        """The request as a whole, or in pieces where large ones are split."""
        largest = self._options.execution_size()
        if size <= largest:
            return [_Task(feeds, size, deadline, now)]
        return [
            _Task(
                [(spec, array[start : start + largest]) for spec, array in feeds],
                min(largest, size - start),
                deadline,
                now,
            )
            for start in range(0, size, largest)
        ]

    def _enqueue(self, batches: list[_Batch], task: _Task, fetches: Sequence[SignatureTensor]) -> None:
        options = self._options
        last = batches[-1] if batches else None
        if last is None or last.size + task.size > options.execution_size():
            if len(batches) >= max(options.max_enqueued_batches, 1):
                raise StatusError(
                    Code.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full"
                )
            if last is not None:
                last.closes = 0.0
            last = _Batch(fetches, task.enqueued + options.batch_timeout_micros / 1e6)
            batches.append(last)
        last.tasks.append(task)
        last.size += task.size
        if last.size >= options.execution_size():
            last.closes = 0.0

    def _run_batches(self) -> None:
        while True:
            with self._changed:
                batch = self._take_ready_batch()
                while batch is None:
                    if self._closing and not any(self._queues.values()):
                        return
                    self._changed.wait(self._wait_seconds())
                    batch = self._take_ready_batch()
            self._run(batch)

    def _take_ready_batch(self) -> _Batch | None:
        """Takes the batch that has been ready longest, if one is ready."""
        now = time.monotonic()
        ready = [
            (batches[0].tasks[0].enqueued, key)
            for key, batches in self._queues.items()
            if batches and (batches[0].closes <= now or self._closing)
        ]
        if not ready:
            return None
        return self._queues[min(ready)[1]].pop(0)

    def _wait_seconds(self) -> float | None:
        closes = [batches[0].closes for batches in self._queues.values() if batches]
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
        except Exception as error:  # noqa: BLE001 - the callers wait for it
            for task in batch.tasks:
                task.answer.put(error)
            return
        start = 0
        for task in batch.tasks:
            task.answer.put([array[start : start + task.size] for array in outputs])
            start += task.size

    def _run_merged(self, batch: _Batch, now: float) -> list[np.ndarray]:
        deadlines = [task.deadline for task in batch.tasks]
        latest = None if None in deadlines else max(d for d in deadlines if d is not None)
        if latest is not None and latest <= now:
            raise StatusError(
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
                raise StatusError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
            if len(array) != size:
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of "
                    "the input tensors",
                )
        return outputs


def _wait_for_outputs(task: _Task) -> list[np.ndarray]:
    answer = task.answer.get()
    if isinstance(answer, Exception):
        raise answer
    return answer


def rows_of(feeds: Feeds) -> int:
    """How many rows a request has.

    Raises:
        StatusError: INVALID_ARGUMENT if its inputs have no first dimension, or not the same.
    """
    sizes = set()
    for _, array in feeds:
        if array.ndim == 0:
            raise invalid("Batching Run() input tensors must have at least one dimension")
        sizes.add(len(array))
    if len(sizes) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    if not sizes:
        raise invalid("Batching session Run() must have at least one input tensor")
    return sizes.pop()


def merge(tasks: Sequence[Feeds], padding_rows: int, pad_lengths: bool) -> Feeds:
    """Concatenates the inputs of several requests along the first dimension.

    Args:
        tasks: the requests' inputs, the same tensors in each.
        padding_rows: rows to add; the last request's first row repeats.
        pad_lengths: pad other dimensions with zeros to the longest, instead of refusing a mix.

    Raises:
        StatusError: FAILED_PRECONDITION if shapes differ and `pad_lengths` is off, INVALID_ARGUMENT if
            ranks or dtypes differ.
    """
    merged: Feeds = []
    by_name = [{spec.name: array for spec, array in feeds} for feeds in tasks]
    for spec, _ in tasks[0]:
        arrays = [feeds[spec.name] for feeds in by_name]
        if len({array.shape[1:] for array in arrays}) > 1:
            if not pad_lengths:
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    f"Tensors with name '{spec.name}' from different tasks have different shapes and padding is turned "
                    "off.Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
                    "have equal dimensions starting with the first dim.",
                )
            arrays = _pad(arrays)
        if padding_rows:
            arrays += [arrays[-1][:1]] * padding_rows
        merged.append((spec, arrays[0] if len(arrays) == 1 else np.concatenate(arrays)))
    return merged


def _pad(arrays: list[np.ndarray]) -> list[np.ndarray]:
    if len({array.ndim for array in arrays}) > 1:
        raise invalid("Cannot pad tensors of different ranks")
    target = [max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True)]
    padded = []
    for array in arrays:
        widths = [(0, 0)] + [
            (0, longest - size) for longest, size in zip(target, array.shape[1:], strict=True)
        ]
        filler: Any = b"" if array.dtype == object else 0
        padded.append(np.pad(array, widths, constant_values=filler) if any(w for _, w in widths) else array)
    return padded
