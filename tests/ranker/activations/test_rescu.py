"""The general construction against the convolution it comes from, and kernels of one's own."""

from functools import partial

import numpy as np
import pytest
from scipy import integrate

from ranker.activations import ActivationError, Kernel, cascade, get, gsmelu, layer, register_kernel, rescu
from ranker.activations._kernels import find_kernel
from ranker.backend import tf

KERNELS = ["box", "triangular", "cosine", (1.0, 2.0, 1.0), (0.0, 1.0, 0.0, 5.0)]


def ramp(name):
    """A kernel that grows along the transition: density 2 t."""
    return Kernel(name, lambda t: 2.0 * t, tf.square, lambda t: t**3 / 3.0)


@pytest.mark.parametrize(
    "kernel", [*KERNELS, ramp("ramp")], ids=lambda kernel: getattr(kernel, "name", str(kernel))
)
def test_it_is_relu_convolved_with_the_kernel(kernel):
    density = find_kernel(kernel).density
    alpha, beta = 0.75, 1.5
    width = alpha + beta

    def spread(x):
        points = np.linspace(0, 1, 20_161)  # edges at every jump
        heights = density(tf.constant((points[1:] + points[:-1]) / 2, tf.float64)).numpy()
        centres = -alpha + width * (points[1:] + points[:-1]) / 2
        return np.sum(np.maximum(x - centres, 0.0) * heights) / 20_160

    x = np.linspace(-2, 3, 41)
    got = rescu(tf.constant(x, tf.float64), alpha, beta, kernel=kernel)
    np.testing.assert_allclose(got, [spread(point) for point in x], atol=2e-8)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_kernels_are_densities_with_their_integrals(kernel):
    k = find_kernel(kernel)

    def number(name, t):
        return float(getattr(k, name)(tf.constant(t, tf.float64)))

    jumps = np.linspace(0, 1, 13)
    for upper in (0.2, 0.5, 0.8, 1.0):
        breaks = [jump for jump in jumps if jump < upper]
        for inner, outer in (("density", "cdf"), ("cdf", "integral")):
            area, _ = integrate.quad(partial(number, inner), 0, upper, points=breaks, limit=200)
            np.testing.assert_allclose(number(outer, upper), area, atol=1e-9)
    np.testing.assert_allclose(number("cdf", 1.0), 1.0, atol=1e-12)


def test_gsmelu_follows_its_three_pieces():
    alpha, beta, left, right, level = 0.5, 2.0, 0.1, 1.2, -0.3
    x = np.linspace(-4, 6, 401)
    pieces = [
        level + left * (x + alpha),
        level + left * (x + alpha) + (right - left) * (x + alpha) ** 2 / (2 * (alpha + beta)),
        level + (left + right) * (alpha + beta) / 2 + right * (x - beta),
    ]
    wanted = np.select([x <= -alpha, x < beta], pieces[:2], pieces[2])
    got = gsmelu(tf.constant(x, tf.float64), alpha, beta, left, right, level)
    np.testing.assert_allclose(got, wanted, atol=1e-14)


def test_no_width_makes_a_corner():
    x = tf.constant([-2.0, 0.5, 1.0, 2.0])
    y = gsmelu(x, alpha=-0.5, beta=0.5, slope_left=0.25)
    assert y.numpy().tolist() == [-0.625, 0.0, 0.5, 1.5]


def test_a_registered_kernel_is_known_by_name():
    kernel = ramp("ramp of a user")
    with pytest.raises(ActivationError, match="kernels: box, triangular, cosine"):
        layer({"name": "rescu", "kernel": kernel.name})
    register_kernel(kernel)
    x = tf.constant([-1.0, 0.0, 1.0, 2.0])
    np.testing.assert_allclose(
        layer({"name": "rescu", "kernel": kernel.name})(x), get({"name": "rescu", "kernel": kernel})(x)
    )
    with pytest.raises(ActivationError, match="`kernel` of a layer must be a name"):
        layer({"name": "rescu", "kernel": kernel})
    with pytest.raises(ActivationError, match=r"name must be new\. Received: 'ramp of a user'"):
        register_kernel(ramp(kernel.name))


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"density": lambda t: 2.0 * t - 0.5}, "density must be >= 0"),
        ({"cdf": lambda t: t}, "cdf must be the integral of density"),
        ({"cdf": lambda t: 0.5 * t**2}, r"cdf\(1\) must be 1"),
        ({"integral": lambda t: t**3}, "integral must be the integral of cdf"),
        ({"integral": lambda t: t**3 / 3.0 + 0.1}, r"integral\(0\) must be 0"),
    ],
)
def test_a_kernel_whose_parts_do_not_fit_is_refused(wrong, rule):
    right = {"density": lambda t: 2.0 * t, "cdf": tf.square, "integral": lambda t: t**3 / 3.0}
    with pytest.raises(ActivationError, match=f"Kernel `mine`: {rule}. Received: "):
        Kernel("mine", **{**right, **wrong})


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0, 3.0], [float("nan")]])
def test_a_cascade_needs_weights(weights):
    with pytest.raises(ActivationError, match="Received"):
        cascade(weights)
    with pytest.raises(ActivationError, match="`kernel` of rescu must be"):
        get({"name": "rescu", "kernel": weights})


@pytest.mark.parametrize("pieces", [1, 2, 11, 13, 97])
def test_a_cascade_of_any_length_is_a_kernel(pieces):
    weights = np.random.default_rng(pieces).exponential(size=pieces).tolist()
    one_hot = [0.0] * (pieces - 1) + [1.0]
    for case in (weights, one_hot, [1.0, 0.0] * pieces):
        kernel = cascade(case)
        np.testing.assert_allclose(kernel.cdf(tf.constant([0.0, 1.0], tf.float64)), [0.0, 1.0], atol=1e-12)


def test_the_transition_cannot_end_before_it_begins():
    with pytest.raises(ActivationError, match=r"`alpha` \+ `beta` of gsmelu must be >= 0"):
        get({"name": "gsmelu", "alpha": -2.0, "beta": 1.0})
