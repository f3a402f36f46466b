"""The training step: one compiled program that advances a stack of towers.

Two kinds of work, each where it is fast. The dense arithmetic is compiled by XLA, where smooth activations cost
nothing extra. Embedding rows are gathered, summed over repetitions and scattered by TensorFlow's own kernels, which
touch only the rows in the batch: a step's time does not grow with the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ranker.architecture import Architecture, Weights
from ranker.backend import tf
from ranker.config import Training
from ranker.training.rows.examples import Examples
from ranker.training.rows.packing import Group, Packing
from ranker.training.step import optimizers
from ranker.training.step.dense_step import DenseState, DenseStep
from ranker.training.step.forward import Forward
from ranker.training.step.objective import Objective, objective_of
from ranker.training.step.schedule import Schedule
from ranker.training.step.tables import EmbeddingTable

_WHOLE = 128
"""Embedding tables of at most so many rows are updated whole, inside the compiled step."""


class Program(tf.Module):
    """Trains T towers of one architecture; tower t may share its embedding tables with others.

    Args:
        architecture: the model of every tower.
        training: optimizer and batch size.
        weights: initial weights, one a tower. Towers that share tables take them from the first of them.
        tables: for each tower the index of its tables, counting from 0 without gaps; default: its own.
        objective: the loss; default: the training's.
        averages: of how many averages a correction is kept; the schedule has a column for each.
        together: every tower sees the batches of all, [T, T * batch] rows, tower t's own at t * batch.
        noise: each tower's seed of the dropout; default: 0.
        like: a program of equal architecture, objective, towers and averages, whose training differs at most in
            its learning rate: its compiled step is used again.
        forward: computes the logits.
    """

    def __init__(
        self,
        architecture: Architecture,
        training: Training,
        weights: Sequence[Weights],
        tables: Sequence[int] | None = None,
        objective: Objective | None = None,
        averages: int = 1,
        together: bool = False,
        noise: Sequence[int] | None = None,
        like: Program | None = None,
        forward: type[Forward] = Forward,
    ):
        super().__init__(name="program")
        optimizer, self._together = training.optimizer, together
        self._tables_of = list(range(len(weights))) if tables is None else list(tables)
        owners = [self._tables_of.index(i) for i in range(max(self._tables_of) + 1)]
        # Rows not in the batch have no gradient.
        whole = len(owners) == len(weights) and optimizers.leaves_rows_without_gradient(optimizer)
        self._packing = Packing(architecture, _WHOLE if whole else 0)
        self._noise = np.array([0] * len(weights) if noise is None else noise, np.int32)
        objective = objective or objective_of(training, architecture.inputs.target)
        self._step: DenseStep = (
            DenseStep(architecture, optimizer, self._packing, objective, forward)
            if like is None
            else like._step
        )
        dense = np.stack([self._packing.pack_dense(w) for w in weights])
        self._dense = DenseState(dense, optimizer, averages)
        self._tables = []
        for group in self._packing.groups:
            rows = np.concatenate([self._packing.pack_table(weights[t], group) for t in owners])
            self._tables.append(EmbeddingTable(rows, optimizer, averages))
        self._locators = [self._locator(group) for group in self._packing.groups]
        # Without AutoGraph, which takes as long to rewrite the source as all the rest of tracing.
        self.run = tf.function(self._run, autograph=False)

    @property
    def towers(self) -> int:
        """How many towers advance together."""
        return len(self._tables_of)

    @property
    def averages(self) -> int:
        """How many averages of the weights are kept."""
        return len(self._dense.corrections)

    def weights(self, average: int | None = 0) -> list[Weights]:
        """Every tower's weights: which of its averages over the training, or None for what the last step left.

        Without averages both are the same.
        """
        dense = self._dense.value(average)
        tables = [table.value(average) for table in self._tables]
        result = []
        for tower, owner in enumerate(self._tables_of):
            tower_tables = [
                table[owner * group.rows : (owner + 1) * group.rows]
                for table, group in zip(tables, self._packing.groups, strict=True)
            ]
            result.append(self._packing.unpack(dense[tower], tower_tables))
        return result

    def state(self) -> dict[str, np.ndarray]:
        """Everything a resumed training needs beside the step's number, by name."""
        return {str(i): variable.numpy() for i, variable in enumerate(self.variables)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets what `state` returned.

        Raises:
            KeyError: a part is missing.
            ValueError: a part has another shape.
        """
        for i, variable in enumerate(self.variables):
            variable.assign(state[str(i)])

    def _locator(self, group: Group) -> Callable[[tf.Tensor], tf.Tensor]:
        offsets = np.array(self._tables_of)[:, None, None] * group.rows + group.offsets
        return lambda ids: tf.gather(ids, group.columns, axis=2) + tf.constant(offsets, tf.int32)

    def _run(
        self, data: Examples, order: tf.Tensor, schedule: Schedule, active: tf.Tensor | bool = True
    ) -> tf.Tensor:
        """Advances by as many steps as `order` holds.

        Args:
            data: the rows, as tensors.
            order: int32 [steps, T, batch], positions of rows in `data`; -1 is no row.
            schedule: of these steps.
            active: bool []; if false nothing advances.

        Returns:
            float32 [steps, T], each step's loss; 0 if nothing advances.
        """
        if self._together:
            order = tf.repeat(tf.reshape(order, [-1, 1, self.towers * order.shape[2]]), self.towers, axis=1)
        steps = tf.shape(order)[0]

        def advance(i: tf.Tensor, losses: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            now = {name: values[i] for name, values in schedule._asdict().items()}
            return i + 1, losses.write(i, self._advance(data, order[i], now))

        start = tf.constant(0), tf.TensorArray(tf.float32, steps, element_shape=[self.towers])
        last = tf.where(active, steps, 0)
        return tf.while_loop(lambda i, losses: i < last, advance, start)[1].stack()

    def _advance(self, data: Examples, positions: tf.Tensor, now: Mapping[str, tf.Tensor]) -> tf.Tensor:
        rows = data.take(positions)
        touched = [
            table.read(locate(rows["ids"]))
            for table, locate in zip(self._tables, self._locators, strict=True)
        ]
        step = tf.fill([self.towers], tf.cast(now["step"], tf.int32))
        noise = tf.stack([tf.constant(self._noise), step], axis=1)
        losses, gradients = self._step(
            self._dense, [t.vectors for t in touched], rows, {**now, "noise": noise}
        )
        for table, part, gradient in zip(self._tables, touched, gradients, strict=True):
            table.update(part, gradient, now)
        return losses
