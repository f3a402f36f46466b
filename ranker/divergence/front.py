"""`compare`: one function that takes a batch, a data frame, or arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from ranker.divergence.catalogue import Settings
from ranker.divergence.compare import compare_batch
from ranker.divergence.comparison import Comparison
from ranker.divergence.requests import RequestBatch
from ranker.errors import UserError

if TYPE_CHECKING:
    from ranker.scored.comparison import ModelComparison


@overload
def compare(data: RequestBatch, settings: Settings | None = None, *, chunk: int = 8192) -> Comparison: ...


@overload
def compare(
    data: Any,
    *,
    request: str | Sequence[str],
    item: str,
    scores: Sequence[str],
    label: str | None = None,
    scale: str = "auto",
    k: int = 10,
    budget: Mapping[str, float] | None = None,
    slices: Sequence[str] = (),
) -> ModelComparison: ...


def compare(data: Any, settings: Any = None, **options: Any) -> Any:
    """How far models agree: on a `RequestBatch`, or on a frame with a column of scores a model.

    Args:
        data: a pandas or Polars frame, an Arrow table, or a mapping of column names to arrays (needs pyarrow); or a
            `RequestBatch`.
        settings: with a batch: k and thresholds.
        **options: with a frame: `request`, `item`, `scores`, `label`, `scale`, `k`, `budget`, `slices`, as
            `ranker.scored.frames.compare_frame` explains them; with a batch: `chunk`.

    Returns:
        A `ModelComparison` of a frame, a `Comparison` of a batch.

    Raises:
        UserError: the data are of another kind, lack a column, or hold scores that cannot be compared.

    Example:
        >>> rows = {"q": [1, 1, 2, 2], "item": ["x", "y", "x", "y"], "a": [0.9, 0.1, 0.2, 0.8], "b": [0.8, 0.2, 0.7, 0.3]}
        >>> compare(rows, request="q", item="item", scores=["a", "b"]).measures["top1_swap"].value
        0.5
    """
    if isinstance(data, RequestBatch):
        return compare_batch(data, settings, **options)
    missing = [name for name in ("request", "item", "scores") if name not in options]
    if settings is not None or missing:
        raise UserError(
            "compare needs to know which rows belong together: a frame, or a mapping of arrays, with `request`, `item` and "
            "`scores` naming its columns, for example compare({'q': ..., 'item': ..., 'a': ..., 'b': ...}, request='q', "
            "item='item', scores=['a', 'b']). "
            f"Received: {type(data).__name__} without {', '.join(missing) or 'such a frame'}"
        )
    try:
        from ranker.scored.frames import compare_frame
    except ImportError:
        raise UserError("comparing frames needs: pip install 'steady-ranker[compare]'") from None
    return compare_frame(data, **options)
