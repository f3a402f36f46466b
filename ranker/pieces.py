"""Numbers as piecewise linear functions of themselves, so that a shallow model bends with them.

A number with `pieces: n` enters as itself, within 3 deviations, and as n shares: the k-th is how far the number has come
from the k-th of n + 1 of its quantiles in the training rows to the next, 0 before and 1 after, less its mean. A model that
is linear in the shares is a piecewise linear function of the number; and as the shares are continuous and bounded, neither
a small error of measurement nor a value that no training row had moves a prediction by a jump.

Source: Gorishniy, Rubachev and Babenko, "On embeddings for numerical features in tabular deep learning", 2022 (arXiv
2203.05556), section 3.2, equation 1, but for the bounds of the first and the last share and for the mean.
"""

from __future__ import annotations

import numpy as np

from ranker.backend import tf
from ranker.inputs import Inputs

LIMIT = 3.0
"""Deviations from the mean at which a number with shares is cut."""


def expand(inputs: Inputs, dense: tf.Tensor) -> tf.Tensor:
    """Adds the shares to the dense columns.

    Args:
        inputs: the plan of the input columns.
        dense: float32 [..., dense_width], a value and a missing indicator for each number.

    Returns:
        float32 [..., expanded_width]: the dense columns, values with shares within 3 deviations, then all shares in the
        numbers' order, 0 where the number is missing. `dense` itself where no number has shares.
    """
    if inputs.expanded_width == inputs.dense_width:
        return dense
    place, low, high, mean = (np.array(values) for values in zip(*_shares(inputs), strict=True))
    limits = np.full(inputs.dense_width, np.inf, np.float32)
    limits[place] = LIMIT
    share = (tf.gather(dense, place, axis=-1) - _float(low)) * _float(1.0 / (high - low))
    is_there = 1.0 - tf.gather(dense, place + 1, axis=-1)
    shares = (tf.clip_by_value(share, 0.0, 1.0) - _float(mean)) * is_there
    return tf.concat([tf.clip_by_value(dense, -limits, limits), shares], axis=-1)


def _shares(inputs: Inputs) -> list[tuple[int, float, float, float]]:
    """Of each share the place of its number in `dense`, its two quantiles and its mean."""
    return [
        (2 * index, low, high, mean)
        for index, column in enumerate(inputs.dense)
        for low, high, mean in zip(column.edges, column.edges[1:], column.share_means, strict=False)
    ]


def _float(values: np.ndarray) -> tf.Tensor:
    return tf.constant(values, tf.float32)
