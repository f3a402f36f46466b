"""The activations for Keras 3, on its TensorFlow, JAX and PyTorch backends.

    from ranker.activations import keras3
    model = keras.Sequential([keras.layers.Dense(64), keras3.ActivationLayer("smelu", beta=0.5)])
    y = keras3.smelu(x, beta=0.5)                                   # as a function of a tensor
    keras.layers.Dense(64, activation=keras3.get({"name": "smelu", "beta": 0.5}))

Importing this module imports Keras 3 with the backend that `KERAS_BACKEND` names, and nothing else of
this project's training code. Each function takes a floating point tensor of any shape, keeps shape and
dtype, and raises `ActivationError` (a `ValueError`) for a parameter out of its range. Values and slopes
are those of `ranker.activations.reference`, up to the rounding of the dtype.

How slopes come out right. Backends differ at the ends of a clip and in ties of a maximum: JAX gives half
a slope there. So the parts are joined by `where`, whose gradient is that of the part chosen, and the
middle part sees its argument clipped, so that an infinite input of a part not chosen cannot turn its
zero gradient into NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
from keras import ops

from ranker.activations.catalogue import ActivationError, integral_at_one, split, validate

Tensor = Any


def smelu(x: Tensor, beta: float = 1.0, centred: bool = False) -> Tensor:
    """SmeLU: ReLU with a parabola of half width `beta` in place of its corner (arXiv 2010.09931).

    `centred` subtracts beta / 4, so that 0 is mapped to 0.
    """
    validate("smelu", {"beta": beta, "centred": centred})
    x = ops.convert_to_tensor(x)
    if beta < _smallest_width(x):
        return relu(x)
    inner = ops.clip(x, -beta, beta)
    if centred:
        parabola, below, above = inner * (inner * (0.25 / beta) + 0.5), -0.25 * beta, x - 0.25 * beta
    else:
        parabola, below, above = beta * ops.square(inner * (0.5 / beta) + 0.5), 0.0, x
    return ops.where(x >= beta, above, ops.where(x <= -beta, ops.full_like(x, below), parabola))


def gsmelu(
    x: Tensor,
    alpha: float = 1.0,
    beta: float = 1.0,
    slope_left: float = 0.0,
    slope_right: float = 1.0,
    level: float = 0.0,
) -> Tensor:
    """Generalised SmeLU: two lines joined by a parabola on [-`alpha`, `beta`]; `level` is its value at -alpha."""
    return rescu(x, alpha, beta, slope_left, slope_right, level, "box")


def rescu(
    x: Tensor,
    alpha: float = 1.0,
    beta: float = 1.0,
    slope_left: float = 0.0,
    slope_right: float = 1.0,
    level: float = 0.0,
    kernel: str | Sequence[float] = "box",
) -> Tensor:
    """Two lines whose slopes pass into each other as `kernel` says: "box", "triangular", "cosine" or weights."""
    parameters = {"alpha": alpha, "beta": beta, "slope_left": slope_left, "slope_right": slope_right}
    validate("rescu", {**parameters, "level": level, "kernel": kernel})
    x = ops.convert_to_tensor(x)
    width, rise = alpha + beta, slope_right - slope_left
    end = level + width * (slope_left + rise * integral_at_one(kernel))
    below = level + slope_left * (x + alpha) if slope_left else ops.full_like(x, level)
    above = end + slope_right * (x - beta) if slope_right else ops.full_like(x, end)
    if width < _smallest_width(x):
        return ops.where(x > beta, above, below)
    t = (ops.clip(x, -alpha, beta) + alpha) / width
    middle = level + width * (slope_left * t + rise * _integral_of(kernel, t))
    return ops.where(x >= beta, above, ops.where(x <= -alpha, below, middle))


def _integral_of(kernel: str | Sequence[float], t: Tensor) -> Tensor:
    """Second integral of a kernel from 0 to `t`."""
    if kernel == "box":
        return 0.5 * ops.square(t)
    if kernel == "triangular":
        first, second = 2.0 / 3.0 * t * t * t, 2.0 / 3.0 * (1.0 - t) * (1.0 - t) * (1.0 - t) + t - 0.5
        return ops.where(t < 0.5, first, second)
    if kernel == "cosine":
        return 0.5 * ops.square(t) - 0.5 * ops.square(ops.sin(math.pi * t) / math.pi)
    if isinstance(kernel, str):
        raise ActivationError(
            f"`kernel` in Keras 3 must be box, triangular, cosine or a list of weights. Received: {kernel!r}"
        )
    heights = [len(kernel) * weight / sum(kernel) for weight in kernel]
    ramps = [
        0.5 * change * ops.square(ops.where(t > i / len(kernel), t - i / len(kernel), ops.zeros_like(t)))
        for i, change in enumerate(b - a for a, b in zip([0.0, *heights[:-1]], heights, strict=True))
        if change
    ]
    return sum(ramps[1:], ramps[0])


def relu(x: Tensor) -> Tensor:
    """ReLU: max(x, 0), slope 0 at 0."""
    x = ops.convert_to_tensor(x)
    return ops.where(x > 0, x, ops.zeros_like(x))


def gelu(x: Tensor) -> Tensor:
    """GELU, exact: x times the standard normal distribution function at x. Keras's own."""
    return keras.activations.gelu(x, approximate=False)


