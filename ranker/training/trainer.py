"""Trains a stack of replicas, with checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ranker.architecture import Weights
from ranker.backend import tf
from ranker.config import Training
from ranker.seeds import Seeds
from ranker.training import checkpoint as checkpoints
from ranker.training.rows import order as row_order
from ranker.training.rows.batches import batches
from ranker.training.rows.examples import Examples
from ranker.training.rows.feed import Feed, Memory
from ranker.training.step.finite import Health
from ranker.training.step.program import Program
from ranker.training.step.schedule import schedule
from ranker.training.step.stack import Stack

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
        pilot: whether it is the pilot that trains; see `ranker.training.pilot`.
    """

    step: int
    steps: int
    loss: tuple[float, ...]
    examples_per_second: float
    done: int
    seconds: float
    pilot: bool = False


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        weights: each tower's.
        loss: each tower's at the end.
        steps: of the training.
        seconds: it took.
        curve: the mean loss of each epoch and tower, float64 [epochs, towers].
        failures: what is not finite of each tower, a clause; empty where all is well.
    """

    weights: list[Weights]
    loss: tuple[float, ...]
    steps: int
    seconds: float
    curve: np.ndarray
    failures: tuple[str, ...]


class Validation(Protocol):
    """Rows that a training leaves out, and what is measured on them."""

    held_out: np.ndarray
    """Which rows each tower leaves out, bool [towers, rows], by base position."""

    @property
    def active(self) -> np.ndarray:
        """Which towers train on, bool [towers]."""

    def measure(self, weights: Sequence[Weights], averages: Sequence[Weights]) -> None:
        """Called after each epoch with each tower's weights, and with those less the first average's correction so far."""

    def state(self) -> dict[str, np.ndarray]:
        """What a resumed training needs, by name."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets what `state` returned."""


def train(
    program: Program | Stack,
    examples: Examples | Feed,
    training: Training | Sequence[Training],
    orders: Sequence[Seeds],
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    averages: Sequence[Sequence[Training]] | None = None,
    names: Sequence[str] | None = None,
    partial: bool = False,
    validation: Validation | None = None,
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
        names: what each tower is called in an error.
        partial: whether the other towers go on when one's loss or weights are not finite; `Trained.failures` has which.
        validation: rows to leave out, and what ends a tower's training early; its losses are NaN from then on.

    Returns:
        The averaged weights.

    Raises:
        NotFiniteError: a loss or a weight is not finite; with `partial` never.
    """
    stack = program if isinstance(program, Stack) else Stack([program])
    trainings = [training] * len(stack.sizes) if isinstance(training, Training) else list(training)
    first = trainings[0]
    feed = Memory(examples) if isinstance(examples, Examples) else examples
    rows, batch, epochs = feed.rows, first.batch_size, first.count_of_epochs
    per_epoch = math.ceil(rows / batch)
    steps = per_epoch * epochs
    averages_of = averages or [()] * len(trainings)
    schedules = [
        schedule(settings, steps, averaged) for settings, averaged in zip(trainings, averages_of, strict=True)
    ]
    each = [settings for settings, size in zip(trainings, stack.sizes, strict=True) for _ in range(size)]
    window = max(rows if settings.shuffle_window == "full" else settings.shuffle_window for settings in each)
    health = Health(names or [f"tower {i}" for i in range(stack.towers)], each, partial)
    curve = _Curve(stack.towers)
    step = _restore(checkpoint, stack, curve, *([] if validation is None else [validation]))
    began, last_report, last_save, trained = time.monotonic(), 0.0, time.monotonic(), 0
    losses: list[np.ndarray] = []
    ended = False
    loss = (math.nan,) * stack.towers
    epoch, at = divmod(step, per_epoch)
    active = np.ones(stack.towers, bool) if validation is None else validation.active
    block = row_order.EPOCH_BLOCK if any(settings.reshuffle for settings in each) else 1
    for part in feed.parts(epochs, window, batch * _STEPS_A_CALL, epoch, at * batch, block):
        order = batches(part, rows, each, orders)
        if validation is not None:
            place = np.minimum(np.maximum(order, 0) + part.first, rows - 1)
            tower = np.arange(stack.towers)[:, np.newaxis]
            order = np.where(validation.held_out[tower, place], -1, order).astype(np.int32)
        for chunk in np.split(order, range(_STEPS_A_CALL, len(order), _STEPS_A_CALL)):
            now = [s.tensors(step, step + len(chunk)) for s in schedules]
            values = stack.run(part.examples, tf.constant(chunk), now, active).numpy()
            health.check_losses(values, step, steps)
            losses.append(np.where(active, values, math.nan))
            step += len(chunk)
            trained += len(chunk)
            curve.add(losses[-1], step % per_epoch == 0)
            clock = time.monotonic()
            if clock - last_report >= _REPORT_SECONDS or step == steps:
                loss = tuple(float(value) for value in np.concatenate(losses).mean(axis=0))
                rate = trained * batch * stack.towers / (clock - began)
                report(
                    Progress(
                        step=step,
                        steps=steps,
                        loss=loss,
                        examples_per_second=rate,
                        done=trained,
                        seconds=clock - began,
                    )
                )
                losses, last_report = [], clock
            ended = health.all_failed
            if validation is not None and step % per_epoch == 0 and not ended:
                validation.measure(stack.weights(None), stack.weights(0))
                active = validation.active
                ended = not active.any()
            if ended:
                steps = step
                break
            if checkpoint is not None and step < steps and clock - last_save >= 60 * first.checkpoint_minutes:
                state = stack.state() | curve.state() | ({} if validation is None else validation.state())
                checkpoints.save(checkpoint, step, state)
                last_save = time.monotonic()
        if ended:
            break
    _check_weights(stack, health, steps)
    seconds = time.monotonic() - began
    return Trained(
        weights=stack.weights(),
        loss=loss,
        steps=steps,
        seconds=seconds,
        curve=curve.epochs,
        failures=tuple(health.failures),
    )


class _Curve:
    """The mean loss of each epoch and tower."""

    def __init__(self, towers: int):
        self.epochs: np.ndarray = np.zeros((0, towers))
        self._sum, self._steps = np.zeros(towers), 0

    def add(self, losses: np.ndarray, epoch_ends: bool) -> None:
        """Adds the losses [n, towers] of steps of one epoch."""
        self._sum, self._steps = self._sum + losses.sum(axis=0, dtype=np.float64), self._steps + len(losses)
        if epoch_ends:
            self.epochs = np.vstack([self.epochs, self._sum / self._steps])
            self._sum, self._steps = np.zeros_like(self._sum), 0

    def state(self) -> dict[str, np.ndarray]:
        """What a resumed training needs, by name."""
        return {"curve/epochs": self.epochs, "curve/sum": self._sum, "curve/steps": np.array(self._steps)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets what `state` returned."""
        self.epochs, self._sum = state["curve/epochs"], state["curve/sum"]
        self._steps = int(state["curve/steps"])


def _check_weights(stack: Stack, health: Health, steps: int) -> None:
    tower = 0
    for program in stack.programs:
        for average in [None, *range(program.averages)]:
            for i, weights in enumerate(program.weights(average)):
                health.check_weights(tower + i, weights, steps)
        tower += program.towers


def _restore(checkpoint: Path | None, *parts: Stack | _Curve | Validation) -> int:
    saved = None if checkpoint is None else checkpoints.restore(checkpoint)
    if saved is None:
        return 0
    step, state = saved
    for part in parts:
        part.restore(state)
    return step
