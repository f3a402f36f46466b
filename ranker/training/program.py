"""The training step: one compiled program that advances a stack of towers.

Two kinds of work, each where it is fast. The dense arithmetic (towers, loss, gradients, the optimizer on one packed
vector) is compiled by XLA, where smooth activations cost nothing extra. Embedding rows are gathered, summed over
repetitions and scattered by TensorFlow's own kernels, which touch only the rows in the batch: a step's time does not
grow with the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ranker.architecture import Architecture, Weights
from ranker.backend import tf
from ranker.config import Optimizer, Training
from ranker.training import optimizers
from ranker.training.examples import Examples
from ranker.training.forward import Forward
from ranker.training.packing import Group, Packing

Objective = Callable[[tf.Tensor, Mapping[str, tf.Tensor]], tf.Tensor]
"""(logits [T, batch], rows) -> loss a tower [T]; rows has `label`, `weight` and `share` [T, batch]."""


def cross_entropy(logits: tf.Tensor, rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The mean over a batch of weight times binary cross-entropy, float32 [T]."""
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=rows["label"], logits=logits)
    return tf.reduce_sum(rows["share"] * rows["weight"] * entropy, axis=1)


class Program(tf.Module):
    """Trains T towers of one architecture; tower t may share its embedding tables with others.

    Args:
        architecture: the model of every tower.
        training: optimizer and batch size.
        weights: initial weights, one a tower. Towers that share tables take them from the first of them.
        tables: for each tower the index of its tables, counting from 0 without gaps; default: its own.
        objective: the loss.
        averaging: whether a correction for averaged weights is kept.
    """

    def __init__(
        self,
        architecture: Architecture,
        training: Training,
        weights: Sequence[Weights],
        tables: Sequence[int] | None = None,
        objective: Objective = cross_entropy,
        averaging: bool = True,
    ):
        super().__init__(name="program")
        self._packing = Packing(architecture)
        self._forward = Forward(architecture)
        self._architecture, self._optimizer, self._objective = architecture, training.optimizer, objective
        self._averaging = averaging
        self._tables_of = list(range(len(weights))) if tables is None else list(tables)
        owners = [self._tables_of.index(i) for i in range(max(self._tables_of) + 1)]
        dense = np.stack([self._packing.pack_dense(w) for w in weights])
        self._dense = _State(dense, self._optimizer, averaging)
        self._embeddings = [
            _State(
                np.concatenate([self._packing.pack_table(weights[t], group) for t in owners]),
                self._optimizer,
                averaging,
            )
            for group in self._packing.groups
        ]
        self._gather_ids = [self._locator(group) for group in self._packing.groups]
        self.run = tf.function(self._run)

    @property
    def towers(self) -> int:
        """How many towers advance together."""
        return len(self._tables_of)

    def weights(self, averaged: bool = True) -> list[Weights]:
        """Every tower's weights, averaged over the training as asked for, or as the last step left them."""
        dense = self._dense.value(averaged)
        tables = [state.value(averaged) for state in self._embeddings]
        result = []
        for tower, owner in enumerate(self._tables_of):
            own = [
                table[owner * group.rows : (owner + 1) * group.rows]
                for table, group in zip(tables, self._packing.groups, strict=True)
            ]
            result.append(self._packing.unpack(dense[tower], own))
        return result

    def state(self) -> dict[str, np.ndarray]:
        """Everything a resumed training needs beside the step's number, by name."""
        return {f"{i}/{j}": v.numpy() for i, s in enumerate(self._states()) for j, v in enumerate(s.all())}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets what `state` returned.

        Raises:
            KeyError: a part is missing.
            ValueError: a part has another shape.
        """
        for i, own in enumerate(self._states()):
            for j, variable in enumerate(own.all()):
                variable.assign(state[f"{i}/{j}"])

    def _states(self) -> list[_State]:
        return [self._dense, *self._embeddings]

    def _locator(self, group: Group) -> Callable[[tf.Tensor], tf.Tensor]:
        offsets = np.array(self._tables_of)[:, None, None] * group.rows + group.offsets
        return lambda ids: tf.gather(ids, group.columns, axis=2) + tf.constant(offsets, tf.int32)

    def _run(self, data: Examples, order: tf.Tensor, correction: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        """Advances by as many steps as `order` holds.

        Args:
            data: the rows, as tensors.
            order: int32 [steps, T, batch], positions of rows in `data`; -1 is no row.
            correction: float32 [steps], how much each update counts in the average's correction.
            first: float32 scalar, the number of the first step, from 1.

        Returns:
            float32 [steps, T], each step's loss.
        """
        steps = tf.shape(order)[0]
        losses = tf.TensorArray(tf.float32, steps, element_shape=[self.towers])
        for i in tf.range(steps):
            losses = losses.write(
                i, self._step(data, order[i], correction[i], first + tf.cast(i, tf.float32))
            )
        return losses.stack()

    def _step(
        self, data: Examples, positions: tf.Tensor, correction: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        rows = data.take(positions)
        located = [locate(rows["ids"]) for locate in self._gather_ids]
        looked_up = [
            tf.gather(s.weights, places) for s, places in zip(self._embeddings, located, strict=True)
        ]
        losses, gradients = self._dense_step(looked_up, rows, correction, step)
        for state, places, gradient in zip(self._embeddings, located, gradients, strict=True):
            state.update_rows(tf.reshape(places, [-1]), gradient, correction, step)
        return losses

    @tf.function(jit_compile=True)
    def _dense_step(
        self,
        looked_up: list[tf.Tensor],
        rows: Mapping[str, tf.Tensor],
        correction: tf.Tensor,
        step: tf.Tensor,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        packed = tf.convert_to_tensor(self._dense.weights)
        with tf.GradientTape() as tape:
            tape.watch([packed, *looked_up])
            logits = self._forward(
                self._unpack(packed), self._by_feature(looked_up), rows["ids"], rows["dense"]
            )
            losses = self._objective(logits, rows)
            total = tf.reduce_sum(losses + self._penalty(looked_up, rows))
        gradient, *of_embeddings = tape.gradient(total, [packed, *looked_up])
        self._dense.update_all(gradient, correction, step)
        return losses, of_embeddings

    def _unpack(self, packed: tf.Tensor) -> dict[str, tf.Tensor]:
        parts = tf.split(packed, self._packing.sizes, axis=1)
        shapes = self._packing.dense.items()
        return {n: tf.reshape(p, [self.towers, *s]) for p, (n, s) in zip(parts, shapes, strict=True)}

    def _by_feature(self, looked_up: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        """[T, batch, ids, dim] a group to [T, batch, width, dim] a feature."""
        vectors: dict[str, tf.Tensor] = {}
        widths = {column.name: column.width for column in self._architecture.inputs.embedded}
        for group, value in zip(self._packing.groups, looked_up, strict=True):
            parts = tf.split(value, [widths[name] for name in group.names], axis=2)
            vectors |= dict(zip(group.names, parts, strict=True))
        return vectors

    def _penalty(self, looked_up: list[tf.Tensor], rows: Mapping[str, tf.Tensor]) -> tf.Tensor | float:
        strength = self._architecture.model.embedding_l2
        if not strength:
            return 0.0
        squares = [tf.reduce_sum(tf.square(value), axis=[2, 3]) for value in looked_up]
        return strength * tf.reduce_sum(rows["share"] * tf.add_n(squares), axis=1)


class _State(tf.Module):
    """One packed tensor with its optimizer slots and the average's correction."""

    def __init__(self, weights: np.ndarray, optimizer: Optimizer, averaging: bool):
        super().__init__()
        self._optimizer = optimizer
        self.weights = tf.Variable(weights)
        self.slots = [tf.Variable(np.full_like(weights, value)) for value in optimizers.slots(optimizer)]
        self.correction = tf.Variable(np.zeros_like(weights)) if averaging else None

    def all(self) -> list[tf.Variable]:
        extra = [self.correction] if self.correction is not None else []
        return [self.weights, *self.slots, *extra]

    def value(self, averaged: bool) -> np.ndarray:
        if averaged and self.correction is not None:
            return (self.weights - self.correction).numpy()
        return self.weights.numpy()

    def update_all(self, gradient: tf.Tensor, correction: tf.Tensor, step: tf.Tensor) -> None:
        slots = [tf.convert_to_tensor(slot) for slot in self.slots]
        change, slots = optimizers.update(self._optimizer, gradient, slots, step)
        for slot, value in zip(self.slots, slots, strict=True):
            slot.assign(value)
        self.weights.assign_add(change)
        if self.correction is not None:
            self.correction.assign_add(correction * change)

    def update_rows(
        self, places: tf.Tensor, gradient: tf.Tensor, correction: tf.Tensor, step: tf.Tensor
    ) -> None:
        """Updates the rows at `places`, whose gradients (last axis: the row) are summed over repetitions."""
        rows, which = tf.unique(places)
        gradient = tf.reshape(gradient, [tf.size(places), self.weights.shape[1]])
        gradient = tf.math.unsorted_segment_sum(gradient, which, tf.size(rows))
        slots = [tf.gather(slot, rows) for slot in self.slots]
        change, slots = optimizers.update(self._optimizer, gradient, slots, step)
        for slot, value in zip(self.slots, slots, strict=True):
            slot.scatter_update(tf.IndexedSlices(value, rows))
        self.weights.scatter_add(tf.IndexedSlices(change, rows))
        if self.correction is not None and correction != 0.0:
            self.correction.scatter_add(tf.IndexedSlices(correction * change, rows))
