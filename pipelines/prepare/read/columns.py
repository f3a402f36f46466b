"""Columns as text, as numbers, as times: whatever type their file gave them."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ranker.text import arrow_texts

TEXT_TYPE = pa.dictionary(pa.int32(), pa.string())
_NUMERIC_HINT = r"[0-9]|(?i:nan|inf)"
_ISO_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?")


def as_text(column: pa.Array, separator: str = "|") -> pa.DictionaryArray:
    """The column as dictionary-encoded text by the rule of `ranker.text`; a list's items are joined by `separator`."""
    if column.type == TEXT_TYPE:
        return column
    return pc.dictionary_encode(arrow_texts(column, separator)).cast(TEXT_TYPE)


def as_numbers(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The column as float64, NaN where missing, and a mask of the values that are no number.

    Returns:
        (values float64 [n], bad bool [n]); a bad value is NaN too. Infinite values are numbers here.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        values, bad = as_numbers(column.dictionary)
        codes = column.indices.fill_null(len(values)).to_numpy()
        return np.append(values, np.nan)[codes], np.append(bad, False)[codes]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return _parse_numbers(column.cast(pa.string()))
    if pa.types.is_temporal(kind):
        column = column.cast(pa.timestamp("us")).cast(pa.int64())
        scale = 1e-6
    else:
        scale = 1.0
    try:
        numbers = column.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        missing = column.is_null().to_numpy(zero_copy_only=False)
        return np.full(len(column), np.nan), ~missing
    return numbers * scale if scale != 1.0 else numbers, np.zeros(len(column), bool)


def as_times(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Times as float64 (numbers as they are; ISO 8601 text in seconds since 1970) and a mask of what is no time."""
    values, bad = as_numbers(column)
    if pa.types.is_dictionary(column.type) or pa.types.is_string(column.type):
        wrong = np.flatnonzero(bad)
        if len(wrong):
            text = pc.unique(as_text(column).take(pa.array(wrong)).dictionary_decode())
            known = {item: _iso_seconds(item) for item in text.to_pylist() if item is not None}
            for row, item in zip(wrong, as_text(column).take(pa.array(wrong)).to_pylist(), strict=True):
                seconds = known.get(item)
                if seconds is not None:
                    values[row], bad[row] = seconds, False
    return values, bad | ~np.isfinite(values)


def decode(column: pa.Array) -> pa.Array:
    """Plain text without nulls: missing is the empty text."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.fill_null("") if column.null_count else column


def _parse_numbers(column: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    trimmed = pc.utf8_trim(column.fill_null(""), " \t")
    empty = pc.equal(trimmed, "").to_numpy(zero_copy_only=False)
    text = pc.if_else(pa.array(empty), pa.scalar(None, pa.string()), trimmed)
    try:
        return text.cast(pa.float64()).fill_null(float("nan")).to_numpy(), np.zeros(len(column), bool)
    except pa.ArrowInvalid:
        pass
    hopeful = pc.match_substring_regex(trimmed, _NUMERIC_HINT).to_numpy(zero_copy_only=False)
    values, bad = np.full(len(column), np.nan), ~hopeful & ~empty
    spans = [np.flatnonzero(hopeful)]
    while spans:  # halves until every bad value stands alone: no second opinion on what a number is
        rows = spans.pop()
        try:
            values[rows] = text.take(pa.array(rows)).cast(pa.float64()).to_numpy()
        except pa.ArrowInvalid:
            if len(rows) == 1:
                bad[rows] = True
            else:
                spans += [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    return values, bad


def _iso_seconds(text: str) -> float | None:
    from datetime import datetime, timezone

    text = text.strip()
    if not _ISO_TIME.fullmatch(text):
        return None
    text = (
        re.sub(r"([+-]\d{2})(\d{2})?$", lambda m: f"{m[1]}:{m[2] or '00'}", text) if len(text) > 10 else text
    )
    text = re.sub(r"\.(\d+)", lambda m: "." + m[1][:6].ljust(6, "0"), text.replace("Z", "+00:00"))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