def swish(x: Tensor, beta: float = 1.0) -> Tensor:
    """Swish: x sigmoid(beta x). Larger `beta` is nearer ReLU."""
    validate("swish", {"beta": beta})
    return x * ops.sigmoid(beta * x)


def softplus(x: Tensor, beta: float = 1.0, centred: bool = False) -> Tensor:
    """Softplus: log(1 + exp(beta x)) / beta; `centred` subtracts log(2) / beta, its value at 0."""
    validate("softplus", {"beta": beta, "centred": centred})
    value = ops.softplus(beta * x) / beta
    return value - math.log(2.0) / beta if centred else value


def tanhexp(x: Tensor) -> Tensor:
    """TanhExp: x tanh(exp(x)). Beyond 10 the hyperbolic tangent is 1 in every dtype."""
    return x * ops.tanh(ops.exp(ops.minimum(x, 10.0)))


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "smelu": smelu,
    "gsmelu": gsmelu,
    "rescu": rescu,
    "relu": relu,
    "gelu": gelu,
    "swish": swish,
    "softplus": softplus,
    "mish": keras.activations.mish,
    "tanhexp": tanhexp,
    "elu": keras.activations.elu,
    "selu": keras.activations.selu,
    "linear": keras.activations.linear,
}


def get(specification: Mapping[str, Any] | str) -> Callable[[Tensor], Tensor]:
    """The function that a name, or a mapping with `name` and the activation's parameters, stands for.

    Raises:
        ActivationError: unknown name or parameter, or a value out of its range.
    """
    name, parameters = split(specification)
    return partial(_FUNCTIONS[name], **validate(name, parameters))


def _smallest_width(x: Tensor) -> float:
    """Below this 1 / width is infinite in the tensor's dtype."""
    return 2e-5 if keras.backend.standardize_dtype(x.dtype) == "float16" else 1e-38


@keras.saving.register_keras_serializable(package="steady_ranker")
class ActivationLayer(keras.layers.Layer):
    """A Keras 3 layer that applies one of the activations elementwise; any shape, floating point.

    Args:
        name_of_activation: One of `ranker.activations.names()`.
        dtype: Of `keras.layers.Layer`: a dtype or a policy.
        name: Of the layer.
        **parameters: The activation's parameters; the missing ones take their defaults.

    Raises:
        ActivationError: unknown name or parameter, or a value out of its range.
    """

    def __init__(
        self,
        name_of_activation: str = "smelu",
        *,
        dtype: Any = None,
        name: str | None = None,
        **parameters: Any,
    ) -> None:
        parameters.pop("trainable", None)  # part of every layer's configuration; there is nothing to train
        self._parameters = validate(name_of_activation, parameters)
        super().__init__(name=name, dtype=dtype)
        self.name_of_activation = name_of_activation
        self._function = get({"name": name_of_activation, **self._parameters})
        self.supports_masking = True

    def call(self, inputs: Tensor) -> Tensor:
        """Apply the activation."""
        return self._function(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs to make the same layer again."""
        return {**super().get_config(), "name_of_activation": self.name_of_activation, **self._parameters}
