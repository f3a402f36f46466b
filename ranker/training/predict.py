"""Predictions of weights in memory, without a Keras model or a SavedModel."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ranker.architecture import Architecture, Weights
from ranker.backend import tf
from ranker.training.rows.examples import Examples
from ranker.training.step.forward import Forward

_ROWS = 1024
"""Few enough that a layer of them stays in the processor's cache."""


def predict(architecture: Architecture, weights: Weights, examples: Examples) -> np.ndarray:
    """The prediction for every row, float32 [rows]."""
    rows = int(examples.label.shape[0])
    dense = {n: tf.constant(w[np.newaxis]) for n, w in weights.items() if not n.startswith("embedding/")}
    tables = {c.table: tf.constant(weights[f"embedding/{c.table}"]) for c in architecture.inputs.embedded}
    # The last places once more rather than a shape of their own to compile.
    places = np.minimum(np.arange(-(-rows // _ROWS) * _ROWS), rows - 1).astype(np.int32)
    probabilities = _compiled(architecture)(dense, tables, examples, places.reshape(-1, 1, _ROWS))
    return probabilities.numpy().ravel()[:rows]


@lru_cache(maxsize=8)
def _compiled(architecture: Architecture) -> Callable[..., tf.Tensor]:
    """A function from dense weights, tables, rows and places [chunks, 1, rows] to probabilities [chunks, rows]."""
    forward = Forward(architecture)

    @tf.function(jit_compile=True, autograph=False)
    def score(dense, vectors, ids, numbers):
        return architecture.inputs.target.prediction(forward(dense, forward.pool(vectors, ids), numbers)[0])

    # Rows of another number are traced once more, and then no number is.
    @tf.function(autograph=False, reduce_retracing=True)
    def scores(dense, tables, examples, places):
        chunks = tf.shape(places)[0]

        def add_chunk(i, result):
            rows, vectors, first = examples.take(places[i]), {}, 0
            for column in architecture.inputs.embedded:
                ids = rows["ids"][..., first : first + column.width]
                vectors[column.name] = tf.gather(tables[column.table], ids)
                first += column.width
            return i + 1, result.write(i, score(dense, vectors, rows["ids"], rows["dense"]))

        start = tf.constant(0), tf.TensorArray(tf.float32, chunks, element_shape=[_ROWS])
        return tf.while_loop(lambda i, result: i < chunks, add_chunk, start)[1].stack()

    return scores
