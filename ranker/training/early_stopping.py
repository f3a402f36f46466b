"""When a pilot ends: its held-out rows, measured after each epoch with the weights that would be served."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ranker.architecture import Architecture, Weights
from ranker.config import Training
from ranker.divergence.quality import auc
from ranker.training.predict import predict
from ranker.training.rows.examples import Examples
from ranker.training.step.objective import held_out_loss


def half_starts_after(epoch: int) -> int:
    """The epoch after which the last half of `epoch` epochs begins, about; 0 of the first, which has no half.

    >>> [half_starts_after(epoch) for epoch in (1, 2, 3, 4, 7, 8, 12, 100)]
    [0, 1, 1, 2, 3, 4, 6, 48]
    """
    if epoch < 4:
        return min(1, epoch - 1)
    power = 1 << ((epoch // 2).bit_length() - 1)
    return power * 3 // 2 if power * 3 // 2 <= epoch // 2 else power


class LastHalf:
    """The mean of each tower's weights over the last half of its epochs, after any epoch.

    The weights w_t after the last step order held-out rows by what the last few batches held: on 3,000 rows their AUC
    jumps by 0.03 from one epoch to the next. Their mean does not, and replicas serve a mean.

    With updates d_j the sum of w_1 to w_t is t w_t - sum_j (j - 1) d_j. The second part is N times what the average over
    all N steps corrects (see `ranker.training.step.averaging`), so such a sum costs nothing more, and the mean over steps
    a+1 to b is the difference of two sums over b - a. Sums are kept of the epochs 1, 2, 3, 4, 6, 8, 12, 16, ... that are
    still needed, at most four.

    Args:
        steps: N, of a training that averages over all of its steps.
        per_epoch: steps an epoch.
    """

    def __init__(self, steps: int, per_epoch: int):
        self._steps, self._per_epoch = steps, per_epoch
        self._sums: dict[int, list[Weights]] = {}

    def means(self, epoch: int, weights: Sequence[Weights], averages: Sequence[Weights]) -> list[Weights]:
        """The means after an epoch; of the first the weights themselves.

        Args:
            epoch: counted from 1; every epoch is asked for once, in order.
            weights: each tower's after its last step.
            averages: each tower's weights less the correction so far.
        """
        start, step = half_starts_after(epoch), epoch * self._per_epoch
        sums = [
            {name: step * value - self._steps * (value - average[name]) for name, value in of_tower.items()}
            for of_tower, average in zip(weights, averages, strict=True)
        ]
        before = self._sums.get(start)
        if half_starts_after(2 * epoch) == epoch:
            self._sums[epoch] = sums
        oldest = half_starts_after(epoch + 1)
        self._sums = {at: past_sums for at, past_sums in self._sums.items() if at >= oldest}
        if before is None:
            return list(weights)
        count = (epoch - start) * self._per_epoch
        return [
            {name: (value - earlier[name]) / count for name, value in of_tower.items()}
            for of_tower, earlier in zip(sums, before, strict=True)
        ]

    def state(self) -> dict[str, np.ndarray]:
        """What a resumed training needs, by name."""
        return {
            f"sums/{epoch}/{tower}/{name}": value
            for epoch, sums in self._sums.items()
            for tower, weights in enumerate(sums)
            for name, value in weights.items()
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets what `state` returned."""
        self._sums = {}
        for key, value in state.items():
            part, _, rest = key.partition("/")
            if part == "sums":
                epoch, tower, name = rest.split("/", 2)
                towers = self._sums.setdefault(int(epoch), [])
                while len(towers) <= int(tower):
                    towers.append({})
                towers[int(tower)][name] = value


