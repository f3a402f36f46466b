"""The activations in float64 with NumPy: what every framework's version is held to. Loads no framework.

Each entry of `FORMULAS` maps points to values and slopes, both by their definitions, without regard for
speed. Corners take the slope of their right side, except ReLU's at 0, which is 0 by convention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranker.activations.catalogue import ActivationError, validate

Floats = NDArray[np.float64]

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def value_and_slope(
    name: str, points: ArrayLike, parameters: Mapping[str, Any] | None = None
) -> tuple[Floats, Floats]:
    """Values and first derivatives of an activation.

    Args:
        name: One of `ranker.activations.names()`.
        points: Finite numbers, any shape.
        parameters: The activation's parameters; the missing ones take their defaults.

    Returns:
        Values and slopes, float64, of the points' shape.

    Raises:
        ActivationError: unknown name or parameter, a value out of its range, or a registered kernel, whose
            functions only its framework can evaluate.

    Example:
        >>> value, slope = value_and_slope("smelu", [-1.0, 0.0, 2.0])
        >>> value.tolist(), slope.tolist()
        ([0.0, 0.25, 2.0], [0.0, 0.5, 1.0])
    """
    x = np.asarray(points, np.float64)
    return FORMULAS[name](x, **validate(name, parameters or {}))


def _rescu(
    x: Floats,
    alpha: float,
    beta: float,
    slope_left: float,
    slope_right: float,
    level: float,
    kernel: str | Sequence[float] = "box",
) -> tuple[Floats, Floats]:
    width, rise = alpha + beta, slope_right - slope_left
    t = (x > beta).astype(np.float64) if width == 0 else np.clip((x + alpha) / width, 0.0, 1.0)
    cdf, integral = _kernel(kernel, t)
    value = level + width * (slope_left * t + rise * integral)
    value = value + slope_left * np.minimum(x + alpha, 0.0) + slope_right * np.maximum(x - beta, 0.0)
    return value, slope_left + rise * cdf


def _kernel(kernel: str | Sequence[float], t: Floats) -> tuple[Floats, Floats]:
    """First and second integral of a kernel from 0 to t."""
    if kernel == "box":
        return t, t * t / 2
    if kernel == "triangular":
        s = np.minimum(t, 1 - t)
        return np.where(t < 0.5, 2 * s**2, 1 - 2 * s**2), 2 / 3 * s**3 + np.maximum(t - 0.5, 0.0)
    if kernel == "cosine":
        return (
            t - np.sin(2 * np.pi * t) / (2 * np.pi),
            t * t / 2 - (np.sin(np.pi * t) / np.pi) ** 2 / 2,
        )
    if isinstance(kernel, str):
        raise ActivationError(
            f"`kernel` of the reference must be box, triangular, cosine or a list of weights. Received: {kernel!r}"
        )
    pieces = len(kernel)
    heights = np.array([pieces * weight / sum(kernel) for weight in kernel])
    edges = np.arange(pieces) / pieces
    # Inside piece i the first integral is that of the earlier pieces plus a ramp.
    spans = np.clip(t[..., None] - edges, 0.0, 1 / pieces)
    cdf = (heights * spans).sum(-1)
    gathered = heights * (spans**2 / 2 + spans * np.maximum(t[..., None] - edges - spans, 0.0))
    return cdf, gathered.sum(-1)


def _gsmelu(x: Floats, **parameters: Any) -> tuple[Floats, Floats]:
    return _rescu(x, **parameters)


def _smelu(x: Floats, beta: float, centred: bool) -> tuple[Floats, Floats]:
    if beta == 0:
        return _relu(x)
    value, slope = _rescu(x=x, alpha=beta, beta=beta, slope_left=0.0, slope_right=1.0, level=0.0)
    if not centred:
        return value, slope
    inner = np.clip(x, -beta, beta)
    return inner * (inner / (4 * beta) + 0.5) + np.maximum(x - beta, 0.0), slope


def _relu(x: Floats) -> tuple[Floats, Floats]:
    return np.maximum(x, 0.0), (x > 0).astype(np.float64)


def _gelu(x: Floats) -> tuple[Floats, Floats]:
    below = 0.5 * _erfc(-x * math.sqrt(0.5))
    return x * below, below + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _sigmoid(x: Floats) -> Floats:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _swish(x: Floats, beta: float) -> tuple[Floats, Floats]:
    gate = _sigmoid(beta * x)
    return x * gate, gate + beta * x * gate * _sigmoid(-beta * x)


def _softplus(x: Floats, beta: float, centred: bool) -> tuple[Floats, Floats]:
    value = np.maximum(x, 0.0) + np.log1p(np.exp(-beta * np.abs(x))) / beta
    return value - (math.log(2) / beta if centred else 0.0), _sigmoid(beta * x)


def _mish(x: Floats) -> tuple[Floats, Floats]:
    gate = np.tanh(np.logaddexp(x, 0.0))
    return x * gate, gate + x * _sigmoid(x) * (1 - gate**2)


def _tanhexp(x: Floats) -> tuple[Floats, Floats]:
    power = np.exp(np.minimum(x, 50.0))
    gate = np.tanh(power)
    return x * gate, gate + x * power * (1 - gate**2)


def _elu(x: Floats) -> tuple[Floats, Floats]:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))), np.where(x > 0, 1.0, np.exp(np.minimum(x, 0.0)))


SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _selu(x: Floats) -> tuple[Floats, Floats]:
    value, slope = _elu(x)
    factor = SELU_SCALE * np.where(x > 0, 1.0, SELU_ALPHA)
    return factor * value, factor * slope


def _linear(x: Floats) -> tuple[Floats, Floats]:
    return x, np.ones_like(x)


FORMULAS: dict[str, Callable[..., tuple[Floats, Floats]]] = {
    "smelu": _smelu,
    "gsmelu": _gsmelu,
    "rescu": _rescu,
    "relu": _relu,
    "gelu": _gelu,
    "swish": _swish,
    "softplus": _softplus,
    "mish": _mish,
    "tanhexp": _tanhexp,
    "elu": _elu,
    "selu": _selu,
    "linear": _linear,
}
