"""The configuration that fits a log: label, request, candidates, joins, split and features, each with its evidence."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.init.columns import (
    FEW,
    ITEM_NAMES,
    REQUEST_NAMES,
    USER_NAMES,
    ColumnGuess,
    names_a_key,
    split_part,
    words_of,
)
from pipelines.init.joins import best_join
from pipelines.init.label import (
    PROPENSITY_NAMES,
    LabelGuess,
    guess_label,
    label_rank,
    outcome,
    positives_only,
)
from pipelines.init.logs import FileGuess, common_root, files_of, inspect, numbers_of
from pipelines.init.yaml_text import yaml_text
from pipelines.prepare.preview import check_rows
from ranker.config import Source, build
from ranker.errors import UserError

_MOSTLY = 0.99  # of the groups, from which a column counts as constant within them
_FEW_ROWS = 1.5  # rows of one request, below which there is nothing to rank
_MOST_MISSING = 0.01  # of the rows: a request is named in nearly all
_CHECKED_ROWS = 20_000
_OUTCOME_NAMES = {"position", "rank", "slot"}
_UNIQUE_SHARE = 0.9
_LARGEST_REQUEST = 0.1  # of the rows, from which a value stands for a missing one
_SMALL_LOG = 1000
_MOST_NAMELESS_IDS = 4  # columns without names, up to which the first is who and the second is what
_MOST_LOST = 0.5  # of the rows: a limit is not raised beyond
_PIECES = 16
"""Shares of a number between its quantiles: of 5, 10, 16 and 20 the fewest with which trees keep no lead of 0.01 of AUC."""
_NEGATIVES = 4


@dataclass
class SourceProposal:
    """How to read the log or a table.

    Attributes:
        path: below the root; several in a list.
        settings: other keys, with reasons.
        notes: lines to say beside them.
    """

    path: str | list[str]
    settings: dict[str, tuple[Any, str]]
    notes: list[str] = field(default_factory=list)


@dataclass
class Proposal:
    """A configuration with the reason for each choice.

    Attributes:
        name: of the experiment.
        heading: what was looked at.
        root: directory of the files.
        events: the log.
        tables: by name.
        data: further keys of `data`, with reasons.
        features: by name, with reasons.
        omitted: columns that are no features, by the reason.
        questions: what the rows cannot say.
    """

    name: str
    heading: str
    root: str
    events: SourceProposal
    tables: dict[str, SourceProposal] = field(default_factory=dict)
    data: dict[str, tuple[Any, str]] = field(default_factory=dict)
    features: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)
    omitted: dict[str, list[str]] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)

    def tree(self) -> dict[str, Any]:
        """The configuration as plain data."""

        def source(proposal: SourceProposal) -> dict[str, Any]:
            return {"path": proposal.path, **{key: value for key, (value, _) in proposal.settings.items()}}

        return {
            "name": self.name,
            "data": {
                "root": self.root,
                "events": source(self.events),
                **(
                    {"tables": {name: source(table) for name, table in self.tables.items()}}
                    if self.tables
                    else {}
                ),
                **{key: value for key, (value, _) in self.data.items()},
            },
            "features": {name: feature for name, (feature, _) in self.features.items()},
        }


def propose(paths: Sequence[Path], rows: int) -> str:
    """Inspects files and writes a configuration that runs.

    Args:
        paths: the log and its side tables, in any order; a log in several files is told by their equal columns.
        rows: rows of each log or table to look at.

    Returns:
        YAML with comments.

    Raises:
        UserError: a file cannot be read, or no column of any of them can be a label.
    """
    files = files_of(paths)
    empty = [path for path in files if path.is_file() and not path.stat().st_size]
    if len(empty) == len(files):
        empty = []  # then the first one is refused
    guesses = inspect([path for path in files if path not in empty], rows)
    labels = [guess_label(guess) for guess in guesses]
    candidates = [at for at, label in enumerate(labels) if label is not None]
    if not candidates:
        labels = [positives_only(guess) for guess in guesses]
        candidates = [at for at, guess in enumerate(guesses) if names_user_and_item(guess)]
    if not candidates:
        names = ", ".join(name for guess in guesses for name in guess.columns)
        raise UserError(
            f"{paths[0]}: no column can be a label: none is 0/1, true/false, a rating or an event; nor is it a log of"
            f" positives, as no columns name a user and an item; there is: {names}"
        )
    at = max(candidates, key=lambda at: (guesses[at].rows, -at))
    label = labels[at]
    assert label is not None
    tables = [guess for other_at, guess in enumerate(guesses) if other_at != at]
    proposal = _Builder(guesses[at], tables, label, paths).build()
    if empty:
        names = _listed([path.name for path in empty])
        proposal.questions.append(
            f"{names}: nothing is in {'them' if len(empty) > 1 else 'it'}; is that right?"
        )
    _check(proposal)
    return yaml_text(proposal)


def _check(proposal: Proposal) -> None:
    """Reads the first rows under the proposal, and says what would be rejected."""
    try:
        experiment = build(proposal.tree(), "ranker init")
        checked = check_rows(experiment, _CHECKED_ROWS)
    except UserError as error:
        proposal.questions.append(f"this configuration does not run yet: {error}")
        return
    limit = experiment.data.max_rejected or 0.0
    for remark in checked.remarks:
        if not remark.subject.startswith("joins.") and remark.share > limit:
            if remark.share > _MOST_LOST:
                proposal.questions.append(f"this configuration does not run yet: {remark}")
                return
            limit = float(f"{1.2 * remark.share + 0.005:.2f}")
            reason = f"{remark.share:.1%} of the first rows of {remark.subject} are rejected"
            proposal.data["max_rejected"] = limit, reason
            proposal.questions.append(f"data.max_rejected: is that right? {remark.subject}: {remark.text}")
        elif remark.subject.startswith("joins.") and 1 - remark.share < experiment.data.min_joined:
            share = float(f"{max(0.0, 0.8 * (1 - remark.share)):.2f}")
            proposal.data["min_joined"] = share, f"only {1 - remark.share:.1%} of the first rows have a match"


class _Builder:
    """Builds a proposal step by step: tables, request and item, split, features."""

    def __init__(self, log: FileGuess, tables: list[FileGuess], label: LabelGuess, arguments: Sequence[Path]):
        self.log, self.tables, self.label = log, tables, label
        self.directories = [path.resolve() for path in arguments if path.is_dir()]
        self.root = common_root(
            [*self.directories, *(path for guess in (log, *tables) for path in guess.paths)]
        )
        # Column of a table: the table, the column's name there, and the log's key.
        self.derived_in_tables: dict[str, tuple[dict[str, str], str]] = {}
        self.joined: dict[str, tuple[FileGuess, str, str]] = {}
        heading = f"{', '.join(path.name for path in log.paths[:3])}{', ...' if len(log.paths) > 3 else ''}"
        events = self._source(log, {})
        self.proposal = Proposal(
            log.name,
            f"{heading}, guessed from the first {log.rows:,} rows",
            str(self.root),
            events,
        )
        self.questions = self.proposal.questions
        self.learns_item = True

    def build(self) -> Proposal:
        """All of it."""
        for table in self.tables:
            self._join(table)
        data = self.proposal.data
        rules = {**self.log.derive, **self.derived_in_tables}
        if rules:
            data["derive"] = {name: rule for name, (rule, _) in rules.items()}, "parts of a column"
        if self.label.expression is None:
            data["negatives"] = {"count": _NEGATIVES}, "no column can be a label: each row is a positive"
            self.questions.append(
                "label: is each row a positive? Negatives are drawn from the items of other rows."
            )
        else:
            data["label"] = self.label.expression, self.label.evidence
        if self.label.alternatives:
            self.questions.append(
                f"label: could it be {_listed(self.label.alternatives)} instead of {self.label.columns[0]}?"
            )
        elif not self.label.is_sure and self.label.columns:
            self.questions.append(f"label: is it {self.label.columns[0]}? Only its values suggest that.")
        request, request_reason, users = self._request()
        item = self._item(request, users)
        if request:
            data["request"] = request, request_reason
        if item is None:
            self.learns_item, item = False, self._row_id()
            reason = "no column names a candidate: the number of the row does"
            data["item"] = {"column": item, "feature": False}, reason
        else:
            column = self.log.columns[item]
            self.learns_item = column.distinct <= _UNIQUE_SHARE * column.rows
            data["item"] = item if self.learns_item else {"column": item, "feature": False}, column.evidence
        time = self._time()
        data["split"] = self._split(request, item, time)
        self._features(request, users, item)
        return self.proposal

    def _source(self, guess: FileGuess, renames: dict[str, str]) -> SourceProposal:
        paths = [str(path.relative_to(self.root)) for path in self._as_given(guess.paths)]
        defaults = Source.model_validate({"path": paths})
        settings = {
            key: (value, guess.form.reasons.get(key, ""))
            for key, value in guess.form.settings.items()
            if getattr(defaults, key) != value
        }
        renames = {**guess.form.settings.get("rename", {}), **renames}
        if renames:
            settings["rename"] = renames, "names that features can have, and that no two sources share"
        notes = [guess.form.reasons[key] for key in ("rejected", "left_out") if key in guess.form.reasons]
        return SourceProposal(paths if len(paths) > 1 else paths[0], settings, notes)

    def _as_given(self, paths: list[Path]) -> list[Path]:
        """The files, with a directory in place of all of its files where they are here."""
        names = list(paths)
        for directory in self.directories:
            inside = [path for path in files_of([directory]) if path.stat().st_size]
            if directory != self.root and set(inside) <= set(names):
                names = [directory, *(path for path in names if path not in inside)]
        return names

    def _row_id(self) -> str:
        """The column that numbers the rows, made if there is none."""
        settings = self.proposal.events.settings
        if "row_id" not in settings:
            name = "row"
            while name in self.log.columns or name in self.joined:
                name += "_id"
            settings["row_id"] = name, "a number of its own for each row"
        return str(settings["row_id"][0])

    def _join(self, table: FileGuess) -> None:
        name = table.name
        while name in self.proposal.tables:
            name += "_2"
        if self._is_like_the_log(table):
            apart = sorted({*self.log.columns} ^ {*table.columns})
            self.questions.append(
                f"{table.paths[0].name}: is it a part of the log? It has the label, but its columns differ from those of"
                f" {self.log.paths[0].name} ({_listed(apart)}), so it is left out. Write both alike, or name one of them."
            )
            return
        join = best_join(self.log, table)
        if join is None:
            self.questions.append(
                f"{table.paths[0].name}: which of its columns joins it to the log? None matches half of the rows, so it"
                " is left out."
            )
            return
        names = {*self.log.columns, *(rule["extract"] for rule, _ in self.log.derive.values()), *self.joined}
        new_names = {join.table_column: join.log_column} if join.table_column != join.log_column else {}
        in_table = {*table.columns, *(rule["extract"] for rule, _ in table.derive.values())}
        new_names |= {c: f"{name}_{c}" for c in sorted(in_table) if c != join.table_column and c in names}
        for column, (rule, reason) in table.derive.items():
            extract = new_names.get(rule["extract"], rule["extract"])
            self.derived_in_tables[new_names.get(column, column)] = {**rule, "extract": extract}, reason
        # What is renamed already is renamed from its name in the file.
        old_names = {new: old for old, new in table.form.settings.get("rename", {}).items()}
        renames = {
            old_names.get(column, column): new
            for column, new in new_names.items()
            if column not in table.derive
        }
        source = self._source(table, renames)
        source.settings["key"] = join.log_column, f"{join.share:.1%} of the log's rows have a match"
        reason = "whole numbers that one side writes with a fraction or with leading zeros"
        if join.integers_of_table:
            source.settings["integers"] = [join.log_column], reason
        if join.integers_of_log:
            self.proposal.events.settings["integers"] = [join.log_column], reason
        self.proposal.tables[name] = source
        for column in table.columns:
            if column != join.table_column:
                self.joined[new_names.get(column, column)] = table, column, join.log_column

    def _is_like_the_log(self, table: FileGuess) -> bool:
        """Whether a file has the label and most of the named columns of the log: part of it, written in another way."""
        names = {name for name in self.log.columns if not name.startswith("column_")}
        shared = names & {*table.columns}
        return bool(self.label.columns) and {*self.label.columns} <= shared and len(shared) > len(names) / 2

    def _ids(self, words: Collection[str]) -> list[str]:
        return [
            name
            for name, column in self.log.columns.items()
            if column.kind in ("id", "category", "number", "row number")
            and name not in self.label.columns[-1:]
            if names_a_key(name, words)
        ]

    def _request(self) -> tuple[list[str], str, list[str]]:
        """(columns of a request, why, columns that name a user or a request)."""
        columns = self.log.columns
        requests, users = self._ids(REQUEST_NAMES), self._ids(USER_NAMES)
        if self.log.source_row is not None:
            names = self._columns_of_a_row([*requests, *users])
            if names is not None:
                return (
                    names,
                    "each row of the file, a list of candidates, has a value of its own",
                    [*requests, *users],
                )
        names = [name for name in (*requests, *users) if self._is_spread(name)]
        if not names and not self._ids(ITEM_NAMES):
            names = _nameless_ids(self.log, self.label.columns)[:1]
        if not names or self.label.expression is None:
            if self.label.expression is not None:
                self.questions.append("request: no column says which rows were shown together; is there one?")
            return [], "", names
        best = columns[names[0]]
        if best.mean_rows < _FEW_ROWS:
            self.questions.append(
                f"request: {best.name} has {best.mean_rows:.1f} rows each; is there a column with all candidates of one"
                " request?"
            )
        reason = f"{best.distinct:,} distinct, {best.mean_rows:.1f} rows each: rows of one are ranked against each other"
        return [best.name], reason, names

    def _is_spread(self, name: str) -> bool:
        """Whether no value has so many rows that it stands for a missing one."""
        counts = pc.value_counts(self.log.texts[name].filter(pc.not_equal(self.log.texts[name], "")))
        largest = max((entry["counts"].as_py() for entry in counts), default=0)
        return self.log.rows < _SMALL_LOG or largest <= _LARGEST_REQUEST * self.log.rows

    def _columns_of_a_row(self, names: list[str]) -> list[str] | None:
        """The column, or the pair with a time, that has a value of its own for each row of an exploded file."""
        assert self.log.source_row is not None
        rows = int(self.log.source_row.max()) + 1
        id_names = [name for name, column in self.log.columns.items() if column.kind in ("id", "row number")]
        times = [name for name, column in self.log.columns.items() if column.kind == "time"]
        singles = dict.fromkeys([*names, *id_names])
        for columns in ([name] for name in singles):
            if self._distinct(columns) >= _MOSTLY * rows and self.log.columns[columns[0]].distinct <= rows:
                return columns
        for columns in ([name, time] for name in singles for time in times):
            if _MOSTLY * rows <= self._distinct(columns) <= rows:
                return columns
        return None

    def _distinct(self, columns: list[str]) -> int:
        return (
            pa.table({name: self.log.texts[name] for name in columns})
            .group_by(columns)
            .aggregate([])
            .num_rows
        )

    def _item(self, request: list[str], users: list[str]) -> str | None:
        columns = self.log.columns
        names = [name for name in self._ids(ITEM_NAMES) if name not in users]
        names += [
            name
            for name in self.log.derive
            if columns[name].kind != "list" and name not in self.label.columns
        ]
        if self.log.chosen is not None:
            return self.log.chosen[0]
        row_id = str(self.log.form.settings.get("row_id", ""))
        if not names and row_id:
            columns[row_id].evidence = "a number of its own for each row"
            names = [row_id]
        if names:
            return self._best_item(names, request)
        rest = [
            column
            for name, column in columns.items()
            if column.kind in ("id", "category") and name not in users and name not in self.label.columns
            if column.distinct > 1
        ]
        keys = [column for column in rest if column.kind == "id"]
        keys = [column for column in keys if column.mean_rows > _FEW_ROWS] or keys
        if keys:
            return self._best_item([column.name for column in keys], request)
        return max(rest, key=lambda column: column.distinct).name if rest else None

    def _best_item(self, names: list[str], request: list[str]) -> str:
        """Of some columns the one that tells the rows of a request apart; of several an id by its name, or the first."""
        shares = {
            name: self._distinct([*request, name]) / self.log.rows if request else 1.0 for name in names
        }
        best = max(shares.values())
        apart = [name for name in names if shares[name] > 0.9 * best]
        return next((name for name in apart if words_of(name) & {"id", "ids", "uid"}), apart[0])

    def _time(self) -> str | None:
        times = [column for column in self.log.columns.values() if column.kind == "time"]
        filled = [column for column in times if column.missing <= _MOST_MISSING * column.rows]
        if not filled:
            return None
        finest = max(filled, key=lambda column: column.distinct)
        column = finest if finest.distinct > 10 * filled[0].distinct else filled[0]
        self.proposal.data["timestamp"] = column.name, column.evidence
        if column.time_format is not None:
            self.proposal.data["time_format"] = column.time_format, f"so {column.values[0]!r} is a time"
            if "told apart" in column.evidence:
                self.questions.append("time_format: does the day or the month come first?")
        if len(times) > 1:
            alternatives = [alternative.name for alternative in times if alternative is not column]
            self.questions.append(f"timestamp: could it be {_listed(alternatives)} instead of {column.name}?")
        return column.name

    def _split(self, request: list[str], item: str | None, time: str | None) -> tuple[dict[str, Any], str]:
        by_column = [column for column in self.log.columns.values() if column.kind == "split"]
        if by_column:
            texts = sorted(set(self.log.texts[by_column[0].name].to_pylist()) - {""})
            train, held_out = _parts_to_use({text: split_part(text) for text in texts})
            if train and held_out:
                if not any(split_part(text) == "train" for text in texts):
                    train = ["train", *train]  # not among the first rows
                rule = {"by": "column", "of": by_column[0].name, "train": train, "eval": held_out}
                return rule, by_column[0].evidence
        names = [str(path.relative_to(self.root)) for path in self.log.paths]
        parts = {name: split_part(name) for name in names}
        if len(names) > 1 and all(parts.values()):
            train, held_out = _parts_to_use(parts)
            if train and held_out:
                return {"by": "file", "train": train, "eval": held_out}, "the names of the files say so"
        if len(names) == 1:
            self._ask_for_other_parts(self.log.paths[0])
        if time is not None:
            return {
                "by": "time",
                "eval": 0.1,
            }, "the last tenth: a model is used on what comes after its training"
        if not request:
            row = [item] if item is not None and not self.learns_item else [self._row_id()]
            return {"by": "hash", "of": row, "eval": 0.1}, "no column is a time: a tenth of the rows"
        returning = not self._names_a_request(request[0]) and item is not None and item not in request
        if returning and self.log.columns[request[0]].mean_rows > _FEW_ROWS and self.log.source_row is None:
            of = [*request, str(item)]
            return {"by": "hash", "of": of, "eval": 0.1}, f"some rows of each {request[0]}, which comes back"
        return {"by": "hash", "of": request, "eval": 0.1}, "no column is a time: whole requests are held out"

    def _ask_for_other_parts(self, path: Path) -> None:
        if split_part(path.name) is None:
            return
        siblings = [
            sibling.name
            for sibling in sorted(path.resolve().parent.iterdir())
            if sibling.name != path.name and sibling.is_file() and split_part(sibling.name) is not None
            if sibling.suffix == path.suffix or sibling.stem == path.stem
        ]
        if siblings:
            self.questions.append(
                f"split: {_listed(siblings)} lies beside {path.name}; name all of them to `ranker init` to split by file."
            )

    def _features(self, request: list[str], users: list[str], item: str | None) -> None:
        leaks: list[str] = []
        is_positives_only = self.label.expression is None
        columns = {name: (self.log, name, "") for name in self.log.columns} | self.joined
        for name, (guess, column_name, key) in columns.items():
            column = guess.columns[column_name]
            reason = self._omitted(name, guess, column, [*request, *(users[:1]), item])
            if reason is None and guess is self.log and name != item:
                reason = outcome(self.log, name, self.label.positive)
                leaks += [name] if reason is not None else []
            if reason is not None:
                self.proposal.omitted.setdefault(reason, []).append(name)
                continue
            if guess is not self.log:
                role = "context" if key in request or key in users else "item"
            elif name == item:
                role = "item"
            elif not request:
                role = "context" if name in users else "item"
            else:
                role = "context" if all(self._is_constant_within(key, name) for key in request) else "item"
            is_of_the_row = guess is self.log and role == "item" and name != item
            if is_positives_only and is_of_the_row and not self._is_constant_within(str(item), name):
                reason = "it is known of a row that was logged, and of no negative"
                self.proposal.omitted.setdefault(reason, []).append(name)
                continue
            missing = f", {column.missing / column.rows:.1%} missing" if column.missing else ""
            feature = self._feature(column, guess, column_name, role, name == item)
            evidence = column.evidence + missing
            if guess is self.log and words_of(name) & _OUTCOME_NAMES and name not in (*request, item):
                feature["training_only"] = True
                evidence += "; where a candidate was shown is not known before the ranking"
            self.proposal.features[name] = feature, evidence
        if leaks:
            self.questions.append(
                f"features: {_listed(leaks)} gave the label away, wholly or for some rows; add what is known before it is."
            )

    def _omitted(
        self, name: str, guess: FileGuess, column: ColumnGuess, identifiers: list[str | None]
    ) -> str | None:
        """Why a column is no feature; None if it is one."""
        words = words_of(name)
        if guess is self.log and name in self.label.columns[-1:]:
            return "the label"
        if guess is self.log and name in self.label.alternatives and label_rank(column) >= 3:
            return "another outcome, by its name"
        if column.kind in ("constant", "split", "row number", "time", "text") and name not in identifiers:
            reasons = {
                "constant": "one value or none",
                "split": "the split",
                "row number": "the number of the row",
                "text": "free text",
            }
            return reasons.get(column.kind, "a time")
        if name in identifiers:
            if name == identifiers[-1] and guess is self.log and not self.learns_item:
                return "it names a candidate, and hardly any comes back"
            is_request = guess is self.log and name in self.proposal.data.get("request", ([],))[0][:1]
            is_request &= self._names_a_request(name) or self.log.source_row is not None
            return "it names a request, and none comes back" if is_request else None
        if words & PROPENSITY_NAMES:
            return "a propensity, which is known of the logged ranking alone"
        is_text = column.kind in ("category", "id")
        if is_text and column.distinct > _UNIQUE_SHARE * (column.rows - column.missing):
            return "nearly every row has a value of its own"
        return None

    def _names_a_request(self, name: str) -> bool:
        return names_a_key(name, REQUEST_NAMES) or bool(words_of(name) & set(REQUEST_NAMES))

    def _feature(
        self, column: ColumnGuess, guess: FileGuess, column_name: str, role: str, is_item: bool
    ) -> dict[str, Any]:
        if column.kind == "list":
            return {"kind": "categorical", "role": role, "multivalued": column.separator}
        is_sparse = guess.form.settings.get("format") == "libsvm" and not guess.form.settings.get("columns")
        if not is_item and (column.kind == "number" or (is_sparse and column.kind == "flag")):
            transform = "log1p" if _is_skewed(numbers_of(guess, column_name)) else "standardize"
            return {"kind": "numeric", "role": role, "transform": transform, "pieces": _PIECES}
        return {"kind": "categorical", "role": role}

    def _is_constant_within(self, key: str, name: str) -> bool:
        """Whether a column has one value for each value of another, in 99% of the groups with several rows."""
        if key == name:
            return True
        table = pa.table({"key": self.log.texts[key], "value": self.log.texts[name]})
        groups = table.group_by("key").aggregate([("value", "count_distinct"), ("value", "count")])
        several = groups.filter(pc.greater(groups["value_count"], 1))
        if not len(several):
            return False
        return (
            float(pc.mean(pc.equal(several["value_count_distinct"], 1).cast(pa.float64())).as_py()) > _MOSTLY
        )


def _nameless_ids(log: FileGuess, label: Sequence[str]) -> list[str]:
    """Columns that may name a user and an item by their values; few, in the usual order: who, then what."""
    names = [
        name
        for name, column in log.columns.items()
        if column.kind == "id"
        or (name.startswith("column_") and column.kind == "category" and column.distinct > FEW)
        if name not in label
        and column.mean_rows > _FEW_ROWS
        and column.missing <= _MOST_MISSING * column.rows
    ]
    is_nameless = all(name.startswith("column_") for name in names)
    return names if len(names) > 1 and not (is_nameless and len(names) > _MOST_NAMELESS_IDS) else []


def names_user_and_item(log: FileGuess) -> bool:
    """Whether columns of a log name a user and an item, as in a log of positives."""

    def has(words: Collection[str]) -> bool:
        return any(
            column.kind in ("id", "category", "number")
            and column.mean_rows > _FEW_ROWS
            and names_a_key(name, words)
            for name, column in log.columns.items()
        )

    return (has((*USER_NAMES, *REQUEST_NAMES)) and has(ITEM_NAMES)) or bool(_nameless_ids(log, ()))


def _parts_to_use(parts: dict[str, str | None]) -> tuple[list[str], list[str]]:
    """(names to train on, names to hold out): the last of train, validation and test that there is is held out."""
    order = [part for part in ("train", "validation", "test") if part in parts.values()]
    if len(order) < 2:
        return [], []
    train = [name for name, part in parts.items() if part in order[:-1]]
    return train, [name for name, part in parts.items() if part == order[-1]]


def _is_skewed(values: np.ndarray) -> bool:
    values = values[~np.isnan(values)]
    if not len(values) or values.min() < 0:
        return False
    return bool(values.max() > 20 * max(float(np.median(values)), 1e-9) and values.max() > 20)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" or one of {len(names) - 5} more" if len(names) > 5 else "")
