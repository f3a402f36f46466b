r"""RESCU, rectified smooth continuous units: rectifiers whose slope passes continuously from end to end.

The construction. Let k be a density on an interval and K its distribution function. Convolving ReLU
with k spreads its corner over the interval:

    f(x)   = (relu * k)(x) = int relu(x - u) k(u) du
    f'(x)  = int [x > u] k(u) du = K(x)              since relu' is the unit step
    f''(x) = k(x)

So the slope of a smoothed ReLU *is* the distribution function of its kernel: 0 left of the interval,
1 right of it, monotone and continuous between; and every such slope comes from its derivative as
kernel. The value is the second integral of the kernel,

    f(x) = int_{-inf}^x K(v) dv,

and where the interval ends the line x - mean(k) begins: f(x) = x - mean(k) there, because
relu(x - u) = x - u for every u in the interval.

The family. Let the kernel live on [0, 1] with cdf K and I(t) = int_0^t K, put the transition at
[-alpha, beta] of width w = alpha + beta, and let the slope go from g- to g+. With
t = (x + alpha) / w clipped to [0, 1],

    f'(x) = g- + (g+ - g-) K(t)
    f(x)  = level + g- (x + alpha) + (g+ - g-) (w I(t) + max(x - beta, 0))

where `level` = f(-alpha) is the constant of integration. The second line is the integral of the
first: substituting v = -alpha + w t gives int K((v + alpha) / w) dv = w I(t) up to beta, and slope 1
from there. At the right end f(beta) = level + w (g- + (g+ - g-) I(1)), and I(1) = 1 - mean(k), which is
1/2 for every symmetric kernel.

The box, k = 1, K(t) = t, I(t) = t^2 / 2, gives gSmeLU:

    level + g- (x + alpha)                                              for x <= -alpha
    level + g- (x + alpha) + (g+ - g-) (x + alpha)^2 / (2 (alpha + beta))   between
    level + (g- + g+) (alpha + beta) / 2 + g+ (x - beta)                for x >= beta

and with g- = 0, g+ = 1, alpha = beta, level = 0 SmeLU. A triangular kernel gives cubic pieces and a
slope without kinks, a raised cosine a slope that is smooth itself, a piecewise constant one a cascade
of quadratic pieces. ReLU is w = 0 (all of the kernel in one point).

Sources: Shamir, Lin and Coviello, 2020 (arXiv 2010.09931) for SmeLU and its generalisation; Shamir and
Lin, 2022 (arXiv 2202.06499) for RESCU as a family. The derivation through kernels is ours.
"""

from collections.abc import Sequence

from ranker.activations._kernels import Kernel, find_kernel
from ranker.activations._slope import with_slope
from ranker.activations.catalogue import validate
from ranker.backend import keras, tf


@keras.utils.register_keras_serializable(package="steady_ranker")
def rescu(
    x: tf.Tensor,
    alpha: float = 1.0,
    beta: float = 1.0,
    slope_left: float = 0.0,
    slope_right: float = 1.0,
    level: float = 0.0,
    kernel: str | Sequence[float] | Kernel = "box",
) -> tf.Tensor:
    """The general construction: slope `slope_left` up to -`alpha`, `slope_right` from `beta` on.

    Args:
        x: Floating point tensor of any shape.
        alpha: The transition begins at -alpha, in the units of x.
        beta: The transition ends at beta; alpha + beta >= 0, and 0 makes a corner.
        slope_left: Slope left of the transition.
        slope_right: Slope right of the transition.
        level: Value at -alpha.
        kernel: How the slope passes from one to the other: "box", "triangular", "cosine", a registered
            name, the weights of a `cascade`, or a `Kernel`.

    Returns:
        Tensor of x's shape and dtype.

    Raises:
        ActivationError: if a parameter is out of its range.

    >>> [float(rescu(x, kernel="triangular")) for x in (-1.0, 0.0, 1.0, 5.0)]  # doctest: +ELLIPSIS
    [0.0, 0.16666..., 1.0, 5.0]
    """
    validate(
        "rescu",
        {
            "alpha": alpha,
            "beta": beta,
            "slope_left": slope_left,
            "slope_right": slope_right,
            "level": level,
            "kernel": kernel,
        },
    )
    k = find_kernel(kernel)
    width, rise = alpha + beta, slope_right - slope_left
    cdf = with_slope(k.cdf, k.density)

    def position(x: tf.Tensor) -> tf.Tensor:
        if width < 1.0 / float(x.dtype.max):  # 1 / width is infinite in this dtype: a corner
            return tf.cast(x > beta, x.dtype)
        return (tf.clip_by_value(x, -alpha, beta) + alpha) / width

    def value(x: tf.Tensor) -> tf.Tensor:
        # The two straight parts apart, each only where its slope is not 0: at an infinite x the terms of
        # the one formula above would be inf - inf, or 0 * inf.
        t = position(x)
        y = level + width * (slope_left * t + rise * k.integral(t))
        if slope_left:
            y += slope_left * tf.minimum(x + alpha, 0.0)
        if slope_right:
            y += slope_right * tf.nn.relu(x - beta)
        return y

    def slope(x: tf.Tensor) -> tf.Tensor:
        return slope_left + rise * cdf(position(x))

    return with_slope(value, slope)(tf.convert_to_tensor(x))


@keras.utils.register_keras_serializable(package="steady_ranker")
def gsmelu(
    x: tf.Tensor,
    alpha: float = 1.0,
    beta: float = 1.0,
    slope_left: float = 0.0,
    slope_right: float = 1.0,
    level: float = 0.0,
) -> tf.Tensor:
    """Generalised SmeLU: two lines joined by one parabola; `rescu` with the box kernel.

    Args:
        x: Floating point tensor of any shape.
        alpha: The parabola begins at -alpha, in the units of x.
        beta: The parabola ends at beta; alpha + beta >= 0, and 0 makes a corner.
        slope_left: Slope left of the parabola; say 0.01 for a leaky form.
        slope_right: Slope right of the parabola.
        level: Value at -alpha.

    Returns:
        Tensor of x's shape and dtype.

    Raises:
        ActivationError: if a parameter is out of its range.
    """
    return rescu(x, alpha, beta, slope_left, slope_right, level, "box")
