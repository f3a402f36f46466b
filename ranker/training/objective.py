"""What a stack of towers minimises."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ranker.backend import tf

Objective = Callable[[tf.Tensor, Mapping[str, tf.Tensor]], tf.Tensor]
"""(logits [T, batch], rows) -> loss a tower [T].

`rows` has `label`, `weight` and `share` [T, batch] (see `Examples.take`), and `done`, the share of the training
that is behind, a scalar in (0, 1].
"""


def cross_entropy(logits: tf.Tensor, rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The mean over a batch of weight times binary cross-entropy, float32 [T]."""
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=rows["label"], logits=logits)
    return tf.reduce_sum(rows["share"] * rows["weight"] * entropy, axis=1)
