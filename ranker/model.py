"""The ranking model, on TFRS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow_recommenders as tfrs

from ranker import activations
from ranker.architecture import NORMALIZATION_EPSILON, Architecture, Weights
from ranker.backend import keras, tf
from ranker.inputs import Column
from ranker.pieces import expand


@keras.utils.register_keras_serializable(package="steady_ranker")
class RMSNormalization(keras.layers.Layer):
    """Divides by the root mean square of the last axis, then multiplies by a learnt scale; Keras 2 has no such layer.

        y = x / sqrt(mean(x^2) + epsilon) * scale

    LayerNorm without its centring: the mean of x and a constant added to x stay in y. Input [..., features], output of the
    same shape and dtype; `scale` [features] starts at 1. The epsilon is LayerNorm's, so that the two differ in the centring
    alone.

    Source: Zhang and Sennrich, "Root mean square layer normalization", 2019 (arXiv 1910.07467), equation 4.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes `scale`, one number a feature."""
        self.scale = self.add_weight(name="scale", shape=(input_shape[-1],), initializer="ones")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Normalises `inputs` over the last axis."""
        mean_square = tf.reduce_mean(tf.square(inputs), axis=-1, keepdims=True)
        return inputs * tf.math.rsqrt(mean_square + NORMALIZATION_EPSILON) * self.scale


class RankingModel(tfrs.models.Model):
    """Embeddings, interaction, tower; predicts the probability of the label, or a regression's value.

    `tfrs.experimental.models.Ranking` is not used: it squeezes a batch of one to a scalar, and ignores or
    refuses sample weights. Predictions here are [batch, 1] for every batch.

    Args:
        architecture: which layers, and over which inputs.
    """

    def __init__(self, architecture: Architecture):
        super().__init__(name="ranking_model")
        self.architecture = architecture
        model, inputs = architecture.model, architecture.inputs
        self.embeddings = {
            c.table: keras.layers.Embedding(
                c.size,
                c.embedding_dim,
                embeddings_initializer=keras.initializers.RandomNormal(0.0, model.embedding_stddev),
                name=f"embedding_{c.table}",
            )
            for c in inputs.embedded
        }
        self.dense_tower = self._tower("dense", architecture.dense_sizes)
        self.crosses = []
        if model.interaction == "cross":
            self.crosses = [tfrs.layers.dcn.Cross(name=f"cross_{i}") for i in range(model.cross_layers)]
        self.dots = tfrs.layers.feature_interaction.DotInteraction(name="dot")
        self.tower = self._tower("hidden", model.hidden)
        self.logit = keras.layers.Dense(1, name="output")
        self.wide = keras.layers.Dense(1, use_bias=False, name="wide") if model.wide else None
        is_value = inputs.target.is_value
        self.task = tfrs.tasks.Ranking(
            loss=keras.losses.MeanSquaredError() if is_value else keras.losses.BinaryCrossentropy(),
            metrics=[
                keras.metrics.RootMeanSquaredError(name="rmse") if is_value else keras.metrics.AUC(name="auc")
            ],
        )
        # One call on a batch builds every weight; a model saved before its first call has none.
        self(
            {
                "ids": tf.zeros([1, inputs.id_width], tf.int32),
                "dense": tf.zeros([1, inputs.dense_width], tf.float32),
            }
        )

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Predicts.

        Args:
            inputs: `ids` int32 [batch, id_width] and `dense` float32 [batch, dense_width], as
                `ranker.features.FeatureEncoder` makes them.
            training: whether the model's dropout is on.

        Returns:
            float32 [batch, 1], the probability of the label, or its value.
        """
        return self.architecture.inputs.target.prediction(self.logits(inputs, training=training))

    def logits(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """The last layer's output, float32 [batch, 1]: log-odds, or a value less the mean. Arguments as `call`."""
        vectors = self.embed(inputs["ids"])
        dense = _through(self.dense_tower, expand(self.architecture.inputs, inputs["dense"]))
        if self.architecture.model.interaction == "dot":
            together = [*vectors, dense] if self.architecture.inputs.dense_width else vectors
            passed = vectors if self.architecture.passes_embeddings else []
            x = tf.concat([*passed, dense, self.dots(together)], axis=1)
        else:
            x = tf.concat([*vectors, dense], axis=1)
        start = x
        for cross in self.crosses:
            x = cross(start, x)
        logit = self.logit(_through(self.tower, x, training))
        return logit if self.wide is None else logit + self.wide(x)

    def compute_loss(self, inputs: Any, training: bool = False) -> tf.Tensor:
        """The mean cross-entropy (of a regression: squared error) of a batch, each row times its weight.

        Args:
            inputs: (encoded inputs, label [batch] or [batch, 1]), or these and weights of the label's shape.
            training: passed on to the model.
        """
        features, labels, *weights = inputs
        column = [-1, 1]
        return self.task(
            labels=tf.reshape(labels, column),
            predictions=self(features, training=training),
            # [batch]: Keras applies weights per example after averaging over the last axis, which is 1 here.
            sample_weight=tf.reshape(weights[0], [-1]) if weights else None,
        )

    def assign(self, weights: Weights) -> None:
        """Sets every weight by its name in `ranker.architecture`.

        Raises:
            KeyError: a weight is missing.
            ValueError: a weight has another shape.
        """
        for name, variable in self.named_variables().items():
            variable.assign(weights[name])

    def named_variables(self) -> dict[str, tf.Variable]:
        """The model's variables under their names in `ranker.architecture`."""
        named = {f"embedding/{name}": layer.embeddings for name, layer in self.embeddings.items()}
        named |= _tower_variables("dense", self.dense_tower)
        for i, cross in enumerate(self.crosses):
            kernel, bias = cross.trainable_variables
            named |= {f"cross/{i}/kernel": kernel, f"cross/{i}/bias": bias}
        named |= _tower_variables("hidden", self.tower)
        named |= {"output/kernel": self.logit.kernel, "output/bias": self.logit.bias}
        return named if self.wide is None else named | {"wide/kernel": self.wide.kernel}

    def _tower(self, name: str, sizes: tuple[int, ...]) -> list[list[keras.layers.Layer]]:
        model = self.architecture.model
        layers = []
        for i, size in enumerate(sizes):
            stage = [keras.layers.Dense(size, name=f"{name}_{i}")]
            if model.normalization == "layer":
                stage.append(
                    keras.layers.LayerNormalization(epsilon=NORMALIZATION_EPSILON, name=f"{name}_{i}_norm")
                )
            elif model.normalization == "rms":
                stage.append(RMSNormalization(name=f"{name}_{i}_norm"))
            # A fresh activation layer each: one shared object would be one node in every saved graph.
            stage.append(activations.layer(model.activation.model_dump()))
            if model.dropout and name == "hidden":
                stage.append(keras.layers.Dropout(model.dropout, name=f"{name}_{i}_dropout"))
            layers.append(stage)
        return layers

    def embed(self, ids: tf.Tensor) -> list[tf.Tensor]:
        """The embeddings of int ids [batch, columns]: float32 [batch, dim] each, a sequence pooled to one."""
        parts: dict[str, tuple[tf.Tensor, tf.Tensor]] = {}
        start = 0
        for column in self.architecture.inputs.embedded:
            part = ids[:, start : start + column.width]
            parts[column.name] = part, self.embeddings[column.table](part)
            start += column.width
        return [
            _pool(
                column,
                *parts[column.name],
                None if column.attends_to is None else parts[column.attends_to][1][:, 0],
            )
            for column in self.architecture.inputs.embedded
        ]


