"""Predictions of weights in memory, without a Keras model or a SavedModel."""

from __future__ import annotations

import numpy as np

from ranker.architecture import Architecture, Weights
from ranker.backend import tf
from ranker.training.examples import Examples
from ranker.training.forward import Forward

_ROWS = 1024
"""Few enough that a layer of them stays in the processor's cache."""


def predict(architecture: Architecture, weights: Weights, examples: Examples) -> np.ndarray:
    """The probability of the label for every row, float32 [rows]."""
    forward = Forward(architecture)
    dense = {n: w[np.newaxis] for n, w in weights.items() if not n.startswith("embedding/")}
    tables = {c.name: tf.constant(weights[f"embedding/{c.name}"]) for c in architecture.inputs.embedded}
    result = []
    for start in range(0, int(examples.label.shape[0]), _ROWS):
        ids = examples.ids[tf.newaxis, start : start + _ROWS]
        vectors, first = {}, 0
        for column in architecture.inputs.embedded:
            vectors[column.name] = tf.gather(tables[column.name], ids[..., first : first + column.width])
            first += column.width
        logits = forward(dense, forward.pool(vectors, ids), examples.dense[tf.newaxis, start : start + _ROWS])
        result.append(tf.sigmoid(logits[0]).numpy())
    return np.concatenate(result)
