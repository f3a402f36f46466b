"""What one column of a log probably is, by its name and its values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.init.names import (
    AMOUNT_NAMES,
    CODE_NAMES,
    CODE_SERIES,
    ITEM_NAMES,
    KEY_WORDS,
    MOMENT_NAMES,
    PART_WORDS,
    RATING_NAMES,
    REQUEST_NAMES,
    TIME_NAMES,
    USER_NAMES,
    ends_in_id,
    names_a_key,
    words_of,
)
from pipelines.prepare.read.columns import NumberFormat, as_numbers, as_times
from pipelines.prepare.read.libsvm import INDEX

FEW = 30
"""Distinct values up to which numbers may be codes, or grades of a label."""
_YES_NO_WORDS = {
    "ja": "nein",
    "oui": "non",
    "si": "no",
    "s\u00ed": "no",
    "sim": "n\u00e3o",
    "tak": "nie",
    "\u0434\u0430": "\u043d\u0435\u0442",
}
_TRUE_WORDS = frozenset({"1", "1.0", "true", "t", "yes", "y"})
_FALSE_WORDS = frozenset({"0", "0.0", "-1", "-1.0", "false", "f", "no", "n"})
_TIME_FORMS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%m %d, %Y")
_HOURS = ("", " %I:%M:%S %p", " %H:%M", " %H:%M:%S", "T%H:%M:%S", ", %H:%M:%S", " %I:%M %p")
_DIGIT_FORMS = ("%Y%m%d", "%Y%m%d%H", "%y%m%d%H", "%Y%m%d%H%M%S")
_EPOCH_UNITS = {1.0: "seconds", 1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}
_EPOCH_FROM, _EPOCH_TO = 8e8, 4e9  # seconds since 1970: 1995 to 2096
_NUMBER_LETTERS = r"^(?i:[-+0-9.,' e\t\x{a0}\x{202f}]*|\s*[-+]?(nan|inf|infinity)\s*)$"
_DENSE = 0.8  # of a range of whole numbers, from which they look like codes
_SKEWED = 20  # times the median, from which the largest amount makes a column skewed
_LEAST_CODES = 100
_SHOWN_VALUES = 12
_TRIED_TIMES = 1000


@dataclass
class ColumnGuess:
    """What one column probably is.

    Attributes:
        name: of the column.
        kind: `id`, `category`, `number`, `row number`, `time`, `flag`, `list`, `split`, `text` or `constant`.
        distinct: distinct values among the rows looked at.
        missing: rows without a value.
        rows: rows looked at.
        evidence: why, in words.
        values: some of its values, the most frequent first.
        separator: of a list that is text.
        brackets: whether each list of text stands in brackets.
        time_format: of times that are written in an ambiguous way.
    """

    name: str
    kind: str
    distinct: int
    missing: int
    rows: int
    evidence: str
    values: list[str] = field(default_factory=list)
    separator: str = "|"
    brackets: bool = False
    time_format: str | None = None

    @property
    def mean_rows(self) -> float:
        """Rows of one value, on average."""
        return (self.rows - self.missing) / max(self.distinct, 1)


def guess_column(name: str, text: pa.Array, form: NumberFormat, is_typed_list: bool) -> ColumnGuess:
    """Guesses what a column holds.

    Args:
        name: of the column.
        text: its values as plain text, empty where missing.
        form: how numbers are written.
        is_typed_list: whether its file says that it holds lists; their items are joined by `|`.
    """
    rows = len(text)
    counts = {entry["values"].as_py(): entry["counts"].as_py() for entry in pc.value_counts(text)}
    missing = counts.pop("", 0)
    values = sorted(counts, key=lambda value: -counts[value])
    column = ColumnGuess(
        name,
        "category",
        len(counts),
        missing,
        rows,
        f"{len(counts):,} distinct values",
        values[:_SHOWN_VALUES],
    )
    if len(counts) <= 1:
        column.kind, column.evidence = (
            "constant",
            f"one value in {rows:,} rows" if counts else "no value at all",
        )
    elif is_typed_list:
        column.kind, column.evidence = "list", "its values are lists"
    elif is_flag(values):
        column.kind, column.evidence = "flag", f"only {' and '.join(map(repr, sorted(values)))}"
    elif {value.lower() for value in values} <= PART_WORDS:
        column.kind, column.evidence = "split", f"its values are {', '.join(map(repr, sorted(values)))}"
    elif is_numeric(text, form):
        _guess_numeric(column, text, as_numbers(text, form)[0])
    elif _guess_time(column, values) or _guess_list(column, values):
        pass
    elif sum(value.count(" ") > 1 for value in values) > len(values) / 2 and len(counts) > rows / 10:
        column.kind, column.evidence = "text", f"sentences, such as {values[0][:40]!r}"
    else:
        words = words_of(name)
        if len(counts) > rows / 2 or words & {"id", "uid", "uuid"}:
            column.kind, column.evidence = "id", f"{len(counts):,} distinct values in {rows:,} rows"
    return column


def is_answer(values: Sequence[str]) -> bool:
    """Whether a column's values are yes and no in a language that expressions do not know."""
    return len(values) == 2 and any(
        _YES_NO_WORDS.get(yes.lower()) == no.lower() for yes, no in (values, values[::-1])
    )


