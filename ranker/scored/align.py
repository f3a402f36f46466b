"""Rows that models scored, joined by request and item. NumPy and Arrow arrays only, no files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ranker.divergence import RequestBatch
from ranker.errors import UserError
from ranker.layout import REQUEST_SEPARATOR
from ranker.text import arrow_texts

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]

CHUNK_ROWS = 1 << 18
"""Rows of a batch of whole requests; a request is never cut."""


@dataclass(frozen=True, eq=False)
class ModelScores:
    """What one model scored, in any order.

    Attributes:
        model: its name.
        request: request id of each row, Arrow text [R].
        item: item id of each row, Arrow text [R].
        score: float64 [R]; NaN where the model gave none.
        label: float64 [R], NaN where unknown; None without labels.
        columns: name -> further columns of each row, Arrow [R], for slices.
    """

    model: str
    request: pa.ChunkedArray
    item: pa.ChunkedArray
    score: Floats
    label: Floats | None = None
    columns: Mapping[str, pa.ChunkedArray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class AlignedColumn:
    """A column of the aligned rows, as positions in a list of its distinct values.

    Attributes:
        values: the distinct values, Arrow [D]: text, integers or floating-point numbers.
        codes: position of each row's value, int64 [R]; -1 where missing. The first model's first row decides.
        contradicted: rows of the models with another value.
    """

    values: pa.Array
    codes: Codes
    contradicted: int


@dataclass(frozen=True, eq=False)
class AlignedScores:
    """Scores of M models of the same R rows, by request and item; rows of a request stand together.

    Attributes:
        models: M names.
        request: position of each row's request in `request_ids`, ascending, int64 [R].
        item: position of each row's item in `item_ids`, int64 [R]; items are in the order of their texts'
            bytes, which breaks ties.
        request_ids, item_ids: texts.
        scores: float64 [M, R]; NaN where a model has no score or one that is not finite.
        scored: bool [M, R], the model has a row.
        label: float64 [R], NaN where unknown; None without labels.
        repeated: rows of each model whose request and item an earlier row of it has, int64 [M].
        contradicted: rows of each model that repeat an earlier one with another score, int64 [M]. The model has no
            score there.
        not_finite: rows of each model whose score is missing or not finite, int64 [M].
        columns: name -> further columns of the rows.
    """

    models: tuple[str, ...]
    request: Codes
    item: Codes
    request_ids: pa.Array
    item_ids: pa.Array
    scores: Floats
    scored: Flags
    label: Floats | None
    repeated: Codes
    contradicted: Codes
    not_finite: Codes
    columns: Mapping[str, AlignedColumn] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.request)

    @property
    def missing(self) -> Codes:
        """Rows that another model scored and this one has not, int64 [M]."""
        return (~self.scored).sum(axis=1)

    def binary_labels(self) -> Floats | None:
        """The labels, float64 [R], NaN where unknown; None without labels.

        Raises:
            UserError: one is neither 0 nor 1.
        """
        if self.label is not None:
            wrong = self.label[~np.isnan(self.label) & ~np.isin(self.label, (0.0, 1.0))]
            if len(wrong):
                raise UserError(f"labels must be 0 or 1. Received: {wrong[0]:g}")
        return self.label

    def request_names(self) -> list[str]:
        """The requests' ids as people read them; those of several columns side by side."""
        return [name.replace(REQUEST_SEPARATOR, " / ") for name in self.request_ids.to_pylist()]

    def request_bounds(self) -> Codes:
        """First row of each request, and the number of rows at the end, int64 [N + 1]."""
        return np.searchsorted(self.request, np.arange(len(self.request_ids) + 1)).astype(np.int64)

    def request_batches(self, scores: Floats) -> Iterator[RequestBatch]:
        """Yields whole requests in batches of about `CHUNK_ROWS` rows, in order; requests and items are positions.

        Args:
            scores: float64 [M, R], what to measure: `scores`, or those brought to another scale.
        """
        bounds = self.request_bounds()
        first = 0
        while first < len(bounds) - 1:
            last = int(np.searchsorted(bounds, bounds[first] + CHUNK_ROWS, side="right")) - 1
            last = min(max(last, first + 1), len(bounds) - 1)
            rows = slice(int(bounds[first]), int(bounds[last]))
            yield RequestBatch.from_rows(
                self.request[rows],
                self.item[rows],
                scores[:, rows],
                replicas=self.models,
                answered=self.scored[:, rows],
            )
            first = last


