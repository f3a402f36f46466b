"""Columns as text, as numbers, as times: whatever type their file gave them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

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


@dataclass(frozen=True)
class NumberFormat:
    """How a source writes numbers.

    Attributes:
        decimal: the decimal mark.
        thousands: the mark between groups of digits, if there is one.
    """

    decimal: str = "."
    thousands: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether a parser of plain numbers reads them."""
        return self.decimal == "." and self.thousands is None

    def plain(self, texts: pa.StringArray) -> pa.StringArray:
        """Numbers as a plain parser reads them; text that is no number in this format is none afterwards either."""
        mark, point = (re.escape(text) for text in (self.thousands or "", self.decimal))
        digits = "[0-9]+"
        if self.thousands is not None:
            # Groups of three, or of two before the last as in India.
            digits = f"(?:[0-9]+|[0-9]{{1,3}}(?:{mark}[0-9]{{2,3}})*{mark}[0-9]{{3}})"
        pattern = f"^[ \t]*[+-]?(?:{digits}(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t]*$"
        is_number = pc.match_substring_regex(texts, pattern)
        is_word = pc.match_substring_regex(texts, "^[^0-9]*$")  # empty, nan, inf, true, ...
        if self.thousands is not None:
            texts = pc.replace_substring(texts, self.thousands, "")
        if self.decimal != ".":
            texts = pc.replace_substring(texts, self.decimal, ".")
        return pc.if_else(pc.or_(is_number, is_word), texts, "not a number")


_PLAIN = NumberFormat()


def as_numbers(column: pa.Array, form: NumberFormat = _PLAIN) -> tuple[np.ndarray, np.ndarray]:
    """The column as float64, NaN where missing, and a mask of the values that are no number.

    Truth values are 1 and 0. Times are seconds since 1970, or of the day, durations seconds.

    Args:
        column: of any type.
        form: how numbers are written where they are text.

    Returns:
        (values float64 [n], bad bool [n]); a bad value is NaN too. Infinite values are numbers here.
    """
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return as_numbers(column.storage, form)
    if pa.types.is_dictionary(kind):
        values, bad = as_numbers(column.dictionary, form)
        codes = column.indices.fill_null(len(values)).to_numpy()
        return np.append(values, np.nan)[codes], np.append(bad, False)[codes]
    scale = 1.0
    if pa.types.is_temporal(kind):
        column, scale = _ticks(column)
    if pa.types.is_floating(kind) or pa.types.is_integer(column.type) or pa.types.is_boolean(kind):
        numbers = column.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy(zero_copy_only=False)
        return numbers * scale if scale != 1.0 else numbers, np.zeros(len(column), bool)
    texts = arrow_texts(column).cast(pa.string())
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_bytes(kind)
    return _parse_numbers(texts, form if is_text else _PLAIN)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _ticks(column: pa.Array) -> tuple[pa.Array, float]:
    """Times as whole numbers, and the seconds of one."""
    kind = column.type
    if pa.types.is_date(kind):
        return (
            (column.cast(pa.int32()).cast(pa.int64()), 86400.0)
            if pa.types.is_date32(kind)
            else (column.cast(pa.int64()), 1e-3)
        )
    seconds = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[kind.unit]
    width = pa.int32() if pa.types.is_time32(kind) else pa.int64()
    return column.cast(width).cast(pa.int64()), seconds


def as_times(column: pa.Array, form: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Times as float64 and a mask of what is no time.

    Numbers are as they are. Text is a number, ISO 8601, RFC 2822, of `_TIME_FORMATS`, or of `form`, and becomes seconds
    since 1970; without a time zone it is UTC.

    Args:
        column: of any type.
        form: the format of text, for `strptime`; then nothing else is a time.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        values, bad = as_times(column.dictionary, form)
        codes = column.indices.fill_null(len(values)).to_numpy()
        return np.append(values, np.nan)[codes], np.append(bad, True)[codes]
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_bytes(kind)):
        values, bad = as_numbers(column)
        return values, bad | ~np.isfinite(values)
    texts = pc.utf8_trim_whitespace(arrow_texts(column).cast(pa.string()).fill_null(""))
    values, bad = (np.full(len(texts), np.nan), np.ones(len(texts), bool)) if form else as_numbers(texts)
    wrong = np.flatnonzero(bad)
    if len(wrong):
        encoded = texts.take(pa.array(wrong)).dictionary_encode()
        seconds = [moment_seconds(text, form) for text in encoded.dictionary.to_pylist()]
        read = np.array([np.nan if moment is None else moment for moment in seconds])
        values[wrong] = read[encoded.indices.to_numpy()]
    return values, ~np.isfinite(values)


def decode(column: pa.Array) -> pa.Array:
    """Plain text without nulls: missing is the empty text."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.fill_null("") if column.null_count else column


def _parse_numbers(column: pa.StringArray, form: NumberFormat) -> tuple[np.ndarray, np.ndarray]:
    if not form.is_plain:
        column = form.plain(column.fill_null(""))
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


_TIME_FORMATS = (
    "%Y/%m/%d %H:%M:%S.%f",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%Y%m%d %H%M%S",
    "%Y%m%d %H:%M:%S",
    "%Y%m%dT%H%M%S",
    "%d/%b/%Y:%H:%M:%S %z",
    "%d/%b/%Y %H:%M:%S",
    "%d-%b-%Y %H:%M:%S",
    "%d-%b-%Y",
    "%d %b %Y %H:%M:%S",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%b %d, %Y %I:%M:%S %p",
    "%b %d %Y %H:%M:%S",
    "%a %b %d %H:%M:%S %Y",
    "%a %b %d %H:%M:%S %z %Y",
)
"""Ways to write a time in which day and month cannot be mistaken for each other."""
_SPACE_BEFORE_ZONE = re.compile(r" +(Z$|[+-]\d\d:?(?:\d\d)?$)")
_ZONE_NAME = re.compile(r" (UTC|GMT|Z)\b")


def moment_seconds(text: str, form: str | None = None) -> float | None:
    """Seconds since 1970 of a time written as text, None if it is none.

    Args:
        text: the time.
        form: its format, for `strptime`; None: ISO 8601, RFC 2822 and `_TIME_FORMATS`.
    """
    if form is not None:
        return _strptime(text, form)
    iso = _iso_seconds(_SPACE_BEFORE_ZONE.sub(r"\1", re.sub(r" +(UTC|GMT)$", "Z", text)))
    if iso is not None:
        return iso
    plain = " ".join(_ZONE_NAME.sub(" +0000", text.removesuffix("Z")).split())
    for known_form in _TIME_FORMATS:
        seconds = _strptime(plain, known_form)
        if seconds is None and plain.endswith(" +0000") and "%z" not in known_form:
            seconds = _strptime(plain.removesuffix(" +0000"), known_form)
        if seconds is not None:
            return seconds
    return _mail_seconds(text)


def _strptime(text: str, form: str) -> float | None:
    try:
        return _as_utc(datetime.strptime(text, form))
    except (ValueError, OverflowError):
        return None


def _mail_seconds(text: str) -> float | None:
    """RFC 2822, as HTTP and mail write times: it begins with a weekday or a day and a month's name."""
    if not re.match(r"([A-Z][a-z]{2}, )?\d{1,2} [A-Z][a-z]{2} \d{4} ", text):
        return None
    try:
        return _as_utc(parsedate_to_datetime(text))
    except (ValueError, TypeError, OverflowError):
        return None


def _as_utc(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _iso_seconds(text: str) -> float | None:
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
    return _as_utc(moment)