def yes_value(values: Sequence[str]) -> str:
    """The one of the two values of `is_answer` that says yes."""
    return next(value for value in values if value.lower() in _YES_NO_WORDS)


def is_flag(values: Sequence[str]) -> bool:
    """Whether a column's values are one that says yes and one that says no."""
    lowered = {value.lower() for value in values}
    return len(values) == 2 and len(lowered & _TRUE_WORDS) == 1 and len(lowered & _FALSE_WORDS) == 1


def positive_value(values: Sequence[str]) -> str:
    """The one of a flag's values that says yes."""
    return next(value for value in values if value.lower() in _TRUE_WORDS)


def is_numeric(text: pa.Array, form: NumberFormat) -> bool:
    """Whether all values of a column are numbers, and none is a code with leading zeros."""
    distinct = pc.unique(text)
    # Words are told by their letters: to look for the number in each of many ids takes long.
    if not pc.all(pc.match_substring_regex(distinct, _NUMBER_LETTERS)).as_py():
        return False
    values, bad = as_numbers(distinct, form)
    if bad.any() or np.isnan(values).all():
        return False
    return not pc.any(pc.match_substring_regex(distinct, r"^\s*0[0-9]")).as_py()


def _guess_numeric(column: ColumnGuess, text: pa.Array, values: np.ndarray) -> None:
    present = values[~np.isnan(values)]
    low, high = float(present.min()), float(present.max())
    is_whole = bool((present == np.floor(present)).all())
    span = (
        f"{'whole numbers' if is_whole else 'numbers'} from {low:g} to {high:g}, {column.distinct:,} distinct"
    )
    words = words_of(column.name)
    unit = next((u for u in _EPOCH_UNITS if _EPOCH_FROM * u < low and high < _EPOCH_TO * u), None)
    if unit is not None and not words & KEY_WORDS and (unit > 1 or is_whole or words & TIME_NAMES):
        column.kind, column.evidence = "time", f"{span}: {_EPOCH_UNITS[unit]} since 1970"
    elif not is_whole and names_a_key(column.name, (*USER_NAMES, *ITEM_NAMES)):
        column.kind, column.evidence = "id", f"{span}: a key by its name"
    elif not is_whole:
        column.kind, column.evidence = "number", span
    elif (words & MOMENT_NAMES or column.name.lower() == "time") and low >= 0 and column.distinct > FEW:
        column.kind, column.evidence = (
            "time",
            f"{span}: a time by its name, since a moment that it does not say",
        )
    elif words & {*TIME_NAMES, "hour", "day"} and any(
        _all_match([value.removesuffix(".0") for value in column.values], form) for form in _DIGIT_FORMS
    ):
        column.kind, column.evidence = "time", f"{span}: year, month, day (and hour) side by side"
    elif (
        column.distinct == column.rows and high - low == column.rows - 1 and not INDEX.fullmatch(column.name)
    ):
        column.kind, column.evidence = "row number", f"{span}: the number of the row"
    else:
        reason = _code_reason(column, words, low, high, float(np.median(present)))
        column.kind = "number" if reason is None else "id"
        column.evidence = f"{span}: {reason or _amount_reason(column, words, low, high)}"


