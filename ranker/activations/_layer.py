"""The Keras layer: an activation's name and parameters, which is all that has to be saved."""

from collections.abc import Mapping
from typing import Any

from ranker.activations._kernels import Kernel
from ranker.activations._registry import get
from ranker.activations.catalogue import ActivationError, split, validate
from ranker.backend import keras, tf


@keras.utils.register_keras_serializable(package="steady_ranker")
class Activation(keras.layers.Layer):
    """Applies one of the activations elementwise.

    Input and output: any shape, floating point.

    Args:
        activation: One of `ranker.activations.names()`.
        parameters: The activation's parameters; the missing ones take their defaults.
        **kwargs: Of `keras.layers.Layer`.

    Raises:
        ActivationError: unknown name or parameter, or a value out of its range.
    """

    def __init__(
        self, activation: str = "smelu", parameters: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.activation = activation
        # Another attribute name than `parameters`: Keras would wrap and track a dictionary of that one.
        self._parameters = tuple(validate(activation, parameters or {}).items())
        for key, value in self._parameters:
            if isinstance(value, Kernel):  # functions cannot be written into a configuration
                raise ActivationError(
                    f"`{key}` of a layer must be a name, see `register_kernel`, or a list of weights. "
                    f"Received: the kernel {value.name!r}"
                )
        self._function = get({"name": activation, **dict(self._parameters)})
        self.supports_masking = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Apply the activation."""
        return self._function(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs to make the same layer again."""
        return {**super().get_config(), "activation": self.activation, "parameters": dict(self._parameters)}


def layer(spec: Mapping[str, Any] | str, **kwargs: Any) -> keras.layers.Layer:
    """A new Keras layer of the activation that a specification names; see `get`.

    Args:
        spec: A name, or a mapping with `name` and the activation's parameters.
        **kwargs: Of `keras.layers.Layer`, say `dtype`.

    Raises:
        ActivationError: unknown name or parameter, or a value out of its range.
    """
    name, params = split(spec)
    return Activation(name, params, **kwargs)
