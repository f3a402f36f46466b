"""The losses that a stack of towers minimises.

`pairwise_logistic` and `softmax_cross_entropy` compare the rows of a request that are in the batch. A batch has a fixed
number of rows, so it may cut one request at each of its ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ranker.backend import tf
from ranker.config import Training
from ranker.divergence import ranking_loss
from ranker.divergence.quality import row_logloss
from ranker.divergence.ranked import logit
from ranker.inputs import TrainingTarget

Objective = Callable[[tf.Tensor, Mapping[str, tf.Tensor]], tf.Tensor]
"""(logits [T, batch], rows) -> loss a tower [T].

`rows` has `label`, `weight` and `share` [T, batch] (see `Examples.take`), `request` [T, batch] where the loss compares rows,
and `done`, the share of the training that is behind, a scalar in (0, 1].
"""


def cross_entropy(logits: tf.Tensor, rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The mean over a batch of weight times binary cross-entropy, float32 [T]."""
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=rows["label"], logits=logits)
    return tf.reduce_sum(rows["share"] * rows["weight"] * entropy, axis=1)


def squared_error(logits: tf.Tensor, rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The mean over a batch of weight times the squared distance to the label, float32 [T]."""
    return tf.reduce_sum(rows["share"] * rows["weight"] * tf.square(rows["label"] - logits), axis=1)


def pairwise_logistic(logits: tf.Tensor, rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The logistic loss of the pairs of a request's rows, float32 [T].

    The mean over a batch's rows i of weight_i times the sum, over the request's rows j with a lower label, of
    ln(1 + exp(s_j - s_i)).

    Source: RankNet, Burges et al., 2005; TF-Ranking's `PairwiseLogisticLoss` on lists without padding.
    """
    label = rows["label"]
    is_pair = _same_request(rows) & (label[:, :, tf.newaxis] > label[:, tf.newaxis, :])
    gaps = tf.nn.softplus(logits[:, tf.newaxis, :] - logits[:, :, tf.newaxis])
    each = tf.reduce_sum(tf.where(is_pair, gaps, 0.0), axis=2)
    return tf.reduce_sum(rows["share"] * rows["weight"] * each, axis=1)


def softmax_cross_entropy(logits: tf.Tensor, rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The cross-entropy of the softmax over a request's rows, float32 [T].

    The mean over a batch's requests of minus the sum of weight_i label_i ln softmax(s)_i.

    Source: ListNet, Cao et al., 2007; TF-Ranking's `SoftmaxLoss`.
    """
    is_row = rows["share"] > 0
    is_same_request = _same_request(rows)
    sizes = tf.reduce_sum(tf.cast(is_same_request, tf.float32), axis=2)
    requests = tf.reduce_sum(tf.where(is_row, 1.0 / tf.maximum(sizes, 1.0), 0.0), axis=1)
    # A place without a row has no request: its own logit keeps its sum finite.
    is_same_request |= tf.eye(logits.shape[1], dtype=tf.bool)
    peers = tf.where(is_same_request, logits[:, tf.newaxis, :], logits.dtype.min)
    losses = rows["weight"] * rows["label"] * (tf.reduce_logsumexp(peers, axis=2) - logits)
    return tf.reduce_sum(tf.where(is_row, losses, 0.0), axis=1) / tf.maximum(requests, 1.0)


def objective_of(training: Training, target: TrainingTarget) -> Objective:
    """The objective of a training without mitigation."""
    if target.is_value:
        return squared_error
    return {
        "pointwise": cross_entropy,
        "pairwise": pairwise_logistic,
        "listwise": softmax_cross_entropy,
    }[training.loss]


def held_out_loss(
    training: Training,
    target: TrainingTarget,
    label: np.ndarray,
    weight: np.ndarray,
    score: np.ndarray,
    request: np.ndarray | None,
) -> float:
    """The loss of held-out rows, whole requests where the loss compares rows, by which a training is ended.

    Args:
        training: which loss; the pairwise one as the mean over pairs and then over requests.
        target: what is learnt.
        label: of each row [R], as `Examples` has it.
        weight: of each row [R].
        score: predictions [R].
        request: of each row [R], integers; None for the pointwise loss.
    """
    label, weight = label.astype(np.float64), weight.astype(np.float64)
    if target.is_value:
        errors = np.square(label - (score.astype(np.float64) - target.mean) / target.std)
        return float((weight * errors).sum() / max(weight.sum(), 1e-12))
    if training.loss == "pointwise":
        return float((weight * row_logloss(label, score)).sum() / max(weight.sum(), 1e-12))
    assert request is not None
    if training.loss == "pairwise":
        # Grades go beyond 1, and their order is all that counts.
        return ranking_loss(label / max(label.max(initial=1.0), 1.0), score, request, weight=weight)
    owner = np.unique(request, return_inverse=True)[1]
    logits = logit(score)
    top = np.full(owner.max(initial=-1) + 1, -np.inf)
    np.maximum.at(top, owner, logits)
    log_sum = top + np.log(np.bincount(owner, weights=np.exp(logits - top[owner])))
    return float((weight * label * (log_sum[owner] - logits)).sum() / max(len(top), 1))


def _same_request(rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Which places of a batch hold rows of one request, bool [T, batch, batch]."""
    request, is_row = rows["request"], rows["share"] > 0
    is_same_request = request[:, :, tf.newaxis] == request[:, tf.newaxis, :]
    return is_same_request & is_row[:, :, tf.newaxis] & is_row[:, tf.newaxis, :]