def text_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The texts of ids of any type, by `ranker.text`; empty where missing."""
    chunks = [arrow_texts(chunk).cast(pa.string()).fill_null("") for chunk in column.chunks]
    return pa.chunked_array(chunks, pa.string())


def joined_ids(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """One id a row of the texts of one or several columns.

    Raises:
        UserError: no column.
    """
    if not columns:
        raise UserError("there must be at least one request column. Received: none")
    return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, REQUEST_SEPARATOR)


def align(models: Sequence[ModelScores]) -> AlignedScores:
    """Joins what models scored by request and item: the rows are the union over the models.

    Args:
        models: at least one, with distinct names.

    Raises:
        UserError: no model, a name twice, or two models give one row different labels.

    Example:
        >>> import pyarrow as pa
        >>> rows = pa.chunked_array([["q", "q"]]), pa.chunked_array([["x", "y"]])
        >>> a = ModelScores("a", *rows, np.array([0.2, 0.4]))
        >>> b = ModelScores("b", *(column.slice(1) for column in rows), np.array([0.3]))
        >>> aligned = align([a, b])
        >>> aligned.scores.tolist(), aligned.missing.tolist()
        ([[0.2, 0.4], [nan, 0.3]], [0, 1])
    """
    names = tuple(model.model for model in models)
    if not names or len(set(names)) != len(names):
        raise UserError(f"models must have distinct names. Received: {', '.join(names) or 'none'}")
    request_codes, request_ids = _codes([model.request for model in models])
    item_codes, item_ids = _codes([model.item for model in models])
    stride = max(len(item_ids), 1)
    keys = [requests * stride + items for requests, items in zip(request_codes, item_codes, strict=True)]
    del request_codes, item_codes
    union = _union(keys)
    scores = np.full((len(names), len(union)), np.nan)
    scored = np.zeros(scores.shape, bool)
    repeated, contradicted, not_finite = np.zeros((3, len(names)), np.int64)
    label: Floats | None = None
    places: list[Codes | None] = []
    for position, (model, key) in enumerate(zip(models, keys, strict=True)):
        rows = np.searchsorted(union, key) if len(key) != len(union) or (key != union).any() else None
        places.append(rows)
        finite = np.isfinite(model.score)
        not_finite[position] = len(key) - int(finite.sum())
        values = np.where(finite, model.score, np.nan)
        if rows is None:
            scores[position], scored[position] = values, True
        else:
            first = _first_rows(rows)
            repeated[position] = len(rows) - len(first)
            scores[position, rows[first]] = values[first]
            scored[position, rows] = True
            if repeated[position]:
                differs = ~(
                    (values == scores[position, rows]) | (np.isnan(values) & np.isnan(scores[position, rows]))
                )
                contradicted[position] = int(differs.sum())
                scores[position, rows[differs]] = np.nan
        if model.label is not None:
            label = _with_labels(label, model, rows, len(union))
    requests, items = np.divmod(union, stride)
    return AlignedScores(
        models=names,
        request=requests,
        item=items,
        request_ids=request_ids,
        item_ids=item_ids,
        scores=scores,
        scored=scored,
        label=label,
        repeated=repeated,
        contradicted=contradicted,
        not_finite=not_finite,
        columns={name: _aligned_column(name, models, places, len(union)) for name in models[0].columns},
    )


def _aligned_column(
    name: str, models: Sequence[ModelScores], places: Sequence[Codes | None], count: int
) -> AlignedColumn:
    """A column of the union's rows; `places` are the positions of each model's rows in it, None: all in order."""
    columns = _one_type([model.columns[name] for model in models])
    encoded = pa.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type)
    encoded = pc.dictionary_encode(encoded).unify_dictionaries()
    values = encoded.chunk(0).dictionary if encoded.num_chunks else pa.array([], columns[0].type)
    positions = [chunk.indices.fill_null(-1).to_numpy() for chunk in encoded.chunks]
    by_model = np.split(
        np.concatenate([*positions, np.zeros(0, np.int32)]).astype(np.int64),
        np.cumsum([len(column) for column in columns])[:-1],
    )
    codes = np.full(count, -1, np.int64)
    contradicted = 0
    for rows, model_codes in zip(places, by_model, strict=True):
        at = np.arange(count) if rows is None else rows
        first = np.arange(count) if rows is None else _first_rows(rows)
        codes[at[first]] = np.where(codes[at[first]] < 0, model_codes[first], codes[at[first]])
        contradicted += int(((model_codes >= 0) & (model_codes != codes[at])).sum())
    return AlignedColumn(values, codes, contradicted)


def _one_type(columns: Sequence[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    """Columns as integers if all are, else as float64 if all are numbers, else as text. NaN becomes null."""
    kinds = {column.type for column in columns if not pa.types.is_null(column.type)}
    if kinds and all(pa.types.is_integer(kind) for kind in kinds):
        return [column.cast(pa.int64()) for column in columns]
    if kinds and all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds):
        numbers = [column.cast(pa.float64()) for column in columns]
        return [
            pc.if_else(pc.is_nan(column).fill_null(True), pa.scalar(None, pa.float64()), column)
            for column in numbers
        ]
    texts = [text_column(column) for column in columns]
    return [pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column) for column in texts]


def _codes(columns: Sequence[pa.ChunkedArray]) -> tuple[list[Codes], pa.Array]:
    """The columns' texts as positions in one list of texts, which is in the order of their bytes."""
    chunks = [chunk for column in columns for chunk in column.chunks]
    encoded = (
        pa.chunked_array(chunks, columns[0].type if columns else pa.string())
        .combine_chunks()
        .dictionary_encode()
    )
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    codes = rank[encoded.indices.to_numpy()]
    bounds = np.cumsum([len(column) for column in columns])[:-1]
    return np.split(codes, bounds), encoded.dictionary.take(pa.array(order))


def _union(keys: Sequence[Codes]) -> Codes:
    union = np.unique(keys[0])
    for key in keys[1:]:
        if len(key) != len(keys[0]) or (key != keys[0]).any():
            union = np.union1d(union, key)
    return union


def _first_rows(rows: Codes) -> Codes:
    """Positions of the first mention of each row, in the order of the rows."""
    return np.unique(rows, return_index=True)[1]


def _with_labels(label: Floats | None, model: ModelScores, rows: Codes | None, count: int) -> Floats:
    if label is None:
        label = np.full(count, np.nan)
    assert model.label is not None
    places = np.arange(count) if rows is None else rows
    standing = label[places]
    conflicts = ~np.isnan(standing) & ~np.isnan(model.label) & (standing != model.label)
    if conflicts.any():
        position = int(np.flatnonzero(conflicts)[0])
        raise UserError(
            f"a row must have one label. Received for request {model.request[position]}, item {model.item[position]}: "
            f"{standing[position]:g} and, from {model.model}, {model.label[position]:g}"
        )
    label[places] = np.where(np.isnan(model.label), standing, model.label)
    return label
