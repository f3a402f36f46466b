"""Trains a stack of replicas from rows in memory, with checkpoints."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ranker.architecture import Weights
from ranker.backend import tf
from ranker.config import Training
from ranker.seeds import Seeds
from ranker.training.examples import Examples
from ranker.training.order import windowed_order
from ranker.training.program import Program
from ranker.training.schedule import schedule
from ranker.training.stack import Stack

_STEPS_A_CALL = 200
_REPORT_SECONDS = 1.0


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        step: steps done.
        steps: steps in all.
        loss: mean loss a tower over the steps since the last report.
        examples_per_second: rows a second, all towers together, since this process began.
        done: steps of this process (a resumed training has fewer than `step`).
        seconds: since this process began to train.
    """

    step: int
    steps: int
    loss: tuple[float, ...]
    examples_per_second: float
    done: int
    seconds: float


@dataclass(frozen=True)
class Trained:
    """A finished training: each tower's weights, its loss at the end, and what it took."""

    weights: list[Weights]
    loss: tuple[float, ...]
    steps: int
    seconds: float


def train(
    program: Program | Stack,
    examples: Examples,
    training: Training | Sequence[Training],
    orders: Sequence[Seeds],
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Trained:
    """Runs a program over all epochs.

    Args:
        program: the towers, freshly initialised.
        examples: the rows in their base order.
        training: epochs, batch size, window, averaging, how often to checkpoint; of a stack one a program if they
            differ (in anything but epochs and batch size).
        orders: one entry a tower: the seeds that shuffle its rows.
        checkpoint: a file that lets a killed training go on where it stood; removed by the caller once the
            result is safe. It must belong to this very training: the caller names it by what it trains.
        report: called about once a second.

    Returns:
        The averaged weights.
    """
    stack = program if isinstance(program, Stack) else Stack([program])
    trainings = [training] * len(stack.sizes) if isinstance(training, Training) else list(training)
    first = trainings[0]
    rows = int(examples.label.shape[0])
    per_epoch = math.ceil(rows / first.batch_size)
    steps = per_epoch * first.epochs
    schedules = [schedule(own, steps) for own in trainings]
    each = [own for own, size in zip(trainings, stack.sizes, strict=True) for _ in range(size)]
    step = _restore(stack, checkpoint)
    began, last_report, last_save, trained = time.monotonic(), 0.0, time.monotonic(), 0
    losses: list[np.ndarray] = []
    loss = (math.nan,) * stack.towers
    batches, batches_epoch = np.empty(0), -1
    while step < steps:
        epoch, at = divmod(step, per_epoch)
        if epoch != batches_epoch:
            batches, batches_epoch = _batches(rows, each, orders, epoch), epoch
        chunk = batches[at : at + _STEPS_A_CALL]
        losses.append(
            stack.run(
                examples, tf.constant(chunk), [s.tensors(step, step + len(chunk)) for s in schedules]
            ).numpy()
        )
        step += len(chunk)
        trained += len(chunk)
        now = time.monotonic()
        if now - last_report >= _REPORT_SECONDS or step == steps:
            loss = tuple(float(value) for value in np.concatenate(losses).mean(axis=0))
            rate = trained * first.batch_size * stack.towers / (now - began)
            report(Progress(step, steps, loss, rate, trained, now - began))
            losses, last_report = [], now
        if checkpoint is not None and step < steps and now - last_save >= 60 * first.checkpoint_minutes:
            _save(stack, step, checkpoint)
            last_save = time.monotonic()
    return Trained(stack.weights(), loss, steps, time.monotonic() - began)


def _batches(rows: int, trainings: Sequence[Training], orders: Sequence[Seeds], epoch: int) -> np.ndarray:
    """Row positions int32 [steps, towers, batch] of one epoch; the last batch is filled up with -1."""
    own = {}
    keys = [
        (seeds.shuffle, training.shuffle_window) for seeds, training in zip(orders, trainings, strict=True)
    ]
    for key, seeds, training in zip(keys, orders, trainings, strict=True):
        if key not in own:
            padding = np.full(-rows % training.batch_size, -1, np.int32)
            order = windowed_order(rows, training.shuffle_window, seeds.order(epoch)).astype(np.int32)
            own[key] = np.concatenate([order, padding]).reshape(-1, training.batch_size)
    return np.stack([own[key] for key in keys], axis=1)


def _save(stack: Stack, step: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process's own temporary name: two workers on one replica must not write into each other's file.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{"step": np.array(step), **stack.state()})  # type: ignore[arg-type]
    temporary.replace(path)


def _restore(stack: Stack, path: Path | None) -> int:
    if path is None or not path.exists():
        return 0
    with np.load(path) as saved:
        stack.restore(saved)
        return int(saved["step"])
