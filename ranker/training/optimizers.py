"""Optimizers as pure functions of rows, so that one rule serves dense weights and touched embedding rows.

The formulas are Keras 2's. Adam on embeddings is the lazy one: a row's moments move only when the row is in the batch,
since decaying a whole table each step would cost its whole size.
"""

from __future__ import annotations

from ranker.backend import tf
from ranker.config import Optimizer


def slots(optimizer: Optimizer) -> tuple[float, ...]:
    """The initial value of each slot (extra tensor of the weights' shape) the optimizer keeps."""
    return {"sgd": (), "adagrad": (optimizer.initial_accumulator,), "adam": (0.0, 0.0)}[optimizer.name]


def update(
    optimizer: Optimizer, gradient: tf.Tensor, state: list[tf.Tensor], rate: tf.Tensor, step: tf.Tensor
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """One step of the optimizer.

    Args:
        optimizer: the rule and its numbers.
        gradient: float32, any shape.
        state: the slots, each of the gradient's shape.
        rate: float32 scalar, this step's learning rate.
        step: float32 scalar, 1 for the first step.

    Returns:
        What to add to the weights, and the new slots.
    """
    if optimizer.name == "sgd":
        return -rate * gradient, []
    if optimizer.name == "adagrad":
        total = state[0] + tf.square(gradient)
        return -rate * gradient * tf.math.rsqrt(total + optimizer.epsilon), [total]
    first = state[0] + 0.1 * (gradient - state[0])
    second = state[1] + 0.001 * (tf.square(gradient) - state[1])
    corrected = rate * tf.sqrt(1.0 - tf.pow(0.999, step)) / (1.0 - tf.pow(0.9, step))
    return -corrected * first / (tf.sqrt(second) + optimizer.epsilon), [first, second]
