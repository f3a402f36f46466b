r"""SmeLU, the smooth rectified linear unit (Shamir, Lin and Coviello, 2020, arXiv 2010.09931).

    smelu(x) = 0                      for x <= -beta
               (x + beta)^2 / (4 beta)    for |x| <= beta
               x                      for x >= beta

with slope s = clip((x + beta) / (2 beta), 0, 1), which is continuous: 0 at -beta, 1 at beta.

How it is computed. Between the knots the parabola is beta s^2, and it lies above the line x, because
(x + beta)^2 / (4 beta) - x = (x - beta)^2 / (4 beta) >= 0. Left of them beta s^2 = 0 > x, and right
of them beta s^2 = beta <= x. Hence, everywhere,

    smelu(x) = max(x, beta s^2)        smelu'(x) = s

with no branch, no overflow for large |x|, nothing to go wrong at +-inf, and x itself, bit for bit,
beyond beta. The backward pass needs s alone, which the forward pass has: one tensor kept, one
multiplication.
"""

from ranker.activations.catalogue import validate
from ranker.backend import keras, tf


@keras.utils.register_keras_serializable(package="steady_ranker")
def smelu(x: tf.Tensor, beta: float = 1.0) -> tf.Tensor:
    """SmeLU: ReLU with a parabola of width 2 `beta` in place of its corner.

    Args:
        x: Floating point tensor of any shape.
        beta: Half width of the transition, >= 0, in the units of x. Larger is smoother; 0 is ReLU.

    Returns:
        Tensor of x's shape and dtype.

    Raises:
        ActivationError: if `beta` is negative or not finite.
    """
    validate("smelu", {"beta": beta})
    x = tf.convert_to_tensor(x)
    # Below 1 / max the factor 1 / (2 beta) is infinite in this dtype: no number lies in the transition
    # but 0, where the parabola, beta / 4, rounds to 0 too.
    if beta < 1.0 / float(x.dtype.max):
        return tf.nn.relu(x)
    # The slope is computed outside the custom gradient, so that second derivatives find the way to x.
    slope = tf.clip_by_value(x * (0.5 / beta) + 0.5, 0.0, 1.0)
    return _rectify(x, slope, beta)


def _rectify(x: tf.Tensor, slope: tf.Tensor, beta: float) -> tf.Tensor:
    @tf.custom_gradient
    def function(x: tf.Tensor, slope: tf.Tensor):
        parabola = tf.square(slope)
        if beta != 1.0:
            parabola *= beta
        return tf.maximum(x, parabola), lambda upstream: (upstream * slope, None)

    return function(x, slope)
