"""Weights to begin with from an earlier replica, so that a refresh goes on where the last one ended.

Ids are joined by their text, not by their place: a refresh on newer rows has another vocabulary. An id that the earlier
replica knows keeps its embedding, a new one begins as any other. Optimizer slots begin anew.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ranker import layout
from ranker.architecture import Architecture, Weights
from ranker.backend import tf
from ranker.errors import UserError
from ranker.inputs import Column

REPLICA = "{replica}"
"""In the path of `training.warm_start`, the replica's own number."""


def earlier_version(run: Path, start: str, replica: int) -> Path:
    """The SavedModel that a replica starts from: a version's directory, or the newest of a model base path.

    Args:
        run: the run directory, to which a relative path is relative.
        start: `training.warm_start`.
        replica: the number of the replica that starts.

    Raises:
        UserError: there is none.
    """
    return layout.exported_version(run / start.replace(REPLICA, str(replica)), "training.warm_start")


def warm_weights(version: Path, architecture: Architecture, initial: Weights) -> Weights:
    """The weights of an earlier replica in the shape of a new one.

    Args:
        version: the earlier replica's SavedModel.
        architecture: of the new replica.
        initial: its weights without a warm start; embeddings of ids that the earlier replica does not know are taken from
            here.

    Raises:
        UserError: the SavedModel is not one of a replica, or its model has another shape.
    """
    try:
        reader = tf.train.load_checkpoint(str(version / "variables" / "variables"))
    except (tf.errors.OpError, ValueError):
        raise UserError(f"training.warm_start: must be an exported replica. Received: {version}") from None
    columns = {f"embedding/{column.table}": column for column in architecture.inputs.embedded}
    weights = {}
    for name, value in initial.items():
        key = f"weights/{name.replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"
        if not reader.has_tensor(key):
            raise UserError(
                f"training.warm_start: must have this experiment's features and model. Received: {version}, which has no"
                f" weight {name}"
            )
        earlier = reader.get_tensor(key)
        column = columns.get(name)
        if column is not None and column.vocabulary is not None and earlier.shape[1] == value.shape[1]:
            earlier = _joined(version, column, earlier, value)
        if earlier.shape != value.shape:
            raise UserError(
                f"training.warm_start: must have this experiment's features and model. Received: {version}, whose {name}"
                f" has the shape {list(earlier.shape)} instead of {list(value.shape)}"
            )
        weights[name] = earlier
    return weights


def _joined(version: Path, column: Column, earlier: np.ndarray, initial: np.ndarray) -> np.ndarray:
    """The embeddings of this vocabulary: row 0 is missing, then the ids in order, then those that unknown ids share."""
    assert column.vocabulary is not None
    earlier_tokens = _lines(version / "assets" / column.vocabulary.name)
    place_of = {token: 1 + i for i, token in enumerate(earlier_tokens)}
    result = initial.copy()
    result[0] = earlier[0]
    for row, token in enumerate(_lines(column.vocabulary), 1):
        if token in place_of:
            result[row] = earlier[place_of[token]]
    if len(earlier) - len(earlier_tokens) - 1 == column.unknown:
        result[len(result) - column.unknown :] = earlier[1 + len(earlier_tokens) :]
    return result


def _lines(path: Path) -> list[bytes]:
    # An empty vocabulary is no asset: its column is hashed.
    return path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
