"""The activations SmeLU is compared with, right at both ends in every dtype.

The textbook forms meet inf * 0, or lose their left tail to cancellation (1 + erf(x) is 0 in float32
from x = -5.6 on, where GELU is still -6e-8). These do not. `multiply_no_nan(a, b)` is a * b, and 0
wherever b is 0, whatever a is.
"""

import math

from ranker.activations._slope import with_slope
from ranker.activations.catalogue import validate
from ranker.backend import keras, tf

_register = keras.utils.register_keras_serializable(package="steady_ranker")
_times = tf.math.multiply_no_nan


@_register
def linear(x: tf.Tensor) -> tf.Tensor:
    """The identity: the far end of smoothness, a model without a hidden non-linearity."""
    return tf.identity(x)


@_register
def relu(x: tf.Tensor) -> tf.Tensor:
    """ReLU: max(x, 0), slope 0 at 0."""
    return tf.nn.relu(x)


@_register
def elu(x: tf.Tensor) -> tf.Tensor:
    """ELU: x for x > 0, exp(x) - 1 below (Clevert et al., 2015)."""
    return tf.nn.elu(x)


@_register
def selu(x: tf.Tensor) -> tf.Tensor:
    """ELU scaled to keep mean 0 and variance 1 (Klambauer et al., 2017)."""
    return tf.nn.selu(x)


@_register
def gelu(x: tf.Tensor) -> tf.Tensor:
    """GELU: x times the standard normal distribution function at x, exact (Hendrycks and Gimpel, 2016)."""

    def below(x: tf.Tensor) -> tf.Tensor:
        return 0.5 * tf.math.erfc(x * -math.sqrt(0.5))

    def slope(x: tf.Tensor) -> tf.Tensor:
        density = math.sqrt(0.5 / math.pi) * tf.exp(-0.5 * tf.square(x))
        return below(x) + _times(x, density)

    return with_slope(lambda x: _times(x, below(x)), slope)(tf.convert_to_tensor(x))


@_register
def swish(x: tf.Tensor, beta: float = 1.0) -> tf.Tensor:
    """Swish: x sigmoid(beta x) (Ramachandran et al., 2017). Larger `beta` is nearer ReLU; 0 is x / 2.

    Raises:
        ActivationError: if `beta` is negative or not finite.
    """
    validate("swish", {"beta": beta})

    def slope(x: tf.Tensor) -> tf.Tensor:
        gate = tf.sigmoid(beta * x)
        return gate + _times(beta * x, gate * tf.sigmoid(-beta * x))

    if beta == 0:
        return 0.5 * tf.convert_to_tensor(x)
    return with_slope(lambda x: _times(x, tf.sigmoid(beta * x)), slope)(tf.convert_to_tensor(x))


@_register
def softplus(x: tf.Tensor, beta: float = 1.0, centred: bool = False) -> tf.Tensor:
    """Softplus: log(1 + exp(beta x)) / beta. Larger `beta` is nearer ReLU.

    `centred` subtracts log(2) / beta, its value at 0. The centred value is computed as
    x / 2 + log(cosh(beta x / 2)) / beta near 0, with log(cosh(z)) = log1p(2 sinh(z / 2)^2), which does not
    lose the digits that the difference would.

    Raises:
        ActivationError: if `beta` is not a finite number > 0, or `centred` is not a boolean.
    """
    validate("softplus", {"beta": beta, "centred": centred})

    def value(x: tf.Tensor) -> tf.Tensor:
        y = tf.nn.relu(x) + tf.math.log1p(tf.exp(-beta * tf.abs(x))) / beta
        if not centred:
            return y
        half = tf.clip_by_value(0.25 * beta * x, -0.5, 0.5)
        near = 0.5 * x + tf.math.log1p(2.0 * tf.square(tf.sinh(half))) / beta
        return tf.where(beta * tf.abs(x) < 1.0, near, y - math.log(2.0) / beta)

    return with_slope(value, lambda x: tf.sigmoid(beta * x))(tf.convert_to_tensor(x))


@_register
def mish(x: tf.Tensor) -> tf.Tensor:
    """Mish: x tanh(log(1 + exp(x))) (Misra, 2019)."""

    def gate(x: tf.Tensor) -> tf.Tensor:
        return tf.tanh(tf.nn.softplus(x))

    def slope(x: tf.Tensor) -> tf.Tensor:
        return gate(x) + _times(x, tf.sigmoid(x) * (1.0 - tf.square(gate(x))))

    return with_slope(lambda x: _times(x, gate(x)), slope)(tf.convert_to_tensor(x))


@_register
def tanhexp(x: tf.Tensor) -> tf.Tensor:
    """TanhExp: x tanh(exp(x)) (Liu and Di, 2020)."""

    def gate(x: tf.Tensor) -> tf.Tensor:
        return tf.tanh(tf.exp(x))

    def slope(x: tf.Tensor) -> tf.Tensor:
        # 1 - tanh(u)^2 without the difference, whose rounding x exp(x) would multiply.
        falling = tf.exp(-2.0 * tf.exp(x))
        bend = 4.0 * falling / tf.square(1.0 + falling)
        return gate(x) + _times(_times(x, tf.exp(x)), bend)

    return with_slope(lambda x: _times(x, gate(x)), slope)(tf.convert_to_tensor(x))
