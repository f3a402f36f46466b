"""Losses that couple the towers of one program."""

from __future__ import annotations

from collections.abc import Mapping

from ranker.backend import tf
from ranker.training.step.objective import Objective, cross_entropy


def anti_distillation(strength: float, base: Objective = cross_entropy) -> Objective:
    """The loss `base` of every component, plus `strength` times the mean squared correlation of their log-odds.

    With z_i the log-odds of component i centred over the batch, the second term is the mean over pairs i < j of
    (sum z_i z_j)^2 / (sum z_i^2 sum z_j^2): 0 for components that agree in nothing but the mean, 1 for copies.

    Source: Shamir and Coviello, "Anti-distillation: improving reproducibility of deep networks", 2020 (arXiv
        2010.09923), which drives components of an ensemble apart so that their mean covers more solutions.
    """

    def objective(logits: tf.Tensor, rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
        share = rows["share"]
        centred = logits - tf.reduce_sum(share * logits, axis=1, keepdims=True)
        covariance = tf.matmul(share * centred, centred, transpose_b=True)
        variance = tf.linalg.diag_part(covariance) + 1e-8
        squared = tf.square(covariance) / (variance[:, tf.newaxis] * variance[tf.newaxis, :])
        towers = logits.shape[0]
        squared_correlations = squared * (1.0 - tf.eye(towers))
        # Each unordered pair stands in two rows; the sum over towers counts it twice, hence the half.
        correlation = tf.reduce_sum(squared_correlations, axis=1) / (2 * max(1, towers - 1)) * 2 / towers
        return base(logits, rows) + strength * correlation

    return objective


def codistillation(towers: int, weight: float, burn_in: float) -> Objective:
    """Each replica's cross-entropy on its own batch, plus `weight` times that to the mean of the others.

    For a program whose towers see the batches of all: logits [T, T * batch], tower t's own batch at t * batch. The
    others' mean probability on a replica's own batch is a soft label, through which no gradient flows.

    Source: Anil et al., "Large scale distributed neural network training through online distillation", 2018
        (arXiv 1804.03235), section 2.
    """

    def objective(logits: tf.Tensor, rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
        batch = logits.shape[1] // towers
        # [tower, whose batch, row]; shares are of all batches together.
        blocks = tf.reshape(logits, [towers, towers, batch])
        is_own_batch = tf.eye(towers)[:, :, tf.newaxis]
        pull = tf.reshape(rows["share"] * rows["weight"], [towers, towers, batch]) * is_own_batch * towers
        label = tf.reshape(rows["label"], [towers, towers, batch])
        probability = tf.stop_gradient(tf.sigmoid(blocks))
        sibling_mean = (tf.reduce_sum(probability, axis=0, keepdims=True) - probability) / max(1, towers - 1)
        hard = tf.nn.sigmoid_cross_entropy_with_logits(labels=label, logits=blocks)
        soft = tf.nn.sigmoid_cross_entropy_with_logits(labels=sibling_mean, logits=blocks)
        strength = weight * tf.cast(rows["done"] > burn_in, tf.float32)
        return tf.reduce_sum(pull * (hard + strength * soft), axis=[1, 2])

    return objective
