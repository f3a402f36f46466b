"""Embedding tables in training: only the rows in the batch are read and written.

A row stands beside its optimizer slots, so that each step reads and writes it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ranker.backend import tf
from ranker.config import Optimizer
from ranker.training.step import optimizers


class Rows(NamedTuple):
    """The rows of a table that one batch touches.

    Attributes:
        places: int32 [u], which rows.
        state: float32 [u, k * dim], their weights, slots and correction side by side.
        which: int32 [T * batch * ids], which of them each occurrence is.
        vectors: float32 [T, batch, ids, dim], the embeddings.
    """

    places: tf.Tensor
    state: tf.Tensor
    which: tf.Tensor
    vectors: tf.Tensor


class EmbeddingTable(tf.Module):
    """Packed embedding rows [n, dim], each beside its optimizer slots and its averages' corrections."""

    def __init__(self, weights: np.ndarray, optimizer: Optimizer, averages: int):
        super().__init__()
        self._optimizer, self._averages, self._dim = optimizer, averages, weights.shape[1]
        starts = [*optimizers.slots(optimizer), *[0.0] * averages]
        self.state = tf.Variable(np.hstack([weights, *(np.full_like(weights, value) for value in starts)]))

    def value(self, average: int | None) -> np.ndarray:
        """The weights of one average, or as the last step left them."""
        weights, *rest = np.split(self.state.numpy(), self.state.shape[1] // self._dim, axis=1)
        if average is None or not self._averages:
            return weights
        return weights - rest[average - self._averages]

    def read(self, places: tf.Tensor) -> Rows:
        """The rows at `places` [T, batch, ids]."""
        rows, which = tf.unique(tf.reshape(places, [-1]))
        state = tf.gather(self.state, rows)
        vectors = tf.gather(state[:, : self._dim], tf.reshape(which, tf.shape(places)))
        return Rows(rows, state, which, vectors)

    def update(self, rows: Rows, gradient: tf.Tensor, now: Mapping[str, tf.Tensor]) -> None:
        """Updates rows by the gradients of their occurrences [T, batch, ids, dim], summed over repetitions.

        Args:
            rows: what `read` returned.
            gradient: of `rows.vectors`.
            now: scalars `step`, `rate`, `correction`.
        """
        gradient = tf.reshape(gradient, [-1, self._dim])
        gradient = tf.math.unsorted_segment_sum(gradient, rows.which, tf.size(rows.places))
        weights, *rest = tf.split(rows.state, self.state.shape[1] // self._dim, axis=1)
        slot_count = len(rest) - self._averages
        change, slots = optimizers.update(
            self._optimizer, gradient, rest[:slot_count], now["rate"], now["step"]
        )
        totals = [total + now["correction"][i] * change for i, total in enumerate(rest[slot_count:])]
        new = [weights + change, *slots, *totals]
        self.state.scatter_update(tf.IndexedSlices(tf.concat(new, axis=1), rows.places))
