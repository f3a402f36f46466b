"""The configuration that fits a log: label, request, candidates, joins, split and features, each with its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.init.features import SourceColumn, guess_features
from pipelines.init.identifiers import (
    UNIQUE_SHARE,
    Identifiers,
    guess_item,
    guess_request,
    names_user_and_item,
)
from pipelines.init.joins import best_join
from pipelines.init.label import LabelGuess, guess_label, positives_only
from pipelines.init.logs import FileGuess, common_root, files_of, inspect
from pipelines.init.names import listed
from pipelines.init.split import guess_split, guess_time
from pipelines.init.yaml_text import yaml_text
from pipelines.prepare.preview import check_rows
from ranker.config import Source, build
from ranker.errors import UserError

_CHECKED_ROWS = 20_000
_MOST_LOST = 0.5  # of the rows: a limit is not raised beyond
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
        names = listed([path.name for path in empty])
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
        self.derived_in_tables: dict[str, tuple[dict[str, str], str]] = {}
        self.joined: dict[str, SourceColumn] = {}  # by the name beside the log's columns
        heading = f"{', '.join(path.name for path in log.paths[:3])}{', ...' if len(log.paths) > 3 else ''}"
        events = self._source(log, {})
        self.proposal = Proposal(
            log.name,
            f"{heading}, guessed from the first {log.rows:,} rows",
            str(self.root),
            events,
        )
        self.questions = self.proposal.questions

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
                f"label: could it be {listed(self.label.alternatives)} instead of {self.label.columns[0]}?"
            )
        elif not self.label.is_sure and self.label.columns:
            self.questions.append(f"label: is it {self.label.columns[0]}? Only its values suggest that.")
        identifiers = self._identify()
        time = guess_time(self.log)
        self.questions += time.questions
        if time.column is not None:
            data["timestamp"] = time.column.name, time.column.evidence
            if time.column.time_format is not None:
                reason = f"so {time.column.values[0]!r} is a time"
                data["time_format"] = time.column.time_format, reason
        split = guess_split(self.log, self.root, identifiers, time.column, self._row_id)
        self.questions += split.questions
        data["split"] = split.rule, split.evidence
        guesses = guess_features(self.log, self.joined, self.label, identifiers)
        self.proposal.features, self.proposal.omitted = guesses.features, guesses.omitted
        self.questions += guesses.questions
        return self.proposal

    def _identify(self) -> Identifiers:
        """Writes the request and the item."""
        data = self.proposal.data
        request = guess_request(self.log, self.label)
        self.questions += request.questions
        if request.columns:
            data["request"] = request.columns, request.evidence
        item, learns_item = guess_item(self.log, self.label, request), False
        reason = "no column names a candidate: the number of the row does"
        if item is not None:
            column = self.log.columns[item]
            learns_item, reason = column.distinct <= UNIQUE_SHARE * column.rows, column.evidence
        else:
            item = self._row_id()
        data["item"] = item if learns_item else {"column": item, "feature": False}, reason
        return Identifiers(request.columns, request.users, item, learns_item)

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
                f" {self.log.paths[0].name} ({listed(apart)}), so it is left out. Write both alike, or name one of them."
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
                self.joined[new_names.get(column, column)] = SourceColumn(table, column, join.log_column)

    def _is_like_the_log(self, table: FileGuess) -> bool:
        """Whether a file has the label and most of the named columns of the log: part of it, written in another way."""
        names = {name for name in self.log.columns if not name.startswith("column_")}
        shared = names & {*table.columns}
        return bool(self.label.columns) and {*self.label.columns} <= shared and len(shared) > len(names) / 2
