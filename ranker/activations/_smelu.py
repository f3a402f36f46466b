r"""SmeLU, the smooth rectified linear unit (Shamir, Lin and Coviello, 2020, arXiv 2010.09931).

    smelu(x) = 0                        for x <= -beta
               (x + beta)^2 / (4 beta)  for |x| <= beta
               x                        for x >= beta

with slope s = clip((x + beta) / (2 beta), 0, 1), which is continuous: 0 at -beta, 1 at beta.

How it is computed. Between the knots the parabola is beta s^2, and it lies above the line x, because
(x + beta)^2 / (4 beta) - x = (x - beta)^2 / (4 beta) >= 0. Left of them beta s^2 = 0 > x, and right
of them beta s^2 = beta <= x. Hence, everywhere,

    smelu(x) = max(x, beta s^2)        smelu'(x) = s

with no branch, no overflow for large |x|, nothing to go wrong at +-inf, and x itself, bit for bit,
beyond beta.

Why through s - 1. Outside XLA each operation is one pass over memory, so the number of operations is
the cost. The one tensor that the backward pass keeps is `shortfall` = s - 1. TensorFlow's gradient of
ELU multiplies by shortfall + 1 where shortfall is below 0 and by 1 elsewhere: the whole backward pass in
one operation.

The centred form. SmeLU does not pass through the origin: smelu(0) = beta / 4. The member of the gSmeLU
family with the same parabola that does is the one of level -beta / 4 (gsmelu with alpha = beta),

    centred(x) = smelu(x) - beta / 4      value 0, slope 1/2, curvature 1 / (2 beta) at the origin

It has SmeLU's slope and curvature everywhere and therefore SmeLU's RESCU kernel, the box on
[-beta, beta]; only the constant of integration differs. Swish and GELU pass through the origin with the
same slope 1/2 (their curvatures there are 1/2 and 0.80, those of beta = 1 and 0.63).

What the constant does at initialisation. SmeLU is ReLU convolved with the box, so for x ~ N(0, s^2)

    E[smelu(x)] = E_u[s phi(u / s) - u Phi(-u / s)],  u ~ U(-beta, beta)
                -> beta / 4 + s^2 / (4 beta)   for s << beta
                -> s / sqrt(2 pi)              for s >> beta

phi and Phi being the standard normal's density and distribution function. Where the inputs are small
beside beta, as at the start of a tower without normalisation, every unit of a layer emits beta / 4
whatever it is fed, and the next layer adds this up over its fan-in. The centred form emits
s^2 / (4 beta), which is nearly nothing, and its output varies around zero. Behind a LayerNorm the inputs
have s = 1 and the constant is a bias that the layer's own shift could learn. By experiment (docs/evidence.md,
on the plane): without normalisation centred SmeLU 1 and Swish 1 are the same model in AUC and prediction
difference, as their series at 0 agree up to the curvature, and SmeLU's offset costs AUC.

How the centred form is computed. With u = clip(x / (2 beta), -1/2, 1/2) the parabola minus beta / 4 is
beta u (u + 1): a product, which keeps the relative accuracy near the origin that a difference of two
numbers near beta / 4 would lose. By the argument above

    centred(x) = max(x - beta / 4, beta u (u + 1))       centred'(x) = u + 1/2
"""

from ranker.activations._slope import with_slope
from ranker.activations.catalogue import validate
from ranker.backend import keras, tf


@keras.utils.register_keras_serializable(package="steady_ranker")
def smelu(x: tf.Tensor, beta: float = 1.0, centred: bool = False) -> tf.Tensor:
    """SmeLU: ReLU with a parabola of width 2 `beta` in place of its corner.

    Args:
        x: Floating point tensor of any shape.
        beta: Half width of the transition, >= 0, in the units of x. Larger is smoother; 0 is ReLU.
        centred: Whether to subtract beta / 4, so that 0 is mapped to 0.

    Returns:
        Tensor of x's shape and dtype.

    Raises:
        ActivationError: if `beta` is negative or not finite, or `centred` is not a boolean.

    >>> [float(smelu(x, beta=2.0)) for x in (-2.0, 0.0, 1.0, 2.0, 3.0)]
    [0.0, 0.5, 1.125, 2.0, 3.0]
    >>> [float(smelu(x, beta=2.0, centred=True)) for x in (-2.0, 0.0, 1.0, 2.0, 3.0)]
    [-0.5, 0.0, 0.625, 1.5, 2.5]
    """
    validate("smelu", {"beta": beta, "centred": centred})
    x = tf.convert_to_tensor(x)
    # Below 1 / max the factor 1 / (2 beta) is infinite in this dtype: no number lies in the transition
    # but 0, where the parabola, beta / 4, rounds to 0 too.
    if beta < 1.0 / float(x.dtype.max):
        return tf.nn.relu(x)
    if centred:
        return _centred(x, beta)
    return _rectify(x, _shortfall(x, beta), beta)


def _clip(x: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    # The operation ClipByValue is one pass instead of two, but TensorFlow Lite has none of that name.
    return tf.minimum(tf.maximum(x, low), high)


def _shortfall(x: tf.Tensor, beta: float) -> tf.Tensor:
    # A step of its own, outside the gradient of `_rectify`, so that second derivatives find the way to x.
    @tf.custom_gradient
    def function(x: tf.Tensor):
        low, high = tf.constant(-1.0, x.dtype), tf.constant(0.0, x.dtype)
        shortfall = _clip(x * (0.5 / beta) - 0.5, low, high)

        def backward(upstream: tf.Tensor):
            # Read off its own value: no second tensor is kept for it.
            between = tf.logical_and(shortfall > low, shortfall < high)
            return upstream * (0.5 / beta) * tf.cast(between, x.dtype)

        return shortfall, backward

    return function(x)


def _rectify(x: tf.Tensor, shortfall: tf.Tensor, beta: float) -> tf.Tensor:
    @tf.custom_gradient
    def function(x: tf.Tensor, shortfall: tf.Tensor):
        parabola = tf.math.squared_difference(shortfall, -1.0)
        if beta != 1.0:
            parabola *= beta

        def backward(upstream: tf.Tensor):
            return tf.raw_ops.EluGrad(gradients=upstream, outputs=shortfall), None

        return tf.maximum(x, parabola), backward

    return function(x, shortfall)


def _centred(x: tf.Tensor, beta: float) -> tf.Tensor:
    def position(x: tf.Tensor) -> tf.Tensor:
        low, high = tf.constant(-0.5, x.dtype), tf.constant(0.5, x.dtype)
        return _clip(x * (0.5 / beta), low, high)

    def value(x: tf.Tensor) -> tf.Tensor:
        u = position(x)
        return tf.maximum(x - 0.25 * beta, beta * u * (u + 1.0))

    def between(u: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.abs(u) < 0.5, u.dtype)

    slope = with_slope(lambda x: position(x) + 0.5, lambda x: (0.5 / beta) * between(position(x)))
    return with_slope(value, slope)(x)
