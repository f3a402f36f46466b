"""Which columns of a log say what is ranked together, for whom, and what is ranked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.init.columns import FEW
from pipelines.init.label import LabelGuess
from pipelines.init.logs import FileGuess
from pipelines.init.names import ITEM_NAMES, REQUEST_NAMES, USER_NAMES, names_a_key, words_of

UNIQUE_SHARE = 0.9
"""Of the rows, distinct values from which hardly any comes back."""
MOST_MISSING = 0.01
"""Of the rows: what identifies a row, or says when it was, is there in nearly all."""
FEW_ROWS = 1.5
"""Rows of one request, below which there is nothing to rank."""
_MOSTLY = 0.99
_LARGEST_REQUEST = 0.1  # of the rows, from which a value stands for a missing one
_SMALL_LOG = 1000
_MOST_NAMELESS_IDS = 4  # columns without names, up to which the first is who and the second is what


@dataclass(frozen=True)
class RequestGuess:
    """What is ranked together.

    Attributes:
        columns: whose values name a request; none: nothing says so.
        evidence: why, in words.
        users: columns that name a user or a request, the likeliest first.
        questions: what the rows cannot say.
    """

    columns: list[str]
    evidence: str
    users: list[str]
    questions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Identifiers:
    """Columns that name something, rather than describe it.

    Attributes:
        request: what is ranked together; none: nothing says so.
        users: a user or a request, the likeliest first.
        item: a candidate.
        learns_item: whether candidates come back, so that a model can learn of each.
    """

    request: list[str]
    users: list[str]
    item: str
    learns_item: bool


def guess_request(log: FileGuess, label: LabelGuess) -> RequestGuess:
    """The columns of a request, none in a log of positives."""
    requests, users = _keys(log, label, REQUEST_NAMES), _keys(log, label, USER_NAMES)
    if log.source_row is not None:
        columns = _columns_of_a_row(log, [*requests, *users])
        if columns is not None:
            evidence = "each row of the file, a list of candidates, has a value of its own"
            return RequestGuess(columns, evidence, [*requests, *users])
    names = [name for name in (*requests, *users) if _is_spread(log, name)]
    if not names and not _keys(log, label, ITEM_NAMES):
        names = _nameless_ids(log, label.columns)[:1]
    if label.expression is None:
        return RequestGuess([], "", names)
    if not names:
        question = "request: no column says which rows were shown together; is there one?"
        return RequestGuess([], "", [], [question])
    best = log.columns[names[0]]
    questions = []
    if best.mean_rows < FEW_ROWS:
        questions.append(
            f"request: {best.name} has {best.mean_rows:.1f} rows each; is there a column with all candidates of one"
            " request?"
        )
    evidence = f"{best.distinct:,} distinct, {best.mean_rows:.1f} rows each: rows of one are ranked against each other"
    return RequestGuess([best.name], evidence, names, questions)


def guess_item(log: FileGuess, label: LabelGuess, request: RequestGuess) -> str | None:
    """The column that names a candidate; None: no column does."""
    columns = log.columns
    names = [name for name in _keys(log, label, ITEM_NAMES) if name not in request.users]
    names += [name for name in log.derive if columns[name].kind != "list" and name not in label.columns]
    if log.chosen is not None:
        return log.chosen[0]
    row_id = str(log.form.settings.get("row_id", ""))
    if not names and row_id:
        columns[row_id].evidence = "a number of its own for each row"
        names = [row_id]
    if names:
        return _best_item(log, names, request.columns)
    rest = [
        column
        for name, column in columns.items()
        if column.kind in ("id", "category") and name not in request.users and name not in label.columns
        if column.distinct > 1
    ]
    keys = [column for column in rest if column.kind == "id"]
    keys = [column for column in keys if column.mean_rows > FEW_ROWS] or keys
    if keys:
        return _best_item(log, [column.name for column in keys], request.columns)
    return max(rest, key=lambda column: column.distinct).name if rest else None


def names_user_and_item(log: FileGuess) -> bool:
    """Whether columns of a log name a user and an item, as in a log of positives."""

    def has(words: Collection[str]) -> bool:
        return any(
            column.kind in ("id", "category", "number")
            and column.mean_rows > FEW_ROWS
            and names_a_key(name, words)
            for name, column in log.columns.items()
        )

    return (has((*USER_NAMES, *REQUEST_NAMES)) and has(ITEM_NAMES)) or bool(_nameless_ids(log, ()))


def names_a_request(name: str) -> bool:
    """Whether a name says that a column identifies a request, which does not come back as a user does."""
    return names_a_key(name, REQUEST_NAMES) or bool(words_of(name) & set(REQUEST_NAMES))


def _keys(log: FileGuess, label: LabelGuess, words: Collection[str]) -> list[str]:
    """Columns whose names say that they identify one of `words`."""
    return [
        name
        for name, column in log.columns.items()
        if column.kind in ("id", "category", "number", "row number") and name not in label.columns[-1:]
        if names_a_key(name, words)
    ]


def _is_spread(log: FileGuess, name: str) -> bool:
    """Whether no value has so many rows that it stands for a missing one."""
    text = log.texts[name]
    counts = pc.value_counts(text.filter(pc.not_equal(text, "")))
    largest = max((entry["counts"].as_py() for entry in counts), default=0)
    return log.rows < _SMALL_LOG or largest <= _LARGEST_REQUEST * log.rows


def _columns_of_a_row(log: FileGuess, names: list[str]) -> list[str] | None:
    """The column, or the pair with a time, that has a value of its own for each row of an exploded file."""
    assert log.source_row is not None
    rows = int(log.source_row.max()) + 1
    id_names = [name for name, column in log.columns.items() if column.kind in ("id", "row number")]
    times = [name for name, column in log.columns.items() if column.kind == "time"]
    singles = dict.fromkeys([*names, *id_names])
    for columns in ([name] for name in singles):
        if _distinct(log, columns) >= _MOSTLY * rows and log.columns[columns[0]].distinct <= rows:
            return columns
    for columns in ([name, time] for name in singles for time in times):
        if _MOSTLY * rows <= _distinct(log, columns) <= rows:
            return columns
    return None


def _distinct(log: FileGuess, columns: list[str]) -> int:
    """Distinct values of some columns together."""
    return pa.table({name: log.texts[name] for name in columns}).group_by(columns).aggregate([]).num_rows


def _best_item(log: FileGuess, names: list[str], request: list[str]) -> str:
    """Of some columns the one that tells the rows of a request apart; of several an id by its name, or the first."""
    shares = {name: _distinct(log, [*request, name]) / log.rows if request else 1.0 for name in names}
    best = max(shares.values())
    apart = [name for name in names if shares[name] > 0.9 * best]
    return next((name for name in apart if words_of(name) & {"id", "ids", "uid"}), apart[0])


def _nameless_ids(log: FileGuess, label: Sequence[str]) -> list[str]:
    """Columns that may name a user and an item by their values; few, in the usual order: who, then what."""
    names = [
        name
        for name, column in log.columns.items()
        if column.kind == "id"
        or (name.startswith("column_") and column.kind == "category" and column.distinct > FEW)
        if name not in label and column.mean_rows > FEW_ROWS and column.missing <= MOST_MISSING * column.rows
    ]
    is_nameless = all(name.startswith("column_") for name in names)
    return names if len(names) > 1 and not (is_nameless and len(names) > _MOST_NAMELESS_IDS) else []
