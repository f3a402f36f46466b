"""Several training programs as one: the same rows, the same compiled graph, side by side on several threads.

A `Program` advances its towers as one batched computation; a `Stack` advances programs. Replicas that do not depend on
each other have a program each. Each then runs the same arithmetic as if it were trained alone, and ends with the same
bytes. This matters because training amplifies a difference in the last bit until it is visible. No step waits for
another replica's step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ranker.architecture import Weights
from ranker.backend import tf
from ranker.training.rows.examples import Examples
from ranker.training.step.program import Program
from ranker.training.step.schedule import Schedule


class Stack(tf.Module):
    """Programs that train on the same rows.

    Args:
        programs: one or more, which share no variables.
        lanes: how many run at a time, >= 1. TensorFlow must have as many inter-op threads for a gain.
    """

    def __init__(self, programs: Sequence[Program], lanes: int = 1):
        super().__init__(name="stack")
        self._programs, self._lanes = list(programs), lanes
        self._compiled: Callable[..., tf.Tensor] | None = None

    @property
    def programs(self) -> list[Program]:
        """The programs, in order."""
        return list(self._programs)

    @property
    def sizes(self) -> list[int]:
        """Towers of each program."""
        return [program.towers for program in self._programs]

    @property
    def towers(self) -> int:
        """Towers of all programs."""
        return sum(self.sizes)

    def weights(self, average: int | None = 0) -> list[Weights]:
        """Every tower's weights, as `Program.weights`."""
        return [weights for program in self._programs for weights in program.weights(average)]

    def state(self) -> dict[str, np.ndarray]:
        """Everything a resumed training needs, as `Program.state`."""
        return {
            f"{i}/{name}": value
            for i, program in enumerate(self._programs)
            for name, value in program.state().items()
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets what `state` returned; raises as `Program.restore`."""
        for i, program in enumerate(self._programs):
            prefix = f"{i}/"
            program.restore({n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)})

    def run(
        self,
        data: Examples,
        order: tf.Tensor,
        schedules: Sequence[Schedule],
        active: np.ndarray | None = None,
    ) -> tf.Tensor:
        """As `Program.run`, with the towers of all programs along the order's second axis.

        Traced once, for any number of rows and steps.

        Args:
            data: the rows.
            order: int32 [steps, towers, batch]; of one batch size in all calls.
            schedules: one a program.
            active: bool [towers]; a program none of whose towers is active does not advance, and its losses are 0.
                Default: all are.
        """
        towers = np.ones(self.towers, bool) if active is None else active
        flags = np.logical_or.reduceat(towers, np.cumsum([0, *self.sizes[:-1]]))
        arguments = data, order, list(schedules), tf.constant(flags)
        if self._compiled is None:
            signature = tf.nest.map_structure(_of_any_length, arguments, expand_composites=False)
            self._compiled = tf.function(self._run, input_signature=signature, autograph=False)
        return self._compiled(*arguments)

    def _run(
        self, data: Examples, order: tf.Tensor, schedules: Sequence[Schedule], active: tf.Tensor
    ) -> tf.Tensor:
        parts = tf.split(order, self.sizes, axis=1)
        losses: list[tf.Tensor] = []
        flags = tf.unstack(active, len(self._programs))
        for program, part, schedule, flag in zip(self._programs, parts, schedules, flags, strict=True):
            # One after the other in a lane: a program keeps the cache to itself for the whole call.
            before = (
                losses[-self._lanes : len(losses) - self._lanes + 1] if len(losses) >= self._lanes else []
            )
            with tf.control_dependencies(before):
                losses.append(program.run(data, part, schedule, flag))
        return tf.concat(losses, axis=1)


def _of_any_length(value: tf.Tensor | Examples) -> tf.TypeSpec:
    """The type of a tensor, or of rows, whose first axis may have any length."""
    if isinstance(value, Examples):
        columns = {"ids": value.ids, "dense": value.dense, "label": value.label, "weight": value.weight}
        specs = {name: _of_any_length(column) for name, column in columns.items()}
        return Examples.Spec(
            **specs, request=None if value.request is None else _of_any_length(value.request)
        )
    return tf.TensorSpec([None, *value.shape[1:]], value.dtype)
