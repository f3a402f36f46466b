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
    compiled = _compiled(architecture)
    probabilities = compiled(dense, tables, examples.ids, examples.dense, places.reshape(-1, 1, _ROWS))
    return probabilities.numpy().ravel()[:rows]


@lru_cache(maxsize=8)
def _compiled(architecture: Architecture) -> Callable[..., tf.Tensor]:
    """Scores all rows: from dense weights, tables, ids, numbers and places [chunks, 1, rows] to predictions [chunks, rows].

    Traced once, for any number of rows.
    """
    forward, inputs = Forward(architecture), architecture.inputs
    shapes = architecture.shapes()
    signature = (
        {name: tf.TensorSpec([1, *s]) for name, s in shapes.items() if not name.startswith("embedding/")},
        {column.table: tf.TensorSpec(shapes[f"embedding/{column.table}"]) for column in inputs.embedded},
        tf.TensorSpec([None, inputs.id_width], tf.int32),
        tf.TensorSpec([None, inputs.dense_width]),
        tf.TensorSpec([None, 1, _ROWS], tf.int32),
    )

    @tf.function(jit_compile=True, autograph=False)
    def score(dense, vectors, ids, numbers):
        return inputs.target.prediction(forward(dense, forward.pool(vectors, ids), numbers)[0])

    @tf.function(autograph=False, input_signature=signature)
    def scores(dense, tables, all_ids, all_numbers, places):
        chunks = tf.shape(places)[0]

        def add_chunk(i, result):
            ids, numbers = tf.gather(all_ids, places[i]), tf.gather(all_numbers, places[i])
            vectors, first = {}, 0
            for column in inputs.embedded:
                vectors[column.name] = tf.gather(tables[column.table], ids[..., first : first + column.width])
                first += column.width
            return i + 1, result.write(i, score(dense, vectors, ids, numbers))

        start = tf.constant(0), tf.TensorArray(tf.float32, chunks, element_shape=[_ROWS])
        return tf.while_loop(lambda i, result: i < chunks, add_chunk, start)[1].stack()

    return scores
