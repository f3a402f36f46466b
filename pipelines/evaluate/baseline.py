"""Logistic regression on the same inputs: an AUC below it means that something is broken.

One coefficient an id of each categorical, multi-valued or bucketed feature, one a dense column, and an
intercept; squared penalty with strength 1 on everything but the intercept, fitted to its optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

MAX_ROWS = 500_000
"""Fitted on at most this many training rows."""
COLUMN = "baseline/logistic_regression"
"""The column of its predictions."""


@dataclass(frozen=True)
class LogisticRegression:
    """A fitted model.

    Attributes:
        offsets: where each id column's coefficients begin, int64 [id_width].
        coefficients: of all ids; those of id 0, which is missing, are 0; float64 [ids].
        dense: of the dense columns, float64 [dense_width].
        intercept: float.
        rows: how many rows it was fitted on.
    """

    offsets: np.ndarray
    coefficients: np.ndarray
    dense: np.ndarray
    intercept: float
    rows: int

    def predict(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        """Probabilities, float32 [R], of encoded rows: ids [R, id_width], dense [R, dense_width]."""
        linear = self.coefficients[ids + self.offsets].sum(axis=1) + dense @ self.dense + self.intercept
        return _sigmoid(linear).astype(np.float32)


def take_rows(
    shards: Sequence[Iterable[dict[str, np.ndarray]]], rows: int = MAX_ROWS
) -> dict[str, np.ndarray]:
    """The first encoded rows of every shard, `rows` in all at most; shards are in random order, so a fair sample."""
    chunks: list[dict[str, np.ndarray]] = []
    for blocks in shards:
        remaining = -(-rows // len(shards))
        for block in blocks:
            chunks.append({key: values[:remaining] for key, values in block.items()})
            remaining -= len(chunks[-1]["label"])
            if remaining <= 0:
                break
    return {key: np.concatenate([chunk[key] for chunk in chunks]) for key in (chunks[0] if chunks else ())}


def fit(sizes: Sequence[int], ids: np.ndarray, dense: np.ndarray, label: np.ndarray, weight: np.ndarray):
    """Fits the model.

    Args:
        sizes: how many ids each id column has [id_width]; columns of one multi-valued feature share theirs,
            given as a size and then zeros.
        ids: encoded ids [R, id_width], 0 where missing.
        dense: encoded numbers [R, dense_width].
        label: in [0, 1] [R].
        weight: >= 0 [R].

    Returns:
        The model, or None where only one class is there.
    """
    if not 0 < label.sum() < len(label):
        return None
    ends = np.cumsum(sizes)
    offsets = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    for column, size in enumerate(sizes):
        if size == 0:
            offsets[column] = offsets[column - 1]
    total = int(ends[-1]) if len(ends) else 0
    row, at = np.nonzero(ids)  # most columns of a multi-valued feature are padding
    place = ids[row, at] + offsets[at]
    # Numbers of any unit: without a common scale the penalty would mean something else for each.
    scale = np.where(dense.std(axis=0) > 0, dense.std(axis=0), 1.0)
    numbers = dense / scale

    # Coefficients of frequent ids see far more curvature than those of rare ones: in these units all see about 1.
    seen = np.bincount(place, weights=weight[row], minlength=total)
    unit = 1 / np.sqrt(1 + np.concatenate([seen, weight @ numbers**2, [weight.sum()]]) / 4)
    penalised = np.append(unit[:-1], 0.0)

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        theta = point * unit
        by_row = np.bincount(row, weights=theta[place], minlength=len(label))
        linear = by_row + numbers @ theta[total:-1] + theta[-1]
        probability = _sigmoid(linear)
        loss = np.maximum(linear, 0) - label * linear - np.log(_sigmoid(np.abs(linear)))
        shrunk = point * penalised
        residual = weight * (probability - label)
        by_id = np.bincount(place, weights=residual[row], minlength=total)
        gradient = np.concatenate([by_id, residual @ numbers, [residual.sum()]])
        return float(weight @ loss + shrunk @ shrunk / 2), gradient * unit + shrunk * penalised

    theta = _minimum(objective, len(unit)) * unit
    return LogisticRegression(offsets, theta[:total], theta[total:-1] / scale, float(theta[-1]), len(label))


def _minimum(objective: Callable[[np.ndarray], tuple[float, np.ndarray]], dimensions: int) -> np.ndarray:
    from scipy.optimize import minimize  # only here: every worker process imports this module

    start = np.zeros(dimensions)
    steepest = float(np.abs(objective(start)[1]).max())
    # At the optimum where no slope is above this share of the steepest one at the start.
    options = {"gtol": 1e-5 * steepest, "ftol": 1e-13, "maxiter": 500}
    return minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))
