"""Which columns are features, in which role and of which kind, and why others are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.init.columns import ColumnGuess
from pipelines.init.identifiers import UNIQUE_SHARE, Identifiers, names_a_request
from pipelines.init.label import PROPENSITY_NAMES, LabelGuess, label_rank, outcome
from pipelines.init.logs import FileGuess, numbers_of
from pipelines.init.names import listed, words_of

_MOSTLY = 0.99  # of the groups, from which a column counts as constant within them
_OUTCOME_NAMES = {"position", "rank", "slot"}
_PIECES = 16
"""Shares of a number between its quantiles: of 5, 10, 16 and 20 the fewest with which trees keep no lead of 0.01 of AUC."""
_KINDS_WITHOUT_USE = {
    "constant": "one value or none",
    "split": "the split",
    "row number": "the number of the row",
    "text": "free text",
    "time": "a time",
}


@dataclass(frozen=True)
class SourceColumn:
    """A column of the log, or of a table beside it.

    Attributes:
        source: that holds it.
        name: that it has there.
        key: of a table, the column of the log that joins it.
    """

    source: FileGuess
    name: str
    key: str = ""

    @property
    def guess(self) -> ColumnGuess:
        """What it probably is."""
        return self.source.columns[self.name]


@dataclass
class FeatureGuesses:
    """What a model learns from.

    Attributes:
        features: by name, with reasons.
        omitted: columns that are no features, by the reason.
        questions: what the rows cannot say.
    """

    features: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)
    omitted: dict[str, list[str]] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)

    def omit(self, name: str, reason: str) -> None:
        """Adds a column that is no feature."""
        self.omitted.setdefault(reason, []).append(name)


def guess_features(
    log: FileGuess, joined: Mapping[str, SourceColumn], label: LabelGuess, identifiers: Identifiers
) -> FeatureGuesses:
    """What each column is to a model.

    Args:
        log: what is in it.
        joined: the columns of its tables, by the names that they have beside the log's.
        label: of the log.
        identifiers: its columns that name something.
    """
    guesses = FeatureGuesses()
    leaks: list[str] = []
    columns = {name: SourceColumn(log, name) for name in log.columns} | dict(joined)
    for name, column in columns.items():
        is_of_log, is_item = column.source is log, name == identifiers.item
        reason = (
            _omitted(name, column.guess) if not is_of_log else _omitted_of_log(log, name, label, identifiers)
        )
        if reason is None and is_of_log and not is_item:
            reason = outcome(log, name, label.positive)
            leaks += [name] if reason is not None else []
        if reason is not None:
            guesses.omit(name, reason)
            continue
        role = _role(log, name, column, identifiers)
        is_of_the_row = is_of_log and role == "item" and not is_item
        is_positives_only = label.expression is None
        if is_positives_only and is_of_the_row and not _is_constant_within(log, identifiers.item, name):
            guesses.omit(name, "it is known of a row that was logged, and of no negative")
            continue
        guess = column.guess
        evidence = guess.evidence + (f", {guess.missing / guess.rows:.1%} missing" if guess.missing else "")
        feature = _feature(column, role, is_item)
        if is_of_log and words_of(name) & _OUTCOME_NAMES and not is_item and name not in identifiers.request:
            feature["training_only"] = True
            evidence += "; where a candidate was shown is not known before the ranking"
        guesses.features[name] = feature, evidence
    if leaks:
        guesses.questions.append(
            f"features: {listed(leaks)} gave the label away, wholly or for some rows; add what is known before it is."
        )
    return guesses


def _omitted_of_log(log: FileGuess, name: str, label: LabelGuess, identifiers: Identifiers) -> str | None:
    """Why a column of the log is no feature; None if it is one."""
    column = log.columns[name]
    if name in label.columns[-1:]:
        return "the label"
    if name in label.alternatives and label_rank(column) >= 3:
        return "another outcome, by its name"
    if name == identifiers.item and not identifiers.learns_item:
        return "it names a candidate, and hardly any comes back"
    if name in identifiers.request[:1] and (names_a_request(name) or log.source_row is not None):
        return "it names a request, and none comes back"
    if name in (*identifiers.request, *identifiers.users[:1], identifiers.item):
        return None
    return _omitted(name, column)


def _omitted(name: str, column: ColumnGuess) -> str | None:
    """Why a column that names neither a request nor a candidate is no feature; None if it is one."""
    if column.kind in _KINDS_WITHOUT_USE:
        return _KINDS_WITHOUT_USE[column.kind]
    if words_of(name) & PROPENSITY_NAMES:
        return "a propensity, which is known of the logged ranking alone"
    is_text = column.kind in ("category", "id")
    if is_text and column.distinct > UNIQUE_SHARE * (column.rows - column.missing):
        return "nearly every row has a value of its own"
    return None


def _role(log: FileGuess, name: str, column: SourceColumn, identifiers: Identifiers) -> str:
    """`context` where all candidates of a request share the value, else `item`."""
    request, users = identifiers.request, identifiers.users
    if column.source is not log:
        is_context = column.key in request or column.key in users
    elif name == identifiers.item:
        is_context = False
    elif not request:
        is_context = name in users
    else:
        is_context = all(_is_constant_within(log, key, name) for key in request)
    return "context" if is_context else "item"


def _feature(column: SourceColumn, role: str, is_item: bool) -> dict[str, Any]:
    guess, settings = column.guess, column.source.form.settings
    if guess.kind == "list":
        return {"kind": "categorical", "role": role, "multivalued": guess.separator}
    is_sparse = settings.get("format") == "libsvm" and not settings.get("columns")
    if not is_item and (guess.kind == "number" or (is_sparse and guess.kind == "flag")):
        transform = "log1p" if _is_skewed(numbers_of(column.source, column.name)) else "standardize"
        return {"kind": "numeric", "role": role, "transform": transform, "pieces": _PIECES}
    return {"kind": "categorical", "role": role}


def _is_constant_within(log: FileGuess, key: str, name: str) -> bool:
    """Whether a column has one value for each value of another, in 99% of the groups with several rows."""
    if key == name:
        return True
    table = pa.table({"key": log.texts[key], "value": log.texts[name]})
    groups = table.group_by("key").aggregate([("value", "count_distinct"), ("value", "count")])
    several = groups.filter(pc.greater(groups["value_count"], 1))
    if not len(several):
        return False
    return float(pc.mean(pc.equal(several["value_count_distinct"], 1).cast(pa.float64())).as_py()) > _MOSTLY


def _is_skewed(values: np.ndarray) -> bool:
    values = values[~np.isnan(values)]
    if not len(values) or values.min() < 0:
        return False
    return bool(values.max() > 20 * max(float(np.median(values)), 1e-9) and values.max() > 20)
