"""Numbers that are not finite stop a replica: nothing of it is published."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranker.architecture import Weights
from ranker.config import Training
from ranker.errors import UserError


class NotFiniteError(UserError):
    """A replica whose loss, weights or predictions are not finite.

    Args:
        name: the replica.
        failure: what is not finite and when, a clause.
        learning_rate: it trained with.
    """

    def __init__(self, name: str, failure: str, learning_rate: float):
        super().__init__(
            f"{name}: {failure}; lower training.optimizer.learning_rate. Received: {learning_rate:g}"
        )


class Health:
    """Which towers of a training have left the finite numbers.

    Args:
        names: of the towers.
        trainings: of each tower.
        partial: whether a failure is only noted; otherwise it is raised.
    """

    def __init__(self, names: Sequence[str], trainings: Sequence[Training], partial: bool):
        self._names, self._trainings, self._partial = names, trainings, partial
        self.failures = [""] * len(names)

    @property
    def all_failed(self) -> bool:
        """Whether there is nothing left to train."""
        return all(self.failures)

    def check_losses(self, losses: np.ndarray, step: int, steps: int) -> None:
        """Checks losses [n, towers] of the steps after `step`, of `steps` in all.

        Raises:
            NotFiniteError: one is not finite, unless `partial`.
        """
        finite = np.isfinite(losses)
        for tower in np.flatnonzero(~finite.all(axis=0)):
            at = step + 1 + int(np.argmin(finite[:, tower]))
            self._fail(tower, f"the loss at step {at} of {steps} is not finite")

    def check_weights(self, tower: int, weights: Weights, steps: int) -> None:
        """Checks a tower's weights after its last step.

        Raises:
            NotFiniteError: one is not finite, unless `partial`.
        """
        for name, value in weights.items():
            if not np.isfinite(value).all():
                self._fail(tower, f"weight {name} after step {steps} is not finite")

    def _fail(self, tower: int, failure: str) -> None:
        if not self._partial:
            rate = self._trainings[tower].optimizer.learning_rate
            raise NotFiniteError(self._names[tower], failure, rate)
        self.failures[tower] = self.failures[tower] or failure
