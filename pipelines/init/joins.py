"""How a side table joins a log."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.init.logs import FileGuess

_KEY_KINDS = {"id", "category", "number", "row number"}
_KEY_ENDING = re.compile(r"_?(id|key|code|no|nr)$")
_WHOLE = r"^\s*\+?0*([0-9]+)(\.0*)?\s*$"


@dataclass(frozen=True)
class JoinGuess:
    """How a table joins the log.

    Attributes:
        log_column: of the log, and
        table_column: of the table, that must be equal.
        share: of the log's rows with a match.
        coverage: share of the table's keys that are in the log.
        integers_of_log: whether the log's keys, or
        integers_of_table: the table's, are whole numbers in several forms.
    """

    log_column: str
    table_column: str
    share: float
    coverage: float
    integers_of_log: bool = False
    integers_of_table: bool = False


def best_join(log: FileGuess, table: FileGuess) -> JoinGuess | None:
    """The columns that join a table to most rows of the log; None if none joins half of them."""
    best: JoinGuess | None = None
    for name, column in table.columns.items():
        if column.distinct < 0.95 * (column.rows - column.missing) or column.distinct < 2:
            continue
        for log_name, log_column in log.columns.items():
            if log_column.kind not in _KEY_KINDS:
                continue
            join = _join_on(log, log_name, table, name)
            if join.share > 0.5 and (best is None or _join_order(join, table) > _join_order(best, table)):
                best = join
    return best


def _join_order(join: JoinGuess, table: FileGuess) -> tuple[int, bool, float, float, bool]:
    names = (join.log_column, join.table_column)
    has_one_name = names[0].lower() == names[1].lower() and not names[0].startswith("column_")
    is_nameless = any(name.startswith("column_") for name in names)
    is_plain = not (join.integers_of_log or join.integers_of_table)
    # Users and movies that are both counted from 1 match each other's table: the file's name tells them apart.
    entity = _KEY_ENDING.sub("", join.log_column.lower())
    is_named_by_file = len(entity) > 2 and entity in table.paths[0].name.lower()
    level = 2 if has_one_name else int(is_nameless)
    return level, is_named_by_file, round(join.share, 2), join.coverage, is_plain


def _join_on(log: FileGuess, log_name: str, table: FileGuess, table_name: str) -> JoinGuess:
    rows, keys = log.texts[log_name], table.texts[table_name]
    if _share_in(rows, keys) > 0.5:
        return JoinGuess(log_name, table_name, _share_in(rows, keys), _share_in(keys, rows))
    whole_rows, whole_keys = (pc.replace_substring_regex(texts, _WHOLE, r"\1") for texts in (rows, keys))
    changed = not whole_rows.equals(rows), not whole_keys.equals(keys)
    if not any(changed) or len(pc.unique(whole_keys)) < 0.95 * len(pc.unique(keys)):
        return JoinGuess(log_name, table_name, 0.0, 0.0)
    return JoinGuess(
        log_name, table_name, _share_in(whole_rows, whole_keys), _share_in(whole_keys, whole_rows), *changed
    )


def _share_in(rows: pa.Array, keys: pa.Array) -> float:
    filled = rows.filter(pc.not_equal(rows, ""))
    return float(pc.mean(pc.is_in(filled, keys).cast(pa.float64())).as_py() or 0.0) if len(filled) else 0.0
