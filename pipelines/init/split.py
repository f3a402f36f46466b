"""Which rows of a log are held out: the last in time, those that a column or a file's name sets apart, or some by hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.init.columns import ColumnGuess
from pipelines.init.identifiers import FEW_ROWS, MOST_MISSING, Identifiers, names_a_request
from pipelines.init.logs import FileGuess
from pipelines.init.names import listed, split_part


@dataclass(frozen=True)
class TimeGuess:
    """When a row was logged.

    Attributes:
        column: that says it; None: no column does.
        questions: what the rows cannot say.
    """

    column: ColumnGuess | None
    questions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SplitGuess:
    """What is held out.

    Attributes:
        rule: of the configuration.
        evidence: why, in words.
        questions: what the rows cannot say.
    """

    rule: dict[str, Any]
    evidence: str
    questions: list[str] = field(default_factory=list)


def guess_time(log: FileGuess) -> TimeGuess:
    """The column of times; of several the first, or one that is far finer."""
    times = [column for column in log.columns.values() if column.kind == "time"]
    filled = [column for column in times if column.missing <= MOST_MISSING * column.rows]
    if not filled:
        return TimeGuess(None)
    finest = max(filled, key=lambda column: column.distinct)
    column = finest if finest.distinct > 10 * filled[0].distinct else filled[0]
    questions = []
    if column.time_format is not None and "told apart" in column.evidence:
        questions.append("time_format: does the day or the month come first?")
    if len(times) > 1:
        alternatives = [alternative.name for alternative in times if alternative is not column]
        questions.append(f"timestamp: could it be {listed(alternatives)} instead of {column.name}?")
    return TimeGuess(column, questions)


def guess_split(
    log: FileGuess,
    root: Path,
    identifiers: Identifiers,
    time: ColumnGuess | None,
    row_id: Callable[[], str],
) -> SplitGuess:
    """The rule by which rows are held out.

    Args:
        log: what is in it.
        root: directory of the files.
        identifiers: its columns that name something.
        time: the column of times, if there is one.
        row_id: returns the column that numbers the rows, made if need be.
    """
    by_column = next((column for column in log.columns.values() if column.kind == "split"), None)
    if by_column is not None:
        texts = sorted(set(log.texts[by_column.name].to_pylist()) - {""})
        train, held_out = _parts_to_use({text: split_part(text) for text in texts})
        if train and held_out:
            if not any(split_part(text) == "train" for text in texts):
                train = ["train", *train]  # not among the first rows
            rule = {"by": "column", "of": by_column.name, "train": train, "eval": held_out}
            return SplitGuess(rule, by_column.evidence)
    names = [str(path.relative_to(root)) for path in log.paths]
    parts = {name: split_part(name) for name in names}
    if len(names) > 1 and all(parts.values()):
        train, held_out = _parts_to_use(parts)
        if train and held_out:
            rule = {"by": "file", "train": train, "eval": held_out}
            return SplitGuess(rule, "the names of the files say so")
    questions = _questions_of_other_parts(log.paths[0]) if len(names) == 1 else []
    if time is not None:
        evidence = "the last tenth: a model is used on what comes after its training"
        return SplitGuess({"by": "time", "eval": 0.1}, evidence, questions)
    request, item = identifiers.request, identifiers.item
    if not request:
        of = [row_id() if identifiers.learns_item else item]
        evidence = "no column is a time: a tenth of the rows"
    elif _comes_back(log, request, item):
        of, evidence = [*request, item], f"some rows of each {request[0]}, which comes back"
    else:
        of, evidence = request, "no column is a time: whole requests are held out"
    return SplitGuess({"by": "hash", "of": of, "eval": 0.1}, evidence, questions)


def _comes_back(log: FileGuess, request: list[str], item: str) -> bool:
    """Whether what names a request is a user, say, who comes back with other candidates."""
    has_several_rows = log.columns[request[0]].mean_rows > FEW_ROWS and log.source_row is None
    return has_several_rows and not names_a_request(request[0]) and item not in request


def _questions_of_other_parts(path: Path) -> list[str]:
    """Whether files beside a part of a log are its other parts."""
    if split_part(path.name) is None:
        return []
    siblings = [
        sibling.name
        for sibling in sorted(path.resolve().parent.iterdir())
        if sibling.name != path.name and sibling.is_file() and split_part(sibling.name) is not None
        if sibling.suffix == path.suffix or sibling.stem == path.stem
    ]
    if not siblings:
        return []
    return [
        f"split: {listed(siblings)} lies beside {path.name}; name all of them to `ranker init` to split by file."
    ]


def _parts_to_use(parts: dict[str, str | None]) -> tuple[list[str], list[str]]:
    """(names to train on, names to hold out): the last of train, validation and test that there is is held out."""
    order = [part for part in ("train", "validation", "test") if part in parts.values()]
    if len(order) < 2:
        return [], []
    train = [name for name, part in parts.items() if part in order[:-1]]
    return train, [name for name, part in parts.items() if part == order[-1]]
