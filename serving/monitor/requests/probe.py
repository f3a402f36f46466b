"""The requests of a round: the frozen probe, or a sample of live traffic."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranker.errors import UserError
from ranker.text import arrow_texts, text, texts

if TYPE_CHECKING:
    import pyarrow as pa

JSON_LINES = (".jsonl", ".ndjson")
"""Endings of a file of probe requests that is read without pyarrow."""

Array = NDArray[Any]
Columns = dict[str, Array]


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """N requests with R candidates in all, request after request.

    Attributes:
        requests: ids [N].
        offsets: candidates of request n are rows offsets[n]..offsets[n + 1], int64 [N + 1].
        columns: feature -> raw values [R], text (object) or float32; context features are repeated.
        item: the feature that identifies a candidate.
        hash: of the contents, 16 hex digits: the same requests give the same hash.
        repeated: candidates left out because their request has the item already.
        labels: of each row, float64 [R], nan where there is none; None: the requests have no labels.
        fields: the features that each request carries [N]; None: all of them.
    """

    requests: tuple[str, ...]
    offsets: Array
    columns: Columns
    item: str
    hash: str
    repeated: int = 0
    fields: tuple[frozenset[str], ...] | None = None
    labels: Array | None = None

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def sizes(self) -> Array:
        """Candidates of each request, int64 [N]."""
        return np.diff(self.offsets)

    @cached_property
    def items(self) -> Array:
        """Item id of each row, text [R]."""
        return texts(self.columns[self.item])

    @cached_property
    def owner(self) -> Array:
        """Position of the request of each row, int64 [R]."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @cached_property
    def item_codes(self) -> Array:
        """Items as integers in the order of their ids, int64 [R]: what breaks ties."""
        return np.unique(self.items, return_inverse=True)[1]

    def rows(self, *positions: int) -> Columns:
        """The columns of one request's candidates, or of several requests' (of the same fields) one after the other."""
        spans = [slice(self.offsets[n], self.offsets[n + 1]) for n in positions]
        return {
            name: np.concatenate([values[span] for span in spans])
            for name, values in self.columns.items()
            if self.fields is None or name in self.fields[positions[0]]
        }

    def companion(self, position: int) -> int:
        """The next request that can share a batch with this one: it has the same fields; itself if there is no other."""
        count = len(self)
        following = ((position + step) % count for step in range(1, count + 1))
        return next(n for n in following if self.fields is None or self.fields[n] == self.fields[position])

    def contexts(self, features: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Request id -> values of those context features that it carries, of its first candidate; None: missing."""
        firsts = self.offsets[:-1]
        values = {name: _plain(self.columns[name][firsts]) for name in features if name in self.columns}
        return {
            request: {
                name: column[n]
                for name, column in values.items()
                if self.fields is None or name in self.fields[n]
            }
            for n, request in enumerate(self.requests)
        }

    def candidates(self, context: Sequence[str]) -> dict[str, list[Any]]:
        """Feature -> value of each row [R], of the features other than the context's and the item; None: missing."""
        return {
            name: _plain(values)
            for name, values in self.columns.items()
            if name != self.item and name not in context
        }

    def size(self, position: int) -> int:
        """Number of candidates of a request."""
        return int(self.offsets[position + 1] - self.offsets[position])

    def row_slice(self, position: int) -> slice:
        """The rows of a request's candidates."""
        return slice(int(self.offsets[position]), int(self.offsets[position + 1]))


def probe_set(
    requests: Sequence[Any] | Array,
    columns: Mapping[str, Any],
    item: str,
    count: int | None = None,
    labels: Array | None = None,
) -> ProbeSet:
    """Groups aligned rows into the first `count` requests, in order of appearance; the rows of a request need not touch.

    Args:
        requests: request id of each row [R].
        columns: feature -> raw values [R].
        item: the feature that identifies a candidate.
        count: how many requests to take (None: all).
        labels: of each row [R], nan where there is none; None: no labels.

    Raises:
        UserError: no rows, no item column, lengths differ.
    """
    if item not in columns:
        raise UserError(f"probe requests must have the item's column `{item}`. Received: {sorted(columns)}")
    lengths = {name: len(values) for name, values in columns.items()} | {"request": len(requests)}
    if len(set(lengths.values())) != 1:
        raise UserError(f"the columns of probe requests must have one length. Received: {lengths}")
    if not len(requests):
        raise UserError("there must be at least one probe request. Received: none")
    place: dict[str, int] = {}
    code = np.array([place.setdefault(text(request), len(place)) for request in requests])
    ids = texts(columns[item]).tolist()
    seen: set[tuple[int, str]] = set()
    first = np.zeros(len(code), dtype=bool)
    limit = len(place) if count is None else min(count, len(place))
    repeated = 0
    for row, key in enumerate(zip(code.tolist(), ids, strict=True)):
        if key[0] >= limit:
            continue
        if key in seen:
            repeated += 1
        else:
            seen.add(key)
            first[row] = True
    rows = np.flatnonzero(first)
    rows = rows[np.argsort(code[rows], kind="stable")]
    taken = {
        name: (np.array(ids, object) if name == item else _column(values))[rows]
        for name, values in columns.items()
    }
    sizes = np.bincount(code[rows], minlength=limit)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    names = tuple(place)[:limit]
    kept_labels = None if labels is None else np.asarray(labels, dtype=np.float64)[rows]
    return ProbeSet(
        requests=names,
        offsets=offsets,
        columns=taken,
        item=item,
        hash=_hash(names, offsets, taken),
        repeated=repeated,
        labels=kept_labels,
    )


def load_probe(path: Path, item: str, count: int | None = None) -> ProbeSet:
    """Reads the first `count` requests of a `probe.parquet`, or of a file of JSON lines with the same columns.

    Raises:
        UserError: the file is missing or not one with columns `request` and the item's, or it is a Parquet file and pyarrow
            is not installed.
    """
    if not path.is_file():
        raise UserError(
            f"the probe requests must exist: `ranker prepare` or `ranker probe` makes them. Received: {path}"
        )
    columns = _read_json_lines(path, item) if path.suffix in JSON_LINES else _read_parquet(path, item)
    if "request" not in columns:
        raise UserError(
            f"the probe requests must have a column `request`. Received: {path} with {list(columns)}"
        )
    requests, labels = columns.pop("request"), columns.pop("label", None)
    columns.pop("weight", None)
    if labels is not None and (labels.dtype.kind != "f" or np.isnan(labels).all()):
        labels = None
    return probe_set(requests, columns, item, count, labels)


def _read_parquet(path: Path, item: str) -> Columns:
    """Columns as float32 or texts; the request's and the item's are texts."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError(
            f"{path}: a Parquet file needs pip install 'steady-ranker[parquet]'; `ranker probe --output probe.jsonl` "
            "makes a file that does not"
        ) from None
    try:
        with path.open("rb") as stream:
            table = pq.read_table(stream)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"the probe requests must be a Parquet file. Received: {path} ({error})") from None
    return {
        name: _text_column(table.column(name)) if name in ("request", item) else _numpy(table.column(name))
        for name in table.column_names
    }


def _read_json_lines(path: Path, item: str) -> Columns:
    """Columns as float32 or texts; the request's and the item's are texts. What a row lacks is missing."""
    rows: list[dict[str, Any]] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line) if line.strip() else None
            except ValueError as error:
                raise UserError(f"{path}: line {number} must be a JSON object ({error})") from None
            if row is not None and not isinstance(row, dict):
                raise UserError(f"{path}: line {number} must be a JSON object. Received: {line.strip()[:80]}")
            rows += [row] if row is not None else []
    columns: Columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        is_number = all(
            value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
            for value in values
        )
        if is_number and name not in ("request", item):
            columns[name] = np.array([math.nan if value is None else value for value in values], np.float32)
        else:
            columns[name] = texts(values, name=name)
    return columns


def _numpy(column: pa.ChunkedArray) -> Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return pc.fill_null(column.cast(pa.float32()), math.nan).to_numpy().astype(np.float32)
    return _text_column(column)


def _text_column(column: pa.ChunkedArray) -> Array:
    return arrow_texts(column.combine_chunks()).fill_null("").to_numpy(zero_copy_only=False).astype(object)


def _column(values: Any) -> Array:
    array = np.asarray(values, dtype=object) if not isinstance(values, np.ndarray) else values
    if array.dtype.kind in "fiu":
        return array.astype(np.float32)
    if array.dtype.kind == "O" and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in array
    ):
        return array.astype(np.float32)
    return array.astype(object)


def _plain(values: Array) -> list[Any]:
    """Values as JSON has them, which has no NaN."""
    return [None if value != value else value for value in values.tolist()]


def _hash(requests: Sequence[str], offsets: Array, columns: Columns) -> str:
    digest = hashlib.sha256()
    for name in sorted(columns):
        digest.update(f"{name}\x00{columns[name].dtype.kind}\x00".encode())
        values = columns[name]
        if values.dtype.kind == "f":
            digest.update(np.where(np.isnan(values), np.float32("nan"), values).astype("<f4").tobytes())
        else:
            digest.update("\x1e".join(texts(values)).encode())
    digest.update("\x1e".join(requests).encode() + offsets.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
