"""Optimizers as pure functions of rows, so that one rule serves dense weights and touched embedding rows.

The formulas are Keras 2's. On embeddings those with a memory (Adam, RMSprop, momentum) are lazy: a row's slots move only
when the row is in the batch, since decaying a whole table each step would cost its whole size.
"""

from __future__ import annotations

from ranker.backend import tf
from ranker.config import Optimizer


def slots(optimizer: Optimizer) -> tuple[float, ...]:
    """The initial value of each slot (extra tensor of the weights' shape) the optimizer keeps."""
    if optimizer.name == "adagrad":
        return (optimizer.starting_accumulator,)
    return {"sgd": (0.0,) if optimizer.momentum else (), "adam": (0.0, 0.0), "rmsprop": (0.0,)}[
        optimizer.name
    ]


def leaves_rows_without_gradient(optimizer: Optimizer) -> bool:
    """Whether a weight stays as it is, slots included, in a step without a gradient."""
    return optimizer.name == "adagrad" or (optimizer.name == "sgd" and not optimizer.momentum)


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
        if not optimizer.momentum:
            return -rate * gradient, []
        velocity = optimizer.momentum * state[0] - rate * gradient
        return velocity, [velocity]
    if optimizer.name == "adagrad":
        total = state[0] + tf.square(gradient)
        return -rate * gradient * tf.math.rsqrt(total + optimizer.epsilon), [total]
    if optimizer.name == "rmsprop":
        square = state[0] + (1.0 - optimizer.rho) * (tf.square(gradient) - state[0])
        return -rate * gradient * tf.math.rsqrt(square + optimizer.epsilon), [square]
    first = state[0] + (1.0 - optimizer.beta_1) * (gradient - state[0])
    second = state[1] + (1.0 - optimizer.beta_2) * (tf.square(gradient) - state[1])
    corrected = rate * tf.sqrt(1.0 - tf.pow(optimizer.beta_2, step)) / (1.0 - tf.pow(optimizer.beta_1, step))
    return -corrected * first / (tf.sqrt(second) + optimizer.epsilon), [first, second]
