"""What activations there are, their parameters, defaults and allowed values. Loads no TensorFlow.

The configuration checks `{name: smelu, beta: 1.0}` here while it is read, long before a graph exists.

Smoothness runs in opposite directions, as in the literature: a larger `beta` makes SmeLU smoother,
and makes Swish and Softplus sharper (nearer ReLU).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from ranker.errors import UserError


class ActivationError(UserError, ValueError):
    """An activation's name or a parameter of it that cannot be used.

    It is a `ValueError` too, so that validation libraries collect it with a key path.
    """


@dataclass(frozen=True)
class Parameter:
    """One parameter: its default, and the values it takes (`accepts`) in words (`rule`)."""

    default: Any
    rule: str
    accepts: Callable[[Any], bool]


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_kernel(value: Any) -> bool:
    if isinstance(value, str):
        return value in _kernels
    if isinstance(value, (list, tuple)):
        return bool(value) and all(_is_finite(w) and w >= 0 for w in value) and sum(value) > 0
    return hasattr(value, "density") and hasattr(value, "cdf") and hasattr(value, "integral")


def _finite(default: float) -> Parameter:
    return Parameter(default, "must be a finite number", _is_finite)


def _not_negative(default: float) -> Parameter:
    return Parameter(default, "must be a finite number >= 0", lambda v: _is_finite(v) and v >= 0)


def _positive(default: float) -> Parameter:
    return Parameter(default, "must be a finite number > 0", lambda v: _is_finite(v) and v > 0)


def _flag(default: bool) -> Parameter:
    return Parameter(default, "must be true or false", lambda v: isinstance(v, bool))


_kernels = ["box", "triangular", "cosine"]

_TRANSITION = {
    "alpha": _finite(1.0),
    "beta": _finite(1.0),
    "slope_left": _finite(0.0),
    "slope_right": _finite(1.0),
    "level": _finite(0.0),
}

_CATALOGUE: dict[str, dict[str, Parameter]] = {
    "smelu": {"beta": _not_negative(1.0), "centred": _flag(False)},
    "gsmelu": _TRANSITION,
    "rescu": {
        **_TRANSITION,
        "kernel": Parameter(
            "box", "must be the name of a kernel or a list of weights >= 0 with a positive sum", _is_kernel
        ),
    },
    "relu": {},
    "gelu": {},
    "swish": {"beta": _not_negative(1.0)},
    "softplus": {"beta": _positive(1.0), "centred": _flag(False)},
    "mish": {},
    "tanhexp": {},
    "elu": {},
    "selu": {},
    "linear": {},
}


def names() -> tuple[str, ...]:
    """The names `get`, `layer` and the configuration accept."""
    return tuple(_CATALOGUE)


def allow_kernel(name: str) -> None:
    """Let validation accept a kernel that a user registered."""
    if name not in _kernels:
        _kernels.append(name)


def parameters(name: str) -> dict[str, Any]:
    """The parameters of an activation with their defaults.

    Raises:
        ActivationError: if there is no activation of this name.

    >>> parameters("smelu")
    {'beta': 1.0, 'centred': False}
    """
    return {key: parameter.default for key, parameter in _specification(name).items()}


def validate(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Check the parameters of an activation and fill in the defaults.

    Args:
        name: One of `names()`.
        params: Parameters by name; the missing ones take their defaults.

    Returns:
        Every parameter of the activation, in the catalogue's order.

    Raises:
        ActivationError: unknown name or parameter, or a value out of its range.

    >>> validate("swish", {})
    {'beta': 1.0}
    """
    specification = _specification(name)
    for key in params:
        if key not in specification:
            parameters = ", ".join(specification) or "no parameters"
            raise ActivationError(f"`{name}` takes {parameters}. Received: {key}={params[key]!r}")
    values = {key: params.get(key, parameter.default) for key, parameter in specification.items()}
    for key, parameter in specification.items():
        if not parameter.accepts(values[key]):
            kernels = f" (kernels: {', '.join(_kernels)})" if key == "kernel" else ""
            raise ActivationError(
                f"`{key}` of {name} {parameter.rule}{kernels}. Received: {key}={values[key]!r}"
            )
    if "alpha" in values and values["alpha"] + values["beta"] < 0:
        raise ActivationError(
            f"`alpha` + `beta` of {name} must be >= 0, as the transition runs from -alpha to beta. "
            f"Received: alpha={values['alpha']!r}, beta={values['beta']!r}"
        )
    return values


def split(spec: Mapping[str, Any] | str) -> tuple[str, dict[str, Any]]:
    """The name and the parameters of a specification, not yet validated."""
    if isinstance(spec, str):
        return spec, {}
    if not isinstance(spec, Mapping) or "name" not in spec:
        raise ActivationError(f"An activation must be a name or a mapping with `name`. Received: {spec!r}")
    return spec["name"], {key: value for key, value in spec.items() if key != "name"}


def integral_at_one(kernel: str | Sequence[float]) -> float:
    """The second integral of a kernel over [0, 1]: 1 minus its mean, 1/2 where it is symmetric.

    Args:
        kernel: A kernel's name, all of which are symmetric, or the weights of a cascade.
    """
    if isinstance(kernel, str):
        return 0.5
    pieces, total = len(kernel), sum(kernel)
    return sum(weight / total * (1 - (index + 0.5) / pieces) for index, weight in enumerate(kernel))


def _specification(name: str) -> dict[str, Parameter]:
    if not isinstance(name, str) or name not in _CATALOGUE:
        raise ActivationError(
            f"An activation's `name` must be one of {', '.join(_CATALOGUE)}. Received: name={name!r}"
        )
    return _CATALOGUE[name]
