r"""Kernels: how a rectifier's slope goes from one value to the other.

A kernel is a probability density k on [0, 1], given with its first and second integrals from 0:

    density   k(t) >= 0          the curvature of the transition
    cdf       K(t) = int_0^t k   the slope's way from 0 to 1
    integral  I(t) = int_0^t K   the value gathered on that way

`rescu` puts them to use; each is called with t in [0, 1] only.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ranker.activations.catalogue import ActivationError, allow_kernel
from ranker.backend import tf


@dataclass(frozen=True)
class Kernel:
    """A density on [0, 1] with its first and second integrals, functions of a tensor each.

    Each takes a floating point tensor of any shape, with values in [0, 1], and keeps shape and dtype.

    Raises:
        ActivationError: if the three do not belong together (checked on a grid, in float64).
    """

    name: str
    density: Callable[[tf.Tensor], tf.Tensor]
    cdf: Callable[[tf.Tensor], tf.Tensor]
    integral: Callable[[tf.Tensor], tf.Tensor]

    def __post_init__(self) -> None:
        # Cell edges at the multiples of 1/5040 hold the jumps of every cascade of up to 10 equal pieces.
        edges = np.linspace(0.0, 1.0, 5041)
        middles = (edges[1:] + edges[:-1]) / 2
        with tf.init_scope():
            density, cdf, integral = (
                np.asarray(function(tf.constant(points, tf.float64)))
                for function, points in ((self.density, middles), (self.cdf, edges), (self.integral, edges))
            )
        self._require(bool(np.all(density >= 0)), "density must be >= 0", f"{density.min():.3g}")
        for rule, at, value, expected in (
            ("cdf(0) must be 0", 0, cdf, 0.0),
            ("cdf(1) must be 1", -1, cdf, 1.0),
            ("integral(0) must be 0", 0, integral, 0.0),
        ):
            self._require(abs(value[at] - expected) < 1e-6, rule, f"{value[at]:.6g}")
        for rule, error in (
            ("cdf must be the integral of density", np.abs(np.cumsum(density) / 5040 - cdf[1:]).max()),
            (
                "integral must be the integral of cdf",
                np.abs(np.cumsum(cdf[1:] + cdf[:-1]) / 10080 - integral[1:]).max(),
            ),
        ):
            # A jump inside a cell is known up to the cell's width.
            self._require(bool(error < 1e-3 * max(density.max(), 1.0)), rule, f"a difference of {error:.3g}")

    def _require(self, holds: bool, rule: str, received: str) -> None:
        if not holds:
            raise ActivationError(f"Kernel `{self.name}`: {rule}. Received: {received}")


def cascade(weights: Sequence[float]) -> Kernel:
    """The kernel of an activation with several quadratic pieces: a density constant on each of them.

    Args:
        weights: Relative curvature of each piece, left to right, >= 0, with a positive sum. The pieces
            are of equal width. One piece is the box; [1, 0, 1] bends, runs straight and bends again.

    >>> kernel = cascade([1.0, 3.0])
    >>> [float(kernel.cdf(tf.constant(t))) for t in (0.0, 0.5, 1.0)]
    [0.0, 0.25, 1.0]
    """
    if not len(weights) or min(weights) < 0 or not sum(weights) > 0 or not math.isfinite(sum(weights)):
        raise ActivationError(
            f"`weights` must be finite numbers >= 0 with a positive sum. Received: {list(weights)}"
        )
    pieces = len(weights)
    heights = [pieces * weight / sum(weights) for weight in weights]
    # On top of a first height, each piece adds its change of height from its left edge on: a sum of
    # ramps, with no branch.
    changes = [
        (index / pieces, height - before)
        for index, (height, before) in enumerate(zip(heights, [0.0, *heights[:-1]], strict=True))
        if height != before
    ]

    def density(t: tf.Tensor) -> tf.Tensor:
        return _sum([change * tf.cast(t >= edge, t.dtype) for edge, change in changes])

    def cdf(t: tf.Tensor) -> tf.Tensor:
        return _sum([change * tf.nn.relu(t - edge) for edge, change in changes])

    def integral(t: tf.Tensor) -> tf.Tensor:
        return _sum([0.5 * change * tf.square(tf.nn.relu(t - edge)) for edge, change in changes])

    return Kernel(f"cascade of {pieces}", density, cdf, integral)


def _sum(terms: list[tf.Tensor]) -> tf.Tensor:
    return terms[0] if len(terms) == 1 else tf.add_n(terms)


# One quadratic piece: SmeLU.
BOX = Kernel("box", tf.ones_like, tf.identity, lambda t: 0.5 * tf.square(t))

# A box convolved with a box of the same width: two cubic pieces, a slope without kinks.
# With s = 1 - t the right half mirrors the left one: K(t) = 1 - K(s), I(t) = I(s) + t - 1/2.
TRIANGULAR = Kernel(
    "triangular",
    lambda t: 4.0 * tf.minimum(t, 1.0 - t),
    lambda t: tf.where(t < 0.5, 2.0 * tf.square(t), 1.0 - 2.0 * tf.square(1.0 - t)),
    lambda t: 2.0 / 3.0 * tf.minimum(t, 1.0 - t) ** 3 + tf.nn.relu(t - 0.5),
)

# The raised cosine: a bell with smooth feet, a slope with a continuous derivative of its own.
COSINE = Kernel(
    "cosine",
    lambda t: 1.0 - tf.cos(2.0 * math.pi * t),
    lambda t: t - tf.sin(2.0 * math.pi * t) / (2.0 * math.pi),
    lambda t: 0.5 * tf.square(t) - tf.square(tf.sin(math.pi * t) / math.pi) * 0.5,
)

_KERNELS = {kernel.name: kernel for kernel in (BOX, TRIANGULAR, COSINE)}


def register_kernel(kernel: Kernel) -> None:
    """Make a kernel known by its name to `rescu` and to the configuration.

    Raises:
        ActivationError: if another kernel has this name.
    """
    if _KERNELS.setdefault(kernel.name, kernel) is not kernel:
        raise ActivationError(f"A kernel's name must be new. Received: {kernel.name!r}")
    allow_kernel(kernel.name)


def find_kernel(kernel: str | Sequence[float] | Kernel) -> Kernel:
    """A kernel by name, of a cascade's weights, or as it is. Validated by the caller."""
    if isinstance(kernel, Kernel):
        return kernel
    return _KERNELS[kernel] if isinstance(kernel, str) else cascade(kernel)
