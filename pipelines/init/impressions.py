"""Rows that list the candidates of a request: which columns list them, and which entry was clicked."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.init.columns import is_flag
from pipelines.init.form import FileForm
from pipelines.init.names import LABEL_NAMES, words_of
from pipelines.prepare.read.columns import as_text, decode
from pipelines.prepare.read.parquet import is_list

_PAIR = re.compile(r"(.+)[-:_]([01])")  # an entry of an impression list: `N12345-0`
_PAIR_SEPARATORS = (" ", "|", ";", ",")
_MOSTLY = 0.99


def describe_impressions(
    columns: dict[str, pa.Array],
    texts: dict[str, pa.Array],
    form: FileForm,
    derive: dict[str, tuple[dict[str, str], str]],
) -> tuple[str | None, tuple[str, str] | None]:
    """Says how rows that list candidates are read: one row for each of them.

    Args:
        columns: the columns of the first rows, as the file has them.
        texts: the same as text.
        form: gets `explode`.
        derive: gets the candidate and the click where one text holds both, each with its rule and the reason.

    Returns:
        (the column of 0 and 1 that is the label, the exploded column and the one that names the entry that was chosen):
        at most one of them; None and None where the rows list no candidates.
    """
    if any(
        words_of(name) & LABEL_NAMES and is_flag(pc.unique(text).to_pylist()) for name, text in texts.items()
    ):
        return None, None  # each row has a label of its own
    for name, text in texts.items():
        separator = _pair_separator(text)
        if separator is not None:
            reason = "each row is a list of candidates, which end with 1 if clicked: one row for each of them"
            form.choose("explode", {"columns": [name], "separator": separator}, reason)
            item = "item" if "item" not in columns else f"{name}_item"
            click = "clicked" if "clicked" not in columns else f"{name}_clicked"
            derive[item] = {"extract": name, "pattern": "^(.*)[-:_][01]$"}, "what stands before the click"
            derive[click] = {"extract": name, "pattern": "[-:_]([01])$"}, "the click"
            return click, None
    typed = {name: column for name, column in columns.items() if is_list(column.type)}
    separators: tuple[str | None, ...] = (None,) if typed else _PAIR_SEPARATORS
    for list_separator in separators:
        lists = typed
        if list_separator is not None:
            split = {name: pc.split_pattern(text, list_separator) for name, text in texts.items()}
            lists = {
                name: value
                for name, value in split.items()
                if pc.max(pc.list_value_length(value)).as_py() > 1
            }
        clicks = _clicks_beside(lists, form, list_separator)
        chosen = _chosen_entry(lists, texts, form, list_separator) if clicks is None else None
        if clicks is not None or chosen is not None:
            return clicks, chosen
    return None, None


def _pair_separator(text: pa.Array) -> str | None:
    filled = text.filter(pc.not_equal(text, "")).slice(0, 1000).to_pylist()
    for separator in _PAIR_SEPARATORS:
        entries = [value.split(separator) for value in filled]
        has_several = any(len(entry) > 1 for entry in entries)
        if has_several and all(_PAIR.fullmatch(part) for entry in entries for part in entry):
            return separator
    return None


def _clicks_beside(lists: dict[str, pa.Array], form: FileForm, separator: str | None) -> str | None:
    """Explodes lists of equal lengths side by side, of which one says with 0 and 1 what was clicked; returns that."""
    lengths = {name: pc.list_value_length(value).fill_null(0).to_numpy() for name, value in lists.items()}
    for name, value in lists.items():
        if not is_flag(sorted(set(decode(as_text(value.flatten())).to_pylist()))) or lengths[name].max() < 2:
            continue
        parallel = [column for column in lists if np.array_equal(lengths[column], lengths[name])]
        if len(parallel) > 1:
            reason = (
                f"lists of equal lengths, of which {name} says which entries count: one row for each entry"
            )
            _choose_explode(form, parallel, separator, reason)
            return name
    return None


def _chosen_entry(
    lists: dict[str, pa.Array], texts: dict[str, pa.Array], form: FileForm, separator: str | None
) -> tuple[str, str] | None:
    """Explodes a list of candidates beside a column that names the chosen one; returns both columns."""
    for name, value in lists.items():
        parents, entries = pc.list_parent_indices(value), decode(as_text(value.flatten()))
        lengths = pc.list_value_length(value).fill_null(0).to_numpy()
        starts = np.cumsum(lengths) - lengths
        for column, text in texts.items():
            if column in lists:
                continue
            is_chosen = pc.equal(entries, text.take(parents))
            chosen_rows = parents.filter(is_chosen)
            places = np.flatnonzero(is_chosen.to_numpy(zero_copy_only=False)) - starts[chosen_rows.to_numpy()]
            filled = pc.sum(pc.not_equal(text, "")).as_py() or 0
            # Always at one place it is a part of the text, and not chosen from it.
            is_choice = len(np.unique(places)) > 1
            if is_choice and filled > len(text) / 10 and len(pc.unique(chosen_rows)) > _MOSTLY * filled:
                reason = f"a list of candidates, among which {column} stands: one row for each of them"
                _choose_explode(form, [name], separator, reason)
                return name, column
    return None


def _choose_explode(form: FileForm, columns: list[str], separator: str | None, reason: str) -> None:
    rule: dict[str, Any] = {"columns": columns}
    form.choose("explode", rule if separator is None else {**rule, "separator": separator}, reason)
