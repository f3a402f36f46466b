"""What a run of `prepare` will do, settled before any row is read: files, and where each column comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pipelines.prepare.clean import derive, expectations, expressions
from pipelines.prepare.needs import Needs, needs
from pipelines.prepare.read import reading, sources
from pipelines.prepare.read.sources import Opened
from ranker.config import Experiment, FileSplit, Table, fingerprint
from ranker.config.data import Split
from ranker.errors import UserError

FORMAT = 1
"""Part of the inputs' fingerprint: raised when the same inputs would give other files."""


@dataclass(frozen=True)
class TablePlan:
    """A side table before it is read.

    Attributes:
        name: its key in the configuration.
        source: how to read it.
        files: where it is.
        brings: the columns rows get from it.
        derives: derived columns made from its columns alone, computed once a row of the table.
    """

    name: str
    source: Table
    files: tuple[Opened, ...]
    brings: tuple[str, ...]
    derives: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What the workers need to know.

    Attributes:
        experiment: the configuration.
        needs: the columns needed of the log and of side tables.
        events: the files of the log.
        tables: the side tables, in the order they are joined.
        log_derives: derived columns made from the log's columns alone, computed before the joins, which may use them.
        derives: derived columns computed on the joined rows.
        inputs: fingerprint of the configuration and of the files.
    """

    experiment: Experiment
    needs: Needs
    events: tuple[Opened, ...]
    tables: tuple[TablePlan, ...]
    log_derives: tuple[str, ...]
    derives: tuple[str, ...]
    inputs: str


def make_plan(experiment: Experiment) -> Plan:
    """Looks into every file and settles where each needed column comes from.

    Raises:
        UserError: a file or a column is missing, a key joins nothing, or the label can never be computed.
    """
    data, needed = experiment.data, needs(experiment)
    for key, text in data.expressions.items():
        try:
            expressions.check(text)
        except ValueError as error:
            raise UserError(f"data.{key}: {error}. Received: {text!r}") from None
    expectations.check_config(experiment)
    events = _open_all(experiment, "data.events")
    tables = {
        name: _open_all(experiment, f"data.tables.{name}", table) for name, table in data.tables.items()
    }
    origin = _origins(experiment, events, tables)

    keys = {table.key: f"data.tables.{name}.key" for name, table in data.tables.items()}
    derived = [name for name in data.derive if name in needed or name in keys]
    of_source = {name: _common_source(experiment, name, origin) for name in derived}
    of_log = tuple(name for name in derived if of_source[name] == "")
    on_rows = tuple(name for name in derived if of_source[name] is None)
    inputs = {
        column: f"data.derive.{name}"
        for name in (*of_log, *on_rows)
        for column in derive.inputs(data.derive[name])
    }
    needed = needed.with_text({**inputs, **keys})
    for column in needed.all:
        if column not in data.derive and column not in origin:
            raise UserError(_missing(column, needed, events, tables))
    of_events = tuple(
        column for column in needed.all if origin.get(column) == "" and column not in data.derive
    )
    sources.check_columns(events, of_events, needed, data.events)
    files_by_split(data.split, [opened_file.file.name for opened_file in events])

    plans = []
    for name, table in data.tables.items():
        brings = tuple(c for c in needed.all if origin.get(c) == name and c not in data.derive)
        derives = tuple(c for c in derived if of_source[c] == name)
        plans.append(TablePlan(name, table, tuple(tables[name]), brings, derives))
    files = [opened_file.file for opened in (events, *tables.values()) for opened_file in opened]
    fingerprinted = fingerprint(
        FORMAT,
        data.model_dump(mode="json", exclude={"root"}),
        experiment.monitor.requests,
        {name: feature.model_dump(mode="json") for name, feature in experiment.features.items()},
        experiment.keeps_requests_together,
        experiment.task,
        [[file.name, file.size, file.stamp] for file in files],
    )
    return Plan(experiment, needed, tuple(events), tuple(plans), of_log, on_rows, fingerprinted)


def _open_all(experiment: Experiment, key: str, table: Table | None = None) -> list[Opened]:
    rules = experiment.data.derive
    needed = {*needs(experiment).all, *(column for rule in rules.values() for column in derive.inputs(rule))}
    opened = sources.open_source(table or experiment.data.events, experiment.data, sorted(needed))
    if not any(opened_file.columns for opened_file in opened) or not reading.blocks(opened):
        fault = next((opened_file.fault for opened_file in opened if opened_file.fault), "is empty")
        raise UserError(f"{opened[0].file.path}: {fault}; {key} needs rows")
    return opened


def files_by_split(split: Split, names: Sequence[str]) -> tuple[bool, ...]:
    """Whether each file is held out; nothing if the split does not go by file.

    Raises:
        UserError: a file is in neither or both parts, or a part has no file.
    """
    if not isinstance(split, FileSplit):
        return ()

    def matches(name: str, patterns: Sequence[str]) -> bool:
        ends = (name, name.rpartition("/")[2])
        return any(fnmatchcase(end, pattern) or end == pattern for end in ends for pattern in patterns)

    parts = [(matches(name, split.train), matches(name, split.eval)) for name in names]
    for name, (train, held_out) in zip(names, parts, strict=True):
        if train == held_out:
            where = (
                "both data.split.train and data.split.eval"
                if train
                else "neither data.split.train nor data.split.eval"
            )
            raise UserError(f"data.split: the file {name} is in {where}; it must be in one of them")
    for key, patterns, has_file in (
        ("train", split.train, any(train for train, _ in parts)),
        ("eval", split.eval, any(held_out for _, held_out in parts)),
    ):
        if not has_file:
            raise UserError(
                f"data.split.{key}: no file of data.events matches {', '.join(patterns)}; there is: {', '.join(names[:10])}"
            )
    return tuple(held_out for _, held_out in parts)


def _columns(opened: list[Opened]) -> tuple[str, ...]:
    return next(opened_file.columns for opened_file in opened if opened_file.columns)


def _origins(experiment: Experiment, events: list[Opened], tables: dict[str, list[Opened]]) -> dict[str, str]:
    """Column to the name of the side table it comes from, or to "" for the log."""
    needed = needs(experiment)
    of_log = {
        name
        for name, rule in experiment.data.derive.items()
        if set(derive.inputs(rule)) <= set(_columns(events))
    }
    read_by_rules = {c for rule in experiment.data.derive.values() for c in derive.inputs(rule)}
    origin = dict.fromkeys(_columns(events), "")
    for name, table in experiment.data.tables.items():
        path, columns = tables[name][0].file.path, _columns(tables[name])
        if table.key not in columns:
            raise UserError(
                f"{path}: no column {table.key!r}, which data.tables.{name}.key names; it has: {', '.join(columns)}"
            )
        if table.key not in origin and table.key not in of_log:
            raise UserError(
                f"data.tables.{name}.key: no column {table.key!r} to join on in {events[0].file.path};"
                f" there is: {', '.join([*origin, *sorted(of_log)])}"
            )
        for column in columns:
            if column == table.key:
                continue
            if column in origin and (column in needed or column in read_by_rules):
                raise UserError(
                    f"{path}: the column {column!r} is in {origin[column] or 'data.events'} too; rename one of them"
                )
            origin.setdefault(column, name)
    return origin


def _common_source(experiment: Experiment, name: str, origin: dict[str, str]) -> str | None:
    """What holds all columns that a derived one is made from: a side table, "" for the log, None for several."""
    columns = derive.inputs(experiment.data.derive[name])
    for column in columns:
        if column not in origin:
            raise UserError(f"data.derive.{name}: no column {column!r}; there is: {', '.join(origin)}")
    names = {origin[column] for column in columns}
    return names.pop() if len(names) == 1 else None


def _missing(column: str, needed: Needs, events: list[Opened], tables: dict[str, list[Opened]]) -> str:
    available = [f"it has: {', '.join(_columns(events))}"]
    available += [f"{name} has: {', '.join(_columns(opened))}" for name, opened in tables.items()]
    path = events[0].file.path
    hint = sources.column_hint(column, _columns(events))
    return f"{path}: no column {column!r}, which {needed.reason(column)} needs; {'; '.join(available)}{hint}"