def _pool(column: Column, ids: tf.Tensor, vectors: tf.Tensor, query: tf.Tensor | None) -> tf.Tensor:
    """[batch, width, dim] to [batch, dim]: the mean over present values; the missing row where there are none.

    With a `query` [batch, dim] values are weighted by the softmax of their products with it.
    """
    if query is not None:
        scores = tf.einsum("bwd,bd->bw", vectors, query) / column.embedding_dim**0.5
        scores = tf.where(ids > 0, scores, scores.dtype.min)
        mean = tf.einsum("bw,bwd->bd", tf.nn.softmax(scores, axis=1), vectors)
        return tf.where(tf.reduce_any(ids > 0, axis=1, keepdims=True), mean, vectors[:, 0])
    if column.width == 1:
        return vectors[:, 0]
    present = tf.cast(ids > 0, vectors.dtype)
    count = tf.reduce_sum(present, axis=1, keepdims=True)
    mean = tf.einsum("bw,bwd->bd", present, vectors) / tf.maximum(count, 1.0)
    return tf.where(count > 0, mean, vectors[:, 0])


def _through(stages: list[list[keras.layers.Layer]], x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    for stage in stages:
        for layer in stage:
            x = layer(x, training=training) if isinstance(layer, keras.layers.Dropout) else layer(x)
    return x


def _tower_variables(name: str, stages: list[list[keras.layers.Layer]]) -> dict[str, tf.Variable]:
    named: dict[str, tf.Variable] = {}
    for i, (dense, following, *_) in enumerate(stages):
        named |= {f"{name}/{i}/kernel": dense.kernel, f"{name}/{i}/bias": dense.bias}
        if isinstance(following, keras.layers.LayerNormalization):
            named |= {f"{name}/{i}/scale": following.gamma, f"{name}/{i}/offset": following.beta}
        elif isinstance(following, RMSNormalization):
            named[f"{name}/{i}/scale"] = following.scale
    return named
