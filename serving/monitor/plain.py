"""Any answer as plain data: JSON without NaN, and CSV that a spreadsheet does not run."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]
_NUMBER = re.compile(r"[+-]?[0-9][0-9.,]*%?")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def plain(value: Any) -> Any:
    """Dataclasses, named tuples, arrays and numbers as dicts, lists and numbers; what is not finite becomes None."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int) else str(value)


def flat(value: Any) -> dict[str, Any]:
    """Makes one row of a dataclass or mapping. The parts of a nested value become columns of their own.

    Example:
        >>> flat({"pair": "a", "swap": {"value": 0.5, "low": 0.4}})
        {'pair': 'a', 'swap': 0.5, 'swap_low': 0.4}
    """
    row: dict[str, Any] = {}
    for name, entry in plain(value).items():
        if isinstance(entry, dict):
            row.update(
                {name if key == "value" else f"{name}_{key}": inner for key, inner in flat(entry).items()}
            )
        else:
            row[name] = "; ".join(map(str, entry)) if isinstance(entry, list) else entry
    return row


def to_csv(rows: Rows) -> str:
    r"""Rows as CSV. The columns are those of all rows, in the order of their first row.

    Example:
        >>> print(to_csv([{"item": "=1+1", "swap": 0.5}, {"item": "-1.5%", "n": 2}]).replace("\r", ""), end="")
        item,swap,n
        '=1+1,0.5,
        -1.5%,,2
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return f"'{value}"  # a spreadsheet would compute it
    return "" if value is None else value
