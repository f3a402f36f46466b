"""The model as a pure function of its weights, for a stack of towers at once.

It computes the same as `ranker.model.RankingModel`, with a leading axis over towers; a test compares the two. One batched
matrix product does the work of many small ones. That is why eight replicas trained together cost less than eight trainings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ranker import activations
from ranker.architecture import NORMALIZATION_EPSILON, Architecture
from ranker.backend import tf
from ranker.pieces import expand


class Forward:
    """Computes logits for a stack of T towers.

    Args:
        architecture: the model of every tower.
    """

    def __init__(self, architecture: Architecture):
        self._architecture = architecture
        self._activation = activations.get(architecture.model.activation.model_dump())

    def __call__(
        self,
        weights: Mapping[str, tf.Tensor],
        pooled: Sequence[tf.Tensor],
        dense: tf.Tensor,
        noise: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes the logits.

        Args:
            weights: dense weights by name, each with a leading axis [T, ...].
            pooled: one embedding a feature and row [T, batch, dim], as `pool` returns them.
            dense: float32 [T, batch, dense_width].
            noise: int32 [T, 2], the seeds of the dropout in training; None without.

        Returns:
            float32 [T, batch].
        """
        architecture = self._architecture
        dense = expand(architecture.inputs, dense)
        dense = self._tower("dense", len(architecture.dense_sizes), weights, dense)
        if architecture.model.interaction == "dot":
            together = [*pooled, dense] if architecture.inputs.dense_width else pooled
            passed = pooled if architecture.passes_embeddings else []
            x = tf.concat([*passed, dense, _dots(together)], axis=-1)
        else:
            x = tf.concat([*pooled, dense], axis=-1)
        if architecture.model.interaction == "cross":
            start = x
            for i in range(architecture.model.cross_layers):
                x = start * _affine(weights, f"cross/{i}", x) + x
        hidden = self._tower("hidden", len(architecture.model.hidden), weights, x, noise)
        logit = _affine(weights, "output", hidden)[..., 0]
        return logit + tf.matmul(x, weights["wide/kernel"])[..., 0] if architecture.model.wide else logit

    def pool(self, vectors: Mapping[str, tf.Tensor], ids: tf.Tensor) -> list[tf.Tensor]:
        """One embedding a feature and row: of several values their mean (plain or by attention), of none the missing row.

        Args:
            vectors: feature name to looked-up embeddings [T, batch, width, dim], or to pooled ones [T, batch, dim].
            ids: int32 [T, batch, id_width]; 0 is missing or padding.
        """
        pooled, start = [], 0
        for column in self._architecture.inputs.embedded:
            value = vectors[column.name]
            present = ids[:, :, start : start + column.width] > 0
            if column.attends_to is not None:
                query = vectors[column.attends_to]
                query = query if query.shape.rank == 3 else query[:, :, 0]
                scores = tf.einsum("tbwd,tbd->tbw", value, query) / column.embedding_dim**0.5
                shares = tf.nn.softmax(tf.where(present, scores, scores.dtype.min), axis=-1)
                mean = tf.reduce_sum(shares[..., tf.newaxis] * value, axis=2)
                pooled.append(tf.where(tf.reduce_any(present, axis=-1, keepdims=True), mean, value[:, :, 0]))
            elif value.shape.rank == 3:
                pooled.append(value)
            elif column.width == 1:
                pooled.append(value[:, :, 0])
            else:
                shares = tf.cast(present, value.dtype)
                count = tf.reduce_sum(shares, axis=-1, keepdims=True)
                mean = tf.reduce_sum(shares[..., tf.newaxis] * value, axis=2) / tf.maximum(count, 1.0)
                pooled.append(tf.where(count > 0, mean, value[:, :, 0]))
            start += column.width
        return pooled

    def _tower(
        self,
        name: str,
        layers: int,
        weights: Mapping[str, tf.Tensor],
        x: tf.Tensor,
        noise: tf.Tensor | None = None,
    ) -> tf.Tensor:
        for i in range(layers):
            x = _affine(weights, f"{name}/{i}", x)
            x = self._normalise(weights, f"{name}/{i}", x)
            x = self._activation(x)
            if noise is not None and self._architecture.model.dropout:
                x = _drop(x, self._architecture.model.dropout, noise, i)
        return x

    def _normalise(self, weights: Mapping[str, tf.Tensor], name: str, x: tf.Tensor) -> tf.Tensor:
        normalization = self._architecture.model.normalization
        if normalization == "none":
            return x
        if normalization == "layer":
            x -= tf.reduce_mean(x, axis=-1, keepdims=True)
        mean_square = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
        x = x * tf.math.rsqrt(mean_square + NORMALIZATION_EPSILON) * weights[f"{name}/scale"][:, tf.newaxis]
        return x + weights[f"{name}/offset"][:, tf.newaxis] if normalization == "layer" else x


def _drop(x: tf.Tensor, rate: float, noise: tf.Tensor, layer: int) -> tf.Tensor:
    """Sets the share `rate` of the values to 0; each tower by its own seeds, so that it has the zeros it has alone."""
    seeds = noise + tf.constant([0, layer << 24], tf.int32)
    masks = [
        tf.random.stateless_uniform(x.shape[1:], seed=seeds[tower], alg="threefry") >= rate
        for tower in range(x.shape[0])
    ]
    return tf.where(tf.stack(masks), x / (1.0 - rate), 0.0)


def _affine(weights: Mapping[str, tf.Tensor], name: str, x: tf.Tensor) -> tf.Tensor:
    return tf.matmul(x, weights[f"{name}/kernel"]) + weights[f"{name}/bias"][:, tf.newaxis]


def _dots(vectors: Sequence[tf.Tensor]) -> tf.Tensor:
    stacked = tf.stack(vectors, axis=2)
    products = tf.matmul(stacked, stacked, transpose_b=True)
    count = len(vectors)
    rows, columns = np.tril_indices(count, k=-1)
    towers, batch = stacked.shape[0], stacked.shape[1]
    flat = tf.reshape(products, [towers, batch, count * count])
    return tf.gather(flat, rows * count + columns, axis=-1)
