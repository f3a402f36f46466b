"""Activations of the ranking model: SmeLU, its generalisations, and the references it is compared with.

Functions take and return tensors of one dtype (float16, bfloat16, float32, float64) and any shape:
`smelu`, `gsmelu`, `rescu`, `relu`, `gelu`, `swish`, `softplus`, `mish`, `tanhexp`, `elu`, `selu`,
`linear`. By name, as the configuration gives them: `get`, `layer`, `names`, `parameters`. The Keras
layer is `Activation`; kernels for `rescu` are `Kernel`, `cascade` and `register_kernel`; `fused` is for
speed outside XLA.

TensorFlow is loaded when a function is first asked for; `ranker.activations.catalogue` (names,
parameters, validation) never loads it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ranker.activations.catalogue import ActivationError, names, parameters

if TYPE_CHECKING:
    from ranker.activations._fused import fused
    from ranker.activations._kernels import Kernel, cascade, register_kernel
    from ranker.activations._layer import Activation, layer
    from ranker.activations._references import (
        elu,
        gelu,
        linear,
        mish,
        relu,
        selu,
        softplus,
        swish,
        tanhexp,
    )
    from ranker.activations._registry import get
    from ranker.activations._rescu import gsmelu, rescu
    from ranker.activations._smelu import smelu

__all__ = [
    "Activation",
    "ActivationError",
    "Kernel",
    "cascade",
    "elu",
    "fused",
    "gelu",
    "get",
    "gsmelu",
    "layer",
    "linear",
    "mish",
    "names",
    "parameters",
    "register_kernel",
    "relu",
    "rescu",
    "selu",
    "smelu",
    "softplus",
    "swish",
    "tanhexp",
]

_HOME = {
    "Activation": "_layer",
    "Kernel": "_kernels",
    "cascade": "_kernels",
    "register_kernel": "_kernels",
    "fused": "_fused",
    "get": "_registry",
    "layer": "_layer",
    "gsmelu": "_rescu",
    "rescu": "_rescu",
    "smelu": "_smelu",
    **dict.fromkeys(
        ("elu", "gelu", "linear", "mish", "relu", "selu", "softplus", "swish", "tanhexp"), "_references"
    ),
}


def __getattr__(name: str) -> Any:
    """Load the module that holds `name`, and TensorFlow with it, on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
