"""Raw rows into example rows: join, derive, label, check. Every row comes out good, or rejected with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.prepare.clean import derive
from pipelines.prepare.clean.expressions import evaluate, flag_values
from pipelines.prepare.clean.faults import Faults
from pipelines.prepare.clean.negatives import LOW_BITS
from pipelines.prepare.clean.tables import SideTable, look_up
from pipelines.prepare.needs import needs
from pipelines.prepare.order.hashing import hash_columns, hash_text, mix
from pipelines.prepare.read.columns import NumberFormat, as_numbers, as_text, as_times, decode
from pipelines.prepare.read.conventions import POSITION
from pipelines.prepare.rows import EVAL, FILE_SHIFT, LINE, ORDER, PLACE, TEXT, TIME, rejected
from ranker import layout
from ranker.config import Experiment, SequenceFeature, TimeFeature, expression
from ranker.config.data import ColumnSplit, FileSplit, HashSplit
from ranker.json_text import json_text
from ranker.text import refused_lists

MAX_GRADE = 30.0
"""The gain of a grade is 2^grade - 1."""
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_FLOAT32_WHOLE = 2.0**24  # float32 holds every whole number up to here
_LATEST = 1e11
"""Seconds since 1970, in the year 5138: what is later was written in milliseconds."""
_SPLIT_SEED = 0x5EED
_BOUNDS = {"label": (0.0, 1.0), "grade": (0.0, MAX_GRADE), "weight": (0.0, _FLOAT32_MAX)}
"""The least and the greatest value that an expression may give."""


@dataclass(frozen=True)
class Cleaned:
    """What became of a batch.

    Attributes:
        rows: the good rows, or None: `__order__` (uint64), label, weight, request, features, and `__eval__`
            (bool) or `__time__` (float64) if the split goes by time.
        rejected: the bad rows, or None.
        unmatched: rows without a match, by side table.
        first_unmatched: of these the first, by side table: its place, its line and its key.
        no_label: rows whose label is a number outside [0, 1].
        inexact: whole numbers that float32 changes, by numeric feature.
    """

    rows: pa.RecordBatch | None
    rejected: pa.RecordBatch | None
    unmatched: dict[str, int]
    first_unmatched: dict[str, tuple[int, int, str]]
    no_label: int
    inexact: dict[str, int]

    def tally(self) -> Counter[tuple[Any, ...]]:
        """Its counts under tuple keys, to be added up with those of other batches."""
        tally: Counter[tuple[Any, ...]] = Counter({("no_label",): self.no_label})
        tally.update({("unmatched", name): rows for name, rows in self.unmatched.items()})
        tally.update({("first_unmatched", name, *key): 1 for name, key in self.first_unmatched.items()})
        tally.update({("inexact", name): numbers for name, numbers in self.inexact.items()})
        return tally


@dataclass(frozen=True)
class Cleaner:
    """Cleans batches of raw rows.

    Attributes:
        experiment: the configuration.
        tables: side tables by name, in the order they are joined.
        log_derives: derived columns computed before the joins.
        derives: derived columns computed on the joined rows.
        held_out_files: whether each file of the log is held out, for a split by file.
    """

    experiment: Experiment
    tables: dict[str, SideTable]
    log_derives: tuple[str, ...]
    derives: tuple[str, ...]
    held_out_files: tuple[bool, ...] = ()

    def __call__(self, raw: pa.RecordBatch) -> list[Cleaned]:
        """Cleans one batch; a value that Arrow cannot handle costs its own row only."""
        try:
            return [self._clean(raw)]
        except (pa.ArrowException, OverflowError) as error:
            if raw.num_rows > 1:
                half = raw.num_rows // 2
                return [*self(raw.slice(0, half)), *self(raw.slice(half))]
            faults = Faults(1)
            reason = f"has a value that cannot be used: {' '.join(str(error).split())[:120]}"
            faults.add(np.ones(1, bool), lambda _: reason)
            return [Cleaned(None, _rejected(raw, faults), {}, {}, 0, {})]

    def _clean(self, raw: pa.RecordBatch) -> Cleaned:
        data, rows = self.experiment.data, raw.num_rows
        columns = dict(zip(raw.schema.names, raw.columns, strict=True))
        for name in self.log_derives:
            columns[name] = derive.derive(data.derive[name], columns)
        unmatched, first_unmatched = {}, {}
        for name, table in self.tables.items():
            brought, missing = look_up(table, columns[table.key])
            columns.update(brought)
            unmatched[name] = int(missing.sum())
            if unmatched[name]:
                first = int(np.argmax(missing))
                key = as_text(columns[table.key])[first].as_py() or ""
                first_unmatched[name] = (
                    raw.column(PLACE)[first].as_py(),
                    raw.column(LINE)[first].as_py(),
                    key,
                )
        for name in self.derives:
            columns[name] = derive.derive(data.derive[name], columns)
        faults = Faults(rows)
        order = mix(raw.column(PLACE).to_numpy() ^ mix(np.array([data.order_seed], np.uint64)))
        if POSITION in columns:  # the entries of one list share their place
            position = columns[POSITION].to_numpy().astype(np.uint64)
            order = np.where(position > 0, mix(order ^ position), order)
        out: dict[str, pa.Array] = {ORDER: pa.array(order)}
        no_label = self._label(columns, rows, out, faults)
        self._request(columns, out, faults)
        if self._keeps_requests_together:
            out[ORDER] = pa.array(
                (hash_text(out[layout.REQUEST], data.order_seed) & ~LOW_BITS) | (order & LOW_BITS)
            )
        self._split(raw, columns, out, faults)
        inexact = self._features(columns, out, faults)
        rows_out = pa.RecordBatch.from_pydict(out)
        good, bad = rows_out, None
        if faults.any:
            good = rows_out.take(pa.array(faults.good)) if len(faults.good) else None
            bad = _rejected(raw, faults)
        return Cleaned(good, bad, unmatched, first_unmatched, no_label, inexact)

    def _bounds(self, key: str) -> tuple[float, float]:
        is_value = key == "label" and self.experiment.task == "regression"
        return (-_FLOAT32_MAX, _FLOAT32_MAX) if is_value else _BOUNDS[key]

    @cached_property
    def _keeps_requests_together(self) -> bool:
        return self.experiment.keeps_requests_together

    @cached_property
    def _formats(self) -> dict[str, NumberFormat]:
        """How the log writes the numbers that it holds as text; tables are read as numbers already."""
        events = self.experiment.data.events
        form = NumberFormat(events.decimal, events.thousands)
        if form.is_plain:
            return {}
        brought = {name for table in self.tables.values() for name in table.columns}
        columns = {*needs(self.experiment).all} - brought - {*self.log_derives, *self.derives}
        return dict.fromkeys(columns, form)

    def _label(
        self, columns: dict[str, pa.Array], rows: int, out: dict[str, pa.Array], faults: Faults
    ) -> int:
        """Label, grade and weight, each by its expression; returns how many labels are numbers out of range."""
        out_of_range = {"label": 0}
        if self.experiment.data.label is None:  # a log of positives
            out[layout.LABEL] = pa.array(np.ones(rows, np.float32))
        for key, text in self.experiment.data.expressions.items():
            lowest, highest = self._bounds(key)
            values = evaluate(text, columns, rows, self._formats)
            missing = np.isnan(values)
            wrong = ~missing & ~((values >= lowest) & (values <= highest))
            faults.add(missing, _computed_from(key, expression.columns(text), columns))
            faults.add(wrong, _not_within(key, lowest, highest, values))
            out[layout.EXPRESSIONS[key]] = pa.array(np.where(missing | wrong, 0, values).astype(np.float32))
            out_of_range[key] = int(wrong.sum())
        return out_of_range["label"]

    def _request(self, columns: dict[str, pa.Array], out: dict[str, pa.Array], faults: Faults) -> None:
        names = self.experiment.data.request
        if names is None:
            out[layout.REQUEST] = pa.array(
                [f"{order:016x}" for order in out[ORDER].to_pylist()]
            ).dictionary_encode()
            return
        parts = [as_text(columns[name]) for name in names]
        if len(parts) == 1:
            request, plain = parts[0], None
        else:
            plain = [decode(part) for part in parts]
            request = as_text(pc.binary_join_element_wise(*plain, layout.REQUEST_SEPARATOR))
        empty = np.logical_and.reduce([_is_empty(part) for part in parts])
        faults.add(empty, lambda row: f"no request: {', '.join(names)} is empty")
        out[layout.REQUEST] = request

    def _split(
        self, raw: pa.RecordBatch, columns: dict[str, pa.Array], out: dict[str, pa.Array], faults: Faults
    ) -> None:
        split = self.experiment.data.split
        if isinstance(split, HashSplit):
            of = (split.of,) if isinstance(split.of, str) else split.of
            place = hash_columns([as_text(columns[name]) for name in of], _SPLIT_SEED)
            out[EVAL] = pa.array(place < np.uint64(int(split.eval * 2**64)))
        elif isinstance(split, ColumnSplit):
            value = as_text(columns[split.of])
            is_train, is_eval = (_is_in(value, names) for names in (split.train, split.eval))
            rule = f"{split.of} is neither {' nor '.join([*split.train, *split.eval])}"
            faults.add(~(is_train | is_eval), _shown(value, rule))
            out[EVAL] = pa.array(is_eval)
        elif isinstance(split, FileSplit):
            file = (raw.column(PLACE).to_numpy() >> np.uint64(FILE_SHIFT)).astype(np.int64)
            out[EVAL] = pa.array(np.array(self.held_out_files)[file])
        else:
            name = str(self.experiment.data.timestamp)
            values, bad = as_times(columns[name], self.experiment.data.time_format)
            faults.add(bad, _shown(columns[name], f"{name} is not a time"))
            out[TIME] = pa.array(values)

    def _features(
        self, columns: dict[str, pa.Array], out: dict[str, pa.Array], faults: Faults
    ) -> dict[str, int]:
        inexact = {}
        for name, feature in self.experiment.columns.items():
            if isinstance(feature, TimeFeature):
                out[name] = self._seconds(name, columns[name], faults)
                continue
            if feature.kind != "numeric":
                separator = (
                    feature.separator
                    if isinstance(feature, SequenceFeature)
                    else getattr(feature, "multivalued", None)
                )
                refused = refused_lists(columns[name], separator)
                faults.add(refused, _shown(columns[name], _list_rule(name, separator)))
                out[name] = as_text(columns[name], separator or "|")
                continue
            values, bad = as_numbers(columns[name], self._formats.get(name, NumberFormat()))
            if bad.any():  # truth values in words
                values = flag_values(columns[name], values)
                bad &= np.isnan(values)
            magnitudes = np.abs(values)
            bad = bad | (magnitudes > _FLOAT32_MAX)
            faults.add(bad, _shown(columns[name], f"{name} is not a finite number"))
            single = np.where(bad, np.nan, values).astype(np.float32)
            large = np.flatnonzero(~bad & (magnitudes > _FLOAT32_WHOLE))
            whole = large[values[large] == np.floor(values[large])]
            inexact[name] = int(np.count_nonzero(single[whole] != values[whole]))
            out[name] = pa.array(single)
        return inexact

    def _seconds(self, name: str, column: pa.Array, faults: Faults) -> pa.Array:
        """Times as the text of whole seconds since 1970; empty for missing ones."""
        values, bad = as_times(column, self.experiment.data.time_format)
        missing = _is_empty(as_text(column))
        bad = (bad | (np.abs(values) > _LATEST)) & ~missing
        faults.add(bad, _shown(column, f"{name} is not a time (seconds since 1970, or a date)"))
        usable = ~(bad | missing)
        seconds = np.floor(np.where(usable, values, 0)).astype(np.int64)
        texts = [str(number) if is_usable else "" for number, is_usable in zip(seconds, usable, strict=True)]
        return pa.array(texts, pa.string()).dictionary_encode()


def _computed_from(key: str, names: tuple[str, ...], columns: dict[str, pa.Array]) -> Callable[[int], str]:
    def reason(row: int) -> str:
        shown = ", ".join(f"{name}={str(columns[name][row].as_py() or '')[:40]!r}" for name in names)
        return f"{key} cannot be computed: {shown}"

    return reason


def _not_within(key: str, lowest: float, highest: float, values: np.ndarray) -> Callable[[int], str]:
    rule = f"finite and >= {lowest:g}" if highest == _FLOAT32_MAX else f"within [{lowest:g}, {highest:g}]"
    return lambda row: f"{key} is not {rule}: {values[row]:g}"


def _shown(column: pa.Array, rule: str) -> Callable[[int], str]:
    def reason(row: int) -> str:
        value = column[row].as_py()
        return f"{rule}: {str(value)[:80]!r}" if value not in (None, "") else f"{rule}: empty"

    return reason


def _list_rule(name: str, separator: str | None) -> str:
    if separator is None:
        return f"{name} is a list, but the feature is not multivalued"
    return f"{name} has a list item that holds the separator {separator!r}"


def _is_empty(column: pa.DictionaryArray) -> np.ndarray:
    empty = pc.equal(column.dictionary, "").to_numpy(zero_copy_only=False)
    return np.append(empty, True)[column.indices.fill_null(len(empty)).to_numpy()]


def _is_in(column: pa.DictionaryArray, names: tuple[str, ...]) -> np.ndarray:
    member = pc.is_in(column.dictionary, pa.array(names, pa.string())).to_numpy(zero_copy_only=False)
    return np.append(member, "" in names)[column.indices.fill_null(len(member)).to_numpy()]


def _rejected(raw: pa.RecordBatch, faults: Faults) -> pa.RecordBatch:
    bad = raw.take(pa.array(faults.bad))
    if TEXT in raw.schema.names:
        texts = bad.column(TEXT).to_pylist()
    else:
        added_columns = [name for name in (PLACE, LINE, POSITION) if name in raw.schema.names]
        rows = bad.drop_columns(added_columns).to_pylist()
        texts = [json_text(row, ensure_ascii=False) for row in rows]
    return rejected(bad.column(PLACE), bad.column(LINE), faults.reasons(), texts)
