"""The compiled part of a training step: towers, loss, gradients, and the optimizer on one packed vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ranker.architecture import Architecture
from ranker.backend import tf
from ranker.config import Optimizer
from ranker.training.rows.packing import Packing
from ranker.training.step import optimizers
from ranker.training.step.forward import Forward
from ranker.training.step.objective import Objective


class DenseState(tf.Module):
    """The packed dense weights [T, n] with their optimizer slots and its averages' corrections."""

    def __init__(self, weights: np.ndarray, optimizer: Optimizer, averages: int):
        super().__init__()
        self.weights = tf.Variable(weights)
        self.slots = [tf.Variable(np.full_like(weights, value)) for value in optimizers.slots(optimizer)]
        self.corrections = [tf.Variable(np.zeros_like(weights)) for _ in range(averages)]

    def value(self, average: int | None) -> np.ndarray:
        """The weights of one average, or as the last step left them."""
        if average is None or not self.corrections:
            return self.weights.numpy()
        return (self.weights - self.corrections[average]).numpy()


class DenseStep:
    """Compiled once by XLA, for every program of the same shape.

    Args:
        architecture: the model of every tower.
        optimizer: the rule; its learning rate comes with each step.
        packing: how weights are packed.
        objective: the loss.
        forward: computes the logits.
    """

    def __init__(
        self,
        architecture: Architecture,
        optimizer: Optimizer,
        packing: Packing,
        objective: Objective,
        forward: type[Forward] = Forward,
    ):
        self._architecture, self._optimizer = architecture, optimizer
        self._packing, self._objective = packing, objective
        self._forward = forward(architecture)
        self._compiled = tf.function(self._run, jit_compile=True, autograph=False)

    def __call__(
        self,
        state: DenseState,
        looked_up: list[tf.Tensor],
        rows: Mapping[str, tf.Tensor],
        now: Mapping[str, tf.Tensor],
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Updates the dense weights.

        Args:
            state: the weights, updated in place.
            looked_up: embeddings [T, batch, ids, dim], one tensor a group of the packing.
            rows: the batch, as `Examples.take` returns it.
            now: scalars `step`, `done`, `rate`, `correction` [averages], and `noise` int32 [T, 2], the seeds of the
                dropout in this step.

        Returns:
            The loss a tower [T], and the gradients of `looked_up`.
        """
        # Variables as arguments, not captured: other programs' variables reuse what XLA has compiled.
        return self._compiled(state.weights, state.slots, state.corrections, looked_up, rows, now)

    def _run(self, variable, slots, corrections, looked_up, rows, now):
        packed = tf.convert_to_tensor(variable)
        weights = [packed, *looked_up]
        losses, gradients = self._gradients(weights, rows, now)
        if self._optimizer.sharpness:
            uphill = _of_length(gradients, self._optimizer.sharpness)
            moved = [value + step for value, step in zip(weights, uphill, strict=True)]
            _, gradients = self._gradients(moved, rows, now)
        gradient, *of_embeddings = gradients
        state = [tf.convert_to_tensor(slot) for slot in slots]
        change, state = optimizers.update(self._optimizer, gradient, state, now["rate"], now["step"])
        if self._optimizer.weight_decay:
            change -= now["rate"] * self._optimizer.weight_decay * self._packing.kernels() * packed
        for slot, value in zip(slots, state, strict=True):
            slot.assign(value)
        variable.assign_add(change)
        for i, total in enumerate(corrections):
            total.assign_add(now["correction"][i] * change)
        return losses, of_embeddings

    def _gradients(
        self, weights: list[tf.Tensor], rows: Mapping[str, tf.Tensor], now: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The loss a tower, and the gradients of the packed weights and of the looked-up embeddings."""
        packed, *looked_up = weights
        with tf.GradientTape() as tape:
            tape.watch(weights)
            by_name = self._unpack(packed)
            vectors = self._by_feature(looked_up) | self._from_whole(by_name, rows["ids"])
            pooled = self._forward.pool(vectors, rows["ids"])
            logits = self._forward(by_name, pooled, rows["dense"], now["noise"])
            losses = self._objective(logits, {**rows, "done": now["done"]})
            total = tf.reduce_sum(losses + self._penalty(pooled, rows))
        return losses, tape.gradient(total, weights)

    def _unpack(self, packed: tf.Tensor) -> dict[str, tf.Tensor]:
        parts = tf.split(packed, self._packing.sizes, axis=1)
        shapes = self._packing.dense.items()
        return {n: tf.reshape(p, [packed.shape[0], *s]) for p, (n, s) in zip(parts, shapes, strict=True)}

    def _by_feature(self, looked_up: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        """[T, batch, ids, dim] a group to [T, batch, width, dim] a feature."""
        vectors: dict[str, tf.Tensor] = {}
        widths = {column.name: column.width for column in self._architecture.inputs.embedded}
        for group, value in zip(self._packing.groups, looked_up, strict=True):
            parts = tf.split(value, [widths[name] for name in group.features], axis=2)
            vectors |= dict(zip(group.features, parts, strict=True))
        return vectors

    def _from_whole(self, weights: Mapping[str, tf.Tensor], ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """The pooled embeddings [T, batch, dim] of the features whose tables are dense weights."""
        vectors, start = {}, 0
        for column in self._architecture.inputs.embedded:
            if column.table in self._packing.whole:
                part = ids[:, :, start : start + column.width]
                # A product, since XLA's gather has a scatter for gradient, which crawls.
                vectors[column.name] = tf.matmul(
                    _mixture(part, column.size), weights[f"embedding/{column.table}"]
                )
            start += column.width
        return vectors

    def _penalty(self, pooled: Sequence[tf.Tensor], rows: Mapping[str, tf.Tensor]) -> tf.Tensor | float:
        strength = self._architecture.model.embedding_l2
        if not strength:
            return 0.0
        squares = [tf.reduce_sum(tf.square(value), axis=2) for value in pooled]
        return strength * tf.reduce_sum(rows["share"] * tf.add_n(squares), axis=1)


def _of_length(gradients: Sequence[tf.Tensor], length: float) -> list[tf.Tensor]:
    """The gradients of each tower, together scaled to a length; each occurrence of an embedding counts by itself."""
    squares = [tf.reduce_sum(tf.square(g), axis=list(range(1, g.shape.rank))) for g in gradients]
    # A gradient of 0 has no direction: no step, and no division by 0.
    scale = length * tf.math.rsqrt(tf.maximum(tf.add_n(squares), 1e-24))
    return [tf.reshape(scale, [-1] + [1] * (g.shape.rank - 1)) * g for g in gradients]


def _mixture(ids: tf.Tensor, size: int) -> tf.Tensor:
    """How much each row of a table counts for each example, float32 [T, batch, size]; see `Forward.pool`."""
    chosen = tf.reduce_sum(tf.one_hot(ids, size), axis=2)
    if ids.shape[2] == 1:
        return chosen
    missing = tf.one_hot(tf.zeros(ids.shape[:2], tf.int32), size)
    chosen *= 1.0 - missing
    count = tf.reduce_sum(chosen, axis=-1, keepdims=True)
    return tf.where(count > 0, chosen / tf.maximum(count, 1.0), missing)
