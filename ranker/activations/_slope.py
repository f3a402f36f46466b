"""A function with its exact slope, which keeps one tensor for the way back."""

from collections.abc import Callable
from typing import TypeAlias

from ranker.backend import tf

Elementwise: TypeAlias = Callable[[tf.Tensor], tf.Tensor]


def with_slope(value: Elementwise, slope: Elementwise) -> Elementwise:
    """Join an elementwise function and its derivative.

    Automatic differentiation would keep a tensor for every operation of `value`, and would meet
    0 * inf where a branch that was not taken overflows. Here the backward pass keeps x alone and
    multiplies by `slope(x)`. `slope` is itself differentiated where second derivatives are asked for.

    Args:
        value: x of any shape -> f(x), same shape and dtype.
        slope: x of any shape -> f'(x), same shape and dtype.
    """

    @tf.custom_gradient
    def function(x: tf.Tensor) -> tuple[tf.Tensor, Elementwise]:
        return value(x), lambda upstream: upstream * slope(x)

    return function
