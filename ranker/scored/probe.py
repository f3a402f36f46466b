"""Probe requests from rows of any origin: a uniform sample of requests, in the form that the monitor reads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ranker.errors import UserError
from ranker.scored.files import numbers
from ranker.text import arrow_texts

RESERVED = ("request", "label", "weight")
"""Columns of a probe file that are no features."""


def probe_table(
    rows: pa.Table,
    request: pa.ChunkedArray,
    item: str,
    features: Sequence[str],
    *,
    label: str | None = None,
    text: Sequence[str] = (),
    count: int = 1000,
) -> pa.Table:
    """Samples requests with at least two candidates: those whose ids have the smallest hashes, in that order.

    So the first n requests are a uniform sample of n, and another sample of the same rows has the same requests.

    Args:
        rows: the features, the item and the label, R rows.
        request: request id of each row, Arrow text [R].
        item: the column that identifies a candidate; of rows with one request and item the first is taken.
        features: columns to take besides the item's.
        label: the column of labels; None: none.
        text: columns that are text although they hold numbers.
        count: how many requests at most.

    Returns:
        `request`, `label` if there is one, the item and the features: text, or float32 where numbers are exact in it.
        Rows of a request stand together, in their order in `rows`.

    Raises:
        UserError: a feature has a reserved name, the labels are no numbers, or no request has two candidates.
    """
    reserved = [name for name in (item, *features) if name in RESERVED]
    if reserved:
        raise UserError(
            f"a feature's name must not be {', '.join(RESERVED)}. Received: {', '.join(reserved)}"
        )
    ids = _text(rows[item])
    encoded = pc.dictionary_encode(request.combine_chunks())
    names, owner = encoded.dictionary, encoded.indices.to_numpy()
    pairs = owner * np.int64(max(len(ids), 1)) + pc.dictionary_encode(ids).indices.to_numpy()
    first = np.sort(np.unique(pairs, return_index=True)[1])
    sizes = np.bincount(owner[first], minlength=len(names))
    usable = np.flatnonzero(sizes > 1)
    if not len(usable):
        raise UserError(
            f"at least one request must have two candidates. Received: {len(names)} requests of {len(ids)} rows"
        )
    hashes = [request_hash(name) for name in names.take(pa.array(usable)).to_pylist()]
    chosen = usable[np.argsort(hashes, kind="stable")[:count]]
    position = np.full(len(names), len(names))
    position[chosen] = np.arange(len(chosen))
    place = position[owner[first]]
    sampled_rows = first[np.argsort(place, kind="stable")[: int(sizes[chosen].sum())]]
    taken = rows.take(pa.array(sampled_rows))
    columns = {"request": request.combine_chunks().take(pa.array(sampled_rows))}
    if label is not None:
        columns["label"] = pa.array(numbers(taken[label], label, "the rows"), pa.float32(), from_pandas=True)
    columns[item] = ids.take(pa.array(sampled_rows))
    for name in features:
        if name != item:
            columns[name] = _text(taken[name]) if name in text else _feature(taken[name])
    return pa.table(columns)


def request_hash(request: str) -> int:
    """The place of a request in every sample, of 64 bits."""
    return int.from_bytes(hashlib.blake2b(request.encode(), digest_size=8, person=b"probe").digest(), "big")


def _text(column: pa.ChunkedArray) -> pa.Array:
    return arrow_texts(column.combine_chunks()).cast(pa.string()).fill_null("")


def _feature(column: pa.ChunkedArray) -> pa.Array:
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column.combine_chunks().cast(pa.float32())
    if pa.types.is_integer(kind):
        extremes = pc.min_max(column)
        if all(abs(extreme or 0) <= 2**24 for extreme in extremes.as_py().values()):
            return column.combine_chunks().cast(pa.float32())
    return _text(column)  # an id that float32 would round is kept digit by digit
