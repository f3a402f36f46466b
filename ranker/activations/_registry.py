"""Activations by name, as the configuration gives them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ranker.activations import _references, _rescu, _smelu
from ranker.activations.catalogue import split, validate
from ranker.backend import tf

_FUNCTIONS: dict[str, Callable[..., tf.Tensor]] = {
    "smelu": _smelu.smelu,
    "gsmelu": _rescu.gsmelu,
    "rescu": _rescu.rescu,
    "relu": _references.relu,
    "gelu": _references.gelu,
    "swish": _references.swish,
    "softplus": _references.softplus,
    "mish": _references.mish,
    "tanhexp": _references.tanhexp,
    "elu": _references.elu,
    "selu": _references.selu,
    "linear": _references.linear,
}


def get(spec: Mapping[str, Any] | str) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function that a specification names.

    Args:
        spec: A name, or a mapping with `name` and the activation's parameters.

    Returns:
        Function of a tensor, which keeps its shape and dtype.

    Raises:
        ActivationError: unknown name or parameter, or a value out of its range.

    >>> float(get({"name": "smelu", "beta": 2.0})(0.0))
    0.5
    """
    name, params = split(spec)
    return partial(_FUNCTIONS[name], **validate(name, params))
