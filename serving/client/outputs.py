"""Which output of an answer holds the scores: the one chosen, else `score`, else the only one."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

_COLUMN = re.compile(r"(?P<name>.+)\[(?P<column>[0-9]+)\]")


class OutputError(ValueError):
    """The outputs hold no scores, or it is not clear which do. The text names what there is."""


def choose_output(names: Iterable[str], output: str | None) -> tuple[str, int | None]:
    """Returns the output with the scores and the column to take of it; None: it has one number a row.

    Args:
      names: the outputs of the answer.
      output: `NAME`, or `NAME[COLUMN]` for outputs of several numbers a row; None: `score` if there is one, else the only
        output.

    Raises:
      OutputError: there is no such output, or several and none is chosen.

    Example:
      >>> choose_output(["label", "probabilities"], "probabilities[1]")
      ('probabilities', 1)
    """
    available = sorted(names)
    if output is None:
        if "score" in available or len(available) == 1:
            return ("score" if "score" in available else available[0]), None
        raise OutputError(f"outputs: {', '.join(available) or 'none'}; choose one with --output (`output`)")
    if output in available:
        return output, None
    match = _COLUMN.fullmatch(output)
    if match and match["name"] in available:
        return match["name"], int(match["column"])
    raise OutputError(
        f"no output `{output}`; outputs: {', '.join(available) or 'none'}; choose one with --output (`output`)"
    )


def scores_in(name: str, values: np.ndarray, column: int | None = None) -> np.ndarray:
    """Returns the scores in an output, float [rows].

    Args:
      name: the output, for errors.
      values: [rows], [rows, 1], or with a column [rows, columns].
      column: which of several columns.

    Raises:
      OutputError: the values are no numbers, or of another shape.
    """
    if values.dtype.kind not in "fiu":
        kind = "text" if values.dtype.kind == "O" else values.dtype
        raise OutputError(f"output `{name}` must hold numbers. Received: {kind}")
    if column is None:
        if values.ndim > 1 and values.shape[-1] > 1 and values.size > len(values):
            raise OutputError(
                f"output `{name}` has {values.shape[-1]} columns; choose one with --output '{name}[1]'"
            )
        return values.ravel()
    if values.ndim != 2 or column >= values.shape[1]:
        raise OutputError(f"output `{name}` must have a column {column}. Received: shape {values.shape}")
    return values[:, column]
