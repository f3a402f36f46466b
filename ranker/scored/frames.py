"""Data frames and arrays of scored rows: pandas, Polars, Arrow, or a mapping of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ranker.errors import UserError
from ranker.scored.align import ModelScores, align, joined_ids, text_column
from ranker.scored.comparison import ModelComparison, compare_aligned
from ranker.text import texts


def compare_frame(
    frame: Any,
    *,
    request: str | Sequence[str],
    item: str,
    scores: Sequence[str],
    label: str | None = None,
    scale: str = "auto",
    k: int = 10,
    budget: Mapping[str, float] | None = None,
    slices: Sequence[str] = (),
) -> ModelComparison:
    """Compares models by the scores they gave to the same rows.

    Args:
        frame: a pandas or Polars frame, an Arrow table, or a mapping of column names to arrays [R].
        request: the column, or columns, that say which rows are ranked against each other.
        item: the column that identifies a candidate within a request.
        scores: at least two columns of scores, a model each.
        label: the column of labels, 0 or 1; None: quality is not measured.
        scale: what the scores are. `probability`, `logit` (log-odds), `order` (anything that orders: measures that need
            probabilities are left out), or `auto`: probabilities if all are within [0, 1], else order.
        k: how deep the top of a list is.
        budget: measure -> what it may be, for example {"top1_swap": 0.05}.
        slices: columns by whose values the measures are also given apart.

    Returns:
        The result, with `sentence`, `measures`, `to_frame()`, `to_html()`, `plot()`.

    Raises:
        UserError: a column is missing or holds no numbers, fewer than two models, no rows.

    Example:
        >>> rows = {"q": [1, 1, 2, 2], "item": ["x", "y", "x", "y"], "a": [0.9, 0.1, 0.2, 0.8], "b": [0.8, 0.2, 0.7, 0.3]}
        >>> result = compare_frame(rows, request="q", item="item", scores=["a", "b"])
        >>> result.measures["top1_swap"].value
        0.5
    """
    if isinstance(scores, str) or len(scores) < 2:
        raise UserError(f"`scores` must name at least two columns, a model each. Received: {scores!r}")
    if isinstance(frame, np.ndarray) or not hasattr(frame, "__getitem__"):
        raise UserError(
            "compare needs a frame with columns for the request, the item and two scores or more. "
            f"Received: {type(frame).__name__}; put arrays into a mapping of column names to arrays"
        )
    requests = [request] if isinstance(request, str) else list(request)
    ids = joined_ids([_texts(frame, name) for name in requests]), _texts(frame, item)
    labels = None if label is None else _numbers(frame, label)
    if isinstance(slices, str):
        raise UserError(f"`slices` must be a list of columns. Received: {slices!r}")
    further = {name: _arrow(frame, name) for name in slices}
    models = [ModelScores(name, *ids, _numbers(frame, name), labels, further) for name in scores]
    lengths = {len(ids[0]), len(ids[1]), *(len(model.score) for model in models), *map(len, further.values())}
    if len(lengths) > 1:
        raise UserError(f"columns must have one length. Received: {', '.join(map(str, sorted(lengths)))}")
    return compare_aligned(align(models), scale=scale, k=k, budget=budget, slices=slices)


def _column(frame: Any, name: str) -> Any:
    columns = list(frame.keys()) if isinstance(frame, Mapping) else [str(column) for column in _names(frame)]
    if name not in columns:
        raise UserError(f"the frame must have the column {name}. Received: {', '.join(map(str, columns))}")
    return frame[name]


def _names(frame: Any) -> Sequence[Any]:
    return frame.column_names if hasattr(frame, "column_names") else list(frame.columns)


def _arrow(frame: Any, name: str) -> pa.ChunkedArray:
    """A column as Arrow: numbers as they are, of other values their texts."""
    column = _column(frame, name)
    if hasattr(column, "to_arrow"):  # Polars
        column = column.to_arrow()
    if isinstance(column, pa.Array):
        column = pa.chunked_array([column])
    if isinstance(column, pa.ChunkedArray):
        return column
    values = np.asarray(column)
    if values.dtype.kind in "iuf":
        return pa.chunked_array([pa.array(values)])
    return pa.chunked_array([pa.array(texts(column, name=name), pa.string())])


def _texts(frame: Any, name: str) -> pa.ChunkedArray:
    return text_column(_arrow(frame, name))


def _numbers(frame: Any, name: str) -> np.ndarray:
    column = _column(frame, name)
    values = column.to_numpy() if hasattr(column, "to_numpy") else np.asarray(column)
    try:
        return np.asarray(values, np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise UserError(f"column {name} must hold numbers: {error}") from None
