"""Trains a stack of replicas, with checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ranker.architecture import Weights
from ranker.backend import tf
from ranker.config import Training
from ranker.seeds import Seeds
from ranker.training import checkpoint as checkpoints
from ranker.training.batches import batches
from ranker.training.examples import Examples
from ranker.training.feed import Feed, Memory
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
    examples: Examples | Feed,
    training: Training | Sequence[Training],
    orders: Sequence[Seeds],
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    averages: Sequence[Sequence[Training]] | None = None,
) -> Trained:
    """Runs a program over all epochs.

    Args:
        program: the towers, freshly initialised.
        examples: the rows in their base order, or a feed of them.
        training: epochs, batch size, window, averaging, how often to checkpoint; of a stack one a program if they
            differ (in anything but epochs and batch size).
        orders: one entry a tower: the seeds that shuffle its rows.
        checkpoint: a file that lets a killed training go on where it stood; removed by the caller once the
            result is safe. It must belong to this very training: the caller names it by what it trains.
        report: called about once a second.
        averages: of each program the trainings whose averages of the weights it keeps; default: its own. `Trained`
            has the first, `program.weights(i)` any.

    Returns:
        The averaged weights.
    """
    stack = program if isinstance(program, Stack) else Stack([program])
    trainings = [training] * len(stack.sizes) if isinstance(training, Training) else list(training)
    first = trainings[0]
    feed = Memory(examples) if isinstance(examples, Examples) else examples
    rows, batch = feed.rows, first.batch_size
    per_epoch = math.ceil(rows / batch)
    steps = per_epoch * first.epochs
    kept = averages or [()] * len(trainings)
    schedules = [schedule(own, steps, more) for own, more in zip(trainings, kept, strict=True)]
    each = [own for own, size in zip(trainings, stack.sizes, strict=True) for _ in range(size)]
    window = max(rows if own.shuffle_window == "full" else own.shuffle_window for own in each)
    step = _restore(stack, checkpoint)
    began, last_report, last_save, trained = time.monotonic(), 0.0, time.monotonic(), 0
    losses: list[np.ndarray] = []
    loss = (math.nan,) * stack.towers
    epoch, at = divmod(step, per_epoch)
    for part in feed.parts(first.epochs, window, batch * _STEPS_A_CALL, epoch, at * batch):
        order = batches(part, rows, each, orders)
        for chunk in np.split(order, range(_STEPS_A_CALL, len(order), _STEPS_A_CALL)):
            now = [s.tensors(step, step + len(chunk)) for s in schedules]
            losses.append(stack.run(part.examples, tf.constant(chunk), now).numpy())
            step += len(chunk)
            trained += len(chunk)
            clock = time.monotonic()
            if clock - last_report >= _REPORT_SECONDS or step == steps:
                loss = tuple(float(value) for value in np.concatenate(losses).mean(axis=0))
                rate = trained * batch * stack.towers / (clock - began)
                report(Progress(step, steps, loss, rate, trained, clock - began))
                losses, last_report = [], clock
            if checkpoint is not None and step < steps and clock - last_save >= 60 * first.checkpoint_minutes:
                checkpoints.save(checkpoint, step, stack.state())
                last_save = time.monotonic()
    return Trained(stack.weights(), loss, steps, time.monotonic() - began)


def _restore(stack: Stack, checkpoint: Path | None) -> int:
    saved = None if checkpoint is None else checkpoints.restore(checkpoint)
    if saved is None:
        return 0
    step, state = saved
    stack.restore(state)
    return step
