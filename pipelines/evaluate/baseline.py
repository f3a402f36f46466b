"""Logistic regression on the same inputs: an AUC below it means that something is broken.

One coefficient an id of each categorical, multi-valued or bucketed feature, one a dense column, and an
intercept; squared penalty with strength 1 on everything but the intercept, fitted to its optimum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.evaluate.lbfgs import minimise

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
        left = -(-rows // len(shards))
        for block in blocks:
            chunks.append({key: values[:left] for key, values in block.items()})
            left -= len(chunks[-1]["label"])
            if left <= 0:
                break
    return {key: np.concatenate([chunk[key] for chunk in chunks]) for key in (chunks[0] if chunks else ())}


def fit(sizes: Sequence[int], ids: np.ndarray, dense: np.ndarray, label: np.ndarray, weight: np.ndarray):
    """Fits the model.

    Args:
        sizes: how many ids each id column has [id_width]; columns of one multi-valued feature share theirs,
            given as a size and then zeros.
        ids: encoded ids [R, id_width], 0 where missing.
        dense: encoded numbers [R, dense_width].
        label: 0 or 1 [R].
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
    flat = ids + offsets
    seen = (ids > 0).astype(np.float64)
    # Numbers of any unit: without a common scale the penalty would mean something else for each.
    scale = np.where(dense.std(axis=0) > 0, dense.std(axis=0), 1.0)
    numbers = dense / scale
    ids_per_row = flat.shape[1]

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        linear = (theta[:total][flat] * seen).sum(axis=1) + numbers @ theta[total:-1] + theta[-1]
        loss = weight @ (np.logaddexp(0.0, linear) - label * linear) + theta[:-1] @ theta[:-1] / 2
        residual = weight * (_sigmoid(linear) - label)
        spread = (np.repeat(residual, ids_per_row) * seen.ravel()) if ids_per_row else np.zeros(0)
        by_id = np.bincount(flat.ravel(), weights=spread, minlength=total)
        gradient = np.concatenate([by_id, residual @ numbers, [residual.sum()]])
        gradient[:-1] += theta[:-1]
        return float(loss), gradient

    theta = minimise(objective, np.zeros(total + dense.shape[1] + 1))
    return LogisticRegression(offsets, theta[:total], theta[total:-1] / scale, float(theta[-1]), len(label))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))
