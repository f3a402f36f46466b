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
from ranker.training.averaging import coefficients
from ranker.training.examples import Examples
from ranker.training.order import windowed_order
from ranker.training.program import Program

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
    program: Program,
    examples: Examples,
    training: Training,
    orders: Sequence[Seeds],
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Trained:
    """Runs a program over all epochs.

    Args:
        program: the towers, freshly initialised.
        examples: the rows in their base order.
        training: epochs, batch size, window, averaging, how often to checkpoint.
        orders: one entry a tower: the seeds that shuffle its rows.
        checkpoint: a file that lets a killed training go on where it stood; removed by the caller once the
            result is safe. It must belong to this very training: the caller names it by what it trains.
        report: called about once a second.

    Returns:
        The averaged weights.
    """
    rows = int(examples.label.shape[0])
    per_epoch = math.ceil(rows / training.batch_size)
    steps = per_epoch * training.epochs
    correction = coefficients(training, steps)
    step = _restore(program, checkpoint)
    began, last_report, last_save, trained = time.monotonic(), 0.0, time.monotonic(), 0
    losses: list[np.ndarray] = []
    loss = (math.nan,) * program.towers
    batches, batches_epoch = np.empty(0), -1
    while step < steps:
        epoch, at = divmod(step, per_epoch)
        if epoch != batches_epoch:
            batches, batches_epoch = _batches(rows, training, orders, epoch), epoch
        chunk = batches[at : at + _STEPS_A_CALL]
        losses.append(
            program.run(
                examples,
                tf.constant(chunk),
                tf.constant(correction[step : step + len(chunk)]),
                tf.constant(step + 1, tf.float32),
            ).numpy()
        )
        step += len(chunk)
        trained += len(chunk)
        now = time.monotonic()
        if now - last_report >= _REPORT_SECONDS or step == steps:
            loss = tuple(float(value) for value in np.concatenate(losses).mean(axis=0))
            rate = trained * training.batch_size * program.towers / (now - began)
            report(Progress(step, steps, loss, rate, trained, now - began))
            losses, last_report = [], now
        if checkpoint is not None and step < steps and now - last_save >= 60 * training.checkpoint_minutes:
            _save(program, step, checkpoint)
            last_save = time.monotonic()
    return Trained(program.weights(), loss, steps, time.monotonic() - began)


def _batches(rows: int, training: Training, orders: Sequence[Seeds], epoch: int) -> np.ndarray:
    """Row positions int32 [steps, towers, batch] of one epoch; the last batch is filled up with -1."""
    padding = np.full(-rows % training.batch_size, -1, np.int32)
    own = {}
    for seeds in orders:
        if seeds.shuffle not in own:
            order = windowed_order(rows, training.shuffle_window, seeds.order(epoch)).astype(np.int32)
            own[seeds.shuffle] = np.concatenate([order, padding]).reshape(-1, training.batch_size)
    return np.stack([own[seeds.shuffle] for seeds in orders], axis=1)


def _save(program: Program, step: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process's own temporary name: two workers on one replica must not write into each other's file.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{"step": np.array(step), **program.state()})  # type: ignore[arg-type]
    temporary.replace(path)


def _restore(program: Program, path: Path | None) -> int:
    if path is None or not path.exists():
        return 0
    with np.load(path) as saved:
        program.restore(saved)
        return int(saved["step"])
