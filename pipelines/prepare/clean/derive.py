"""Derived columns: flags gathered into one multi-valued column, parts extracted by a regular expression."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.prepare.clean.expressions import flag_values
from pipelines.prepare.read.columns import as_numbers, as_text
from ranker.config import Extract, Flags


def inputs(rule: Flags | Extract) -> tuple[str, ...]:
    """The columns a rule reads."""
    return rule.flags if isinstance(rule, Flags) else (rule.extract,)


def derive(rule: Flags | Extract, columns: Mapping[str, pa.Array]) -> pa.Array:
    """Computes one derived column as dictionary-encoded text."""
    if isinstance(rule, Extract):
        return _extract(rule, as_text(columns[rule.extract]))
    # Each name comes with a separator before it, and the first separator is cut off: Arrow's own way to leave
    # out nulls (`null_handling="skip"`) drops rows in which all are null (seen in 25.0).
    names = [pc.if_else(_is_set(columns[flag]), rule.separator + flag, "") for flag in rule.flags]
    joined = pc.binary_join_element_wise(*names, "")
    return as_text(pc.utf8_slice_codeunits(joined, len(rule.separator)))


def _is_set(column: pa.Array) -> pa.BooleanArray:
    return pa.array(flag_values(column, as_numbers(column)[0]) == 1)


def _extract(rule: Extract, column: pa.DictionaryArray) -> pa.Array:
    # Only distinct values are matched, with Python's own regular expressions: what the configuration checked.
    pattern = re.compile(rule.pattern)
    groups = [_group(pattern, value) for value in column.dictionary.to_pylist()]
    return as_text(pa.array(groups, pa.string()).take(column.indices))


def _group(pattern: re.Pattern[str], value: str | None) -> str:
    match = pattern.search(value) if value is not None else None
    return (match[1] or "") if match else ""