def _code_reason(column: ColumnGuess, words: set[str], low: float, high: float, median: float) -> str | None:
    """Why whole numbers are ids rather than amounts; None if they are amounts."""
    if low == -1 and CODE_SERIES.fullmatch(column.name):
        return "codes by its name, -1 for none"
    if low < 0 or INDEX.fullmatch(column.name):
        return None
    if column.name.startswith("field_"):
        return "an index at this place of a sparse line"
    if names_a_key(column.name, (*REQUEST_NAMES, *USER_NAMES, *ITEM_NAMES)):
        return "a key by its name"
    if words & CODE_NAMES or CODE_SERIES.fullmatch(column.name) or ends_in_id(words):
        return "codes by its name"
    if words & (AMOUNT_NAMES | set(RATING_NAMES)):
        return None
    if column.name.startswith("column_"):
        # Without a header there are no names: whole numbers with many values are more often ids than amounts, unless most
        # are small and some very large, or many are missing.
        is_amount = high > _SKEWED * max(median, 1.0) or column.missing > 0.05 * column.rows
        return (
            "many whole numbers that repeat"
            if not is_amount and FEW < column.distinct < column.rows / 2
            else None
        )
    is_dense = column.distinct >= _LEAST_CODES and column.distinct >= _DENSE * (high - low + 1)
    return "they fill their range as codes do, not as amounts" if is_dense and low <= 1 else None


def _amount_reason(column: ColumnGuess, words: set[str], low: float, high: float) -> str:
    if low < 0:
        return "some are negative, so amounts and no ids"
    if words & (AMOUNT_NAMES | set(RATING_NAMES)):
        return "an amount by its name"
    if column.distinct <= FEW:
        return "few values in an order; categorical if the order means nothing"
    return f"they leave gaps in their range ({column.distinct / (high - low + 1):.0%} occur), as amounts do"


def _guess_time(column: ColumnGuess, values: Sequence[str]) -> bool:
    tried = pa.array(values[:_TRIED_TIMES], pa.string())
    if not as_numbers(tried)[1].all():
        return False
    if not as_times(tried)[1].any():
        column.kind, column.evidence = "time", f"dates or times such as {values[0]!r}"
        return True
    if not values[0][:1].isdigit():
        return False
    forms = [
        day + hour for day in _TIME_FORMS for hour in _HOURS if _all_match(values[:_TRIED_TIMES], day + hour)
    ]
    if not forms:
        return False
    column.kind, column.time_format = "time", forms[0]
    column.evidence = f"dates or times such as {values[0]!r}"
    if len(forms) > 1:
        column.evidence += "; day and month cannot be told apart"
    return True


def _all_match(values: Iterable[str], form: str) -> bool:
    try:
        for value in values:
            datetime.strptime(value.strip(), form)
    except ValueError:
        return False
    return True


def _guess_list(column: ColumnGuess, values: Sequence[str]) -> bool:
    column.brackets = all(value.startswith("[") and value.endswith("]") for value in values)
    inside = [value[1:-1] for value in values] if column.brackets else list(values)
    separator = _separator(inside)
    if separator is None:
        column.brackets = False
        return False
    example = next(value for value in values if separator in value)
    shown = example if len(example) <= 60 else example[:60] + "..."
    column.kind, column.separator = "list", separator
    column.evidence = f"several values with {separator!r} between them, such as {shown!r}"
    return True


def _separator(values: list[str]) -> str | None:
    """What separates several values: it stands in many of the texts, and the parts repeat."""
    for separator in ("|", "\x02", ";", ", ", ",", " "):
        split = [value.split(separator) for value in values]
        parts = [part for entry in split for part in entry]
        if sum(len(entry) > 1 for entry in split) <= 0.2 * len(values):
            continue
        is_repeating = len(set(parts)) < 0.7 * len(parts) and len(set(parts)) < max(len(values), FEW)
        if (
            separator == " "
        ):  # words of a sentence are no values; ids are written without letters between spaces
            is_repeating = len(set(parts)) < 0.7 * len(parts) and all(map(_looks_like_an_id, set(parts)))
        if separator in "|\x02" or is_repeating:
            return separator
    return None


def _looks_like_an_id(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z_\-]{0,8}\d[\w\-]*", text) is not None
