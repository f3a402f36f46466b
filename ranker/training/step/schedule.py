"""What changes from step to step: the learning rate, and how much an update counts in the average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ranker.backend import tf
from ranker.config import Training
from ranker.training.step.averaging import coefficients


class Schedule(NamedTuple):
    """Numbers a step, float32 [steps] each but the last.

    Attributes:
        step: its number, from 1.
        done: its share of the training, in (0, 1].
        rate: the learning rate.
        correction: the update's weight in each average's correction, [steps, averages].
    """

    step: np.ndarray
    done: np.ndarray
    rate: np.ndarray
    correction: np.ndarray

    def tensors(self, start: int, stop: int) -> Schedule:
        """Steps start..stop, as tensors."""
        return Schedule(*(tf.constant(values[start:stop]) for values in self))


def schedule(training: Training, steps: int, averages: Sequence[Training] = ()) -> Schedule:
    """The schedule of a whole training.

    Args:
        training: optimizer (with its decay) and averaging.
        steps: all steps, >= 1.
        averages: trainings whose averages are kept; default: its own.
    """
    step = np.arange(1, steps + 1) / steps
    before = step - 1 / steps
    optimizer = training.optimizer
    # The share of the decay that is behind; it begins where the warm-up ends.
    fallen = np.maximum(0.0, before - optimizer.warmup) / (1.0 - optimizer.warmup)
    if optimizer.decay == "exponential":
        factor = optimizer.final**fallen
    else:
        shape = {
            "none": np.ones(steps),
            "linear": 1.0 - fallen,
            "cosine": 0.5 * (1.0 + np.cos(np.pi * fallen)),
        }[optimizer.decay]
        factor = optimizer.final + (1.0 - optimizer.final) * shape
    if optimizer.warmup:
        factor = factor * np.minimum(1.0, step / optimizer.warmup)
    rate = optimizer.learning_rate * factor
    return Schedule(
        np.arange(1, steps + 1, dtype=np.float32),
        step.astype(np.float32),
        rate.astype(np.float32),
        np.stack([coefficients(averaging, steps) for averaging in averages or [training]], axis=1),
    )