class EarlyStopping:
    """Ends a training when held-out rows have not been ranked better for some epochs.

    Better is a higher AUC; a lower loss where `training.validation_measure` says so, and where there is no AUC: labels that
    are no classes, rows of one class, a loss that compares rows. Of several candidates each ends by itself, and all end when
    the best epoch of any of them lies so far back.

    Args:
        architecture: of the models.
        rows: the held-out rows of each fold.
        held_out: which of all training rows they are, bool [folds, rows].
        training: its loss, measure and epochs at most; it averages over all of them.
        per_epoch: steps an epoch.
        first: the first epoch that may be the best, counted from 1.
        patience: epochs without a new best one.
        candidates: ways of training that are compared; each has a model a fold, the first candidate's models come first.
    """

    def __init__(
        self,
        architecture: Architecture,
        rows: Sequence[Examples],
        held_out: np.ndarray,
        training: Training,
        per_epoch: int,
        first: int = 1,
        patience: int = 3,
        candidates: int = 1,
    ):
        self._first, self._patience, self._candidates = first, patience, candidates
        self.held_out = np.tile(held_out, (candidates, 1))
        self.losses, self.aucs = list[list[float]](), list[list[float]]()
        self.measures_auc = (
            training.validation_measure == "auc"
            and not architecture.inputs.target.is_value
            and not training.compares_rows
            and any(_has_both_classes(fold) for fold in rows)
        )
        self._architecture, self._rows, self._training = architecture, rows, training
        self._last_half = LastHalf(training.max_epochs * per_epoch, per_epoch)

    @property
    def best(self) -> int:
        """The epoch with the highest AUC or the lowest loss of any candidate, counted from 1; of equal ones the first."""
        return self._best()[0]

    @property
    def best_candidate(self) -> int:
        """The candidate with that AUC or loss."""
        return self._best()[1]

    @property
    def best_middle(self) -> float:
        """How many epochs lie before the middle of the weights that were best."""
        return (half_starts_after(self.best) + self.best) / 2 if self.best > 1 else 1.0

    def _best(self) -> tuple[int, int]:
        values = self._values()
        epoch, candidate = divmod(int(np.argmax(values)), self._candidates)
        return len(self.losses) - len(values) + epoch + 1, candidate

    def _values(self) -> np.ndarray:
        """What is to be high, [epochs, candidates], of the epochs that may be the best."""
        values = np.array(self.aucs) if self.measures_auc else -np.array(self.losses)
        return np.nan_to_num(values[min(self._first, len(values)) - 1 :], nan=-np.inf)

    def curves(self, candidate: int) -> tuple[list[float], list[float]]:
        """The loss and the AUC of a candidate after each of its epochs; no AUC where the loss decides."""
        columns = [[row[candidate] for row in rows] for rows in (self.losses, self.aucs)]
        losses, aucs = ([value for value in column if not math.isnan(value)] for column in columns)
        return losses, aucs

    @property
    def active(self) -> np.ndarray:
        """Which models train on, bool [candidates * folds]."""
        return np.repeat(self._active_candidates(), len(self._rows))

    def _active_candidates(self) -> np.ndarray:
        epochs = len(self.losses)
        if epochs < self._first:
            return np.ones(self._candidates, bool)
        values = self._values()
        last_bests = epochs - len(values) + 1 + np.argmax(values, axis=0)
        lately = (epochs - last_bests < self._patience) & (epochs - self.best < self._patience)
        return lately & np.isfinite(self.losses[-1])

    def measure(self, weights: Sequence[Weights], averages: Sequence[Weights]) -> None:
        """Measures the held-out rows of each model that trains on; the arguments are those of `LastHalf.means`."""
        folds = len(self._rows)
        weights = self._last_half.means(len(self.losses) + 1, weights, averages)
        losses, aucs = np.full((2, self._candidates), math.nan)
        for candidate in np.flatnonzero(self._active_candidates()):
            models = weights[candidate * folds : (candidate + 1) * folds]
            measured = [self._measure(rows, model) for rows, model in zip(self._rows, models, strict=True)]
            losses[candidate] = np.mean([loss for loss, _ in measured])
            if self.measures_auc:
                aucs[candidate] = np.mean([value for _, value in measured if value is not None])
        self.losses.append(losses.tolist())
        if self.measures_auc:
            self.aucs.append(aucs.tolist())

    def _measure(self, rows: Examples, weights: Weights) -> tuple[float, float | None]:
        """The loss, and the AUC where there is one."""
        target = self._architecture.inputs.target
        scores = predict(self._architecture, weights, rows)
        request = None if rows.request is None else rows.request.numpy()
        label, weight = rows.label.numpy(), rows.weight.numpy()
        loss = held_out_loss(self._training, target, label, weight, scores, request)
        has_auc = self.measures_auc and _has_both_classes(rows)
        return loss, auc(label, scores, weight=weight) if has_auc else None

    def state(self) -> dict[str, np.ndarray]:
        """What a resumed training needs, by name."""
        curves = {"validation/losses": np.array(self.losses), "validation/aucs": np.array(self.aucs)}
        return curves | self._last_half.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets what `state` returned."""
        self.losses, self.aucs = state["validation/losses"].tolist(), state["validation/aucs"].tolist()
        self._last_half.restore(state)


def _has_both_classes(rows: Examples) -> bool:
    label = rows.label.numpy()
    return len(np.unique(label[rows.weight.numpy() > 0])) == 2 and set(np.unique(label)) <= {0.0, 1.0}
