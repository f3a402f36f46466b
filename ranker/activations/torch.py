"""The activations for PyTorch, as functions and as a module.

    from ranker.activations.torch import ActivationModule, smelu
    model = torch.nn.Sequential(torch.nn.Linear(8, 64), ActivationModule("smelu", beta=0.5), torch.nn.Linear(64, 1))
    y = smelu(x, beta=0.5)                                          # as a function of a tensor

Importing this module imports PyTorch and nothing else of this project's training code. Each function
takes a floating point tensor of any shape, keeps shape, dtype and device, and raises `ActivationError`
(a `ValueError`) for a parameter out of its range. Values and slopes are those of
`ranker.activations.reference`, up to the rounding of the dtype. All of them are plain operations, which
`torch.compile` fuses into one kernel.

How slopes come out right. PyTorch gives a clamp the slope 1 at its ends and a ReLU the slope 0 at 0. So
each function is a clamped middle part plus ReLUs of what lies beyond it: at a knot the middle part gives
the slope, an infinite input is clamped before anything multiplies it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from ranker.activations.catalogue import ActivationError, split, validate


def smelu(x: torch.Tensor, beta: float = 1.0, centred: bool = False) -> torch.Tensor:
    """SmeLU: ReLU with a parabola of half width `beta` in place of its corner (arXiv 2010.09931).

    `centred` subtracts beta / 4, so that 0 is mapped to 0.
    """
    validate("smelu", {"beta": beta, "centred": centred})
    if beta < 1.0 / torch.finfo(x.dtype).max:
        return torch.relu(x)
    if centred:
        inner = torch.clamp(x, -beta, beta)
        return inner * (inner * (0.25 / beta) + 0.5) + torch.relu(x - beta)
    # The parabola lies on or above the line x up to beta and below it beyond. In a tie, at beta, both
    # have slope 1.
    position = torch.clamp(x * (0.5 / beta) + 0.5, 0.0, 1.0)
    return torch.maximum(x, beta * position * position)


def gsmelu(
    x: torch.Tensor,
    alpha: float = 1.0,
    beta: float = 1.0,
    slope_left: float = 0.0,
    slope_right: float = 1.0,
    level: float = 0.0,
) -> torch.Tensor:
    """Generalised SmeLU: two lines joined by a parabola on [-`alpha`, `beta`]; `level` is its value at -alpha."""
    return rescu(x, alpha, beta, slope_left, slope_right, level, "box")


def rescu(
    x: torch.Tensor,
    alpha: float = 1.0,
    beta: float = 1.0,
    slope_left: float = 0.0,
    slope_right: float = 1.0,
    level: float = 0.0,
    kernel: str | Sequence[float] = "box",
) -> torch.Tensor:
    """Two lines whose slopes pass into each other as `kernel` says: "box", "triangular", "cosine" or weights."""
    parameters = {"alpha": alpha, "beta": beta, "slope_left": slope_left, "slope_right": slope_right}
    validate("rescu", {**parameters, "level": level, "kernel": kernel})
    width, rise = alpha + beta, slope_right - slope_left
    if width < 1.0 / torch.finfo(x.dtype).max:
        value = torch.full_like(x, level)
    else:
        t = (torch.clamp(x, -alpha, beta) + alpha) / width
        value = level + width * (slope_left * t + rise * _integral(kernel, t))
    if slope_left:
        value = value - slope_left * torch.relu(-alpha - x)
    if slope_right:
        value = value + slope_right * torch.relu(x - beta)
    return value


def _integral(kernel: str | Sequence[float], t: torch.Tensor) -> torch.Tensor:
    """Second integral of a kernel from 0 to `t`."""
    if kernel == "box":
        return 0.5 * t * t
    if kernel == "triangular":
        rest = 1.0 - t
        return torch.where(t < 0.5, 2.0 / 3.0 * t * t * t, 2.0 / 3.0 * rest * rest * rest + t - 0.5)
    if kernel == "cosine":
        wave = torch.sin(math.pi * t) / math.pi
        return 0.5 * (t * t - wave * wave)
    if isinstance(kernel, str):
        raise ActivationError(
            f"`kernel` in PyTorch must be box, triangular, cosine or a list of weights. Received: {kernel!r}"
        )
    heights = [len(kernel) * weight / sum(kernel) for weight in kernel]
    value = torch.zeros_like(t)
    for index, (before, height) in enumerate(zip([0.0, *heights[:-1]], heights, strict=True)):
        ramp = torch.clamp(t - index / len(kernel), min=0.0)
        value = value + 0.5 * (height - before) * ramp * ramp
    return value


def swish(x: torch.Tensor, beta: float = 1.0) -> torch.Tensor:
    """Swish: x sigmoid(beta x). Larger `beta` is nearer ReLU."""
    validate("swish", {"beta": beta})
    return x * torch.sigmoid(beta * x)


def softplus(x: torch.Tensor, beta: float = 1.0, centred: bool = False) -> torch.Tensor:
    """Softplus: log(1 + exp(beta x)) / beta; `centred` subtracts log(2) / beta, its value at 0."""
    validate("softplus", {"beta": beta, "centred": centred})
    # PyTorch's own softplus turns linear beyond a threshold, an error of exp(-threshold).
    value = torch.logaddexp(beta * x, torch.zeros_like(x)) / beta
    return value - math.log(2.0) / beta if centred else value


def tanhexp(x: torch.Tensor) -> torch.Tensor:
    """TanhExp: x tanh(exp(x)). Beyond 10 the hyperbolic tangent is 1 in every dtype."""
    return x * torch.tanh(torch.exp(torch.clamp(x, max=10.0)))


_FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "smelu": smelu,
    "gsmelu": gsmelu,
    "rescu": rescu,
    "relu": torch.relu,
    "gelu": functional.gelu,
    "swish": swish,
    "softplus": softplus,
    "mish": functional.mish,
    "tanhexp": tanhexp,
    "elu": functional.elu,
    "selu": torch.selu,
    "linear": lambda x: x,
}


def get(specification: Mapping[str, Any] | str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function that a name, or a mapping with `name` and the activation's parameters, stands for.

    Raises:
        ActivationError: unknown name or parameter, or a value out of its range.
    """
    name, parameters = split(specification)
    return partial(_FUNCTIONS[name], **validate(name, parameters))


class ActivationModule(torch.nn.Module):
    """A module that applies one of the activations elementwise; any shape, floating point.

    Args:
        name: One of `ranker.activations.names()`.
        **parameters: The activation's parameters; the missing ones take their defaults.

    Raises:
        ActivationError: unknown name or parameter, or a value out of its range.
    """

    def __init__(self, name: str = "smelu", **parameters: Any) -> None:
        super().__init__()
        self.name = name
        self.parameters_of_activation = validate(name, parameters)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply the activation."""
        return _FUNCTIONS[self.name](inputs, **self.parameters_of_activation)

    def extra_repr(self) -> str:
        """Name and parameters, as `print(model)` shows them."""
        return ", ".join(
            [self.name, *(f"{key}={value!r}" for key, value in self.parameters_of_activation.items())]
        )
