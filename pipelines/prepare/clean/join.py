"""Reads the side tables once and writes them where workers map them into memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipelines.prepare.clean import derive
from pipelines.prepare.clean.tables import SideTable, write_table
from pipelines.prepare.needs import Needs
from pipelines.prepare.plan import Plan, TablePlan
from pipelines.prepare.read import reading, sources
from pipelines.prepare.read.columns import NumberFormat, as_numbers, as_text
from pipelines.prepare.remarks import Remark, rejected_remark
from pipelines.prepare.rows import LINE, PLACE, TEXT, rejected
from pipelines.prepare.write.rejects import Locator, Rejections, write_rejected

_SHOWN_KEYS = 3


@dataclass(frozen=True)
class ReadTable:
    """A side table that was read.

    Attributes:
        side: where workers find it.
        rows: rows in it.
        rejections: its bad rows, and those whose key an earlier row had.
        keys: some of its keys.
        remark: what is to be said about it.
    """

    side: SideTable
    rows: int
    rejections: Rejections
    keys: list[str]
    remark: Remark


def read_table(plan: Plan, table: TablePlan, directory: Path, rejected_rows: Path) -> ReadTable:
    """Reads one side table.

    Args:
        plan: what is to be done.
        table: the table.
        directory: where to write it.
        rejected_rows: where to write its bad rows, if it has any.
    """
    rules = plan.experiment.data.derive
    columns = {
        table.source.key,
        *table.brings,
        *(c for name in table.derives for c in derive.inputs(rules[name])),
    }
    needed = Needs(dict.fromkeys(sorted(columns), f"data.tables.{table.name}"), {})
    sources.check_columns(list(table.files), needed.all, needed, table.source)
    batches, bad = [], []
    lines: Counter[tuple[int, int]] = Counter()
    for block in reading.blocks(list(table.files)):
        for part in reading.read(block, table.files[block.file], table.source, needed):
            batches += part.rows
            bad += [] if part.rejected is None else [part.rejected]
            lines[block.file, block.start] += part.lines
    names = [*needed.all, PLACE, LINE]
    texts: list[object] = [value for rows in batches for value in _texts(rows)]
    merged = {
        name: pa.concat_arrays([_plain(rows.column(name)) for rows in batches])
        if batches
        else pa.array([], pa.string())
        for name in names
    }
    form = NumberFormat(table.source.decimal, table.source.thousands)
    brought = {name: _compact(merged[name], name in plan.needs.numbers, form) for name in table.brings}
    for name in table.derives:
        brought[name] = _compact(derive.derive(rules[name], merged), name in plan.needs.numbers, form)
    path = directory / f"{table.name}.arrow"
    dropped = write_table(merged[table.source.key], brought, path)
    if len(dropped):
        keys = merged[table.source.key].take(pa.array(dropped)).to_pylist()
        reasons = [f"repeats the key: {key!r}" if key else "has no key" for key in keys]
        at = pa.array(dropped)
        bad.append(
            rejected(merged[PLACE].take(at), merged[LINE].take(at), reasons, [texts[i] for i in dropped])
        )
    side = SideTable(table.source.key, tuple(brought), str(path))
    rejections = Rejections()
    if bad:
        rejected_rows.parent.mkdir(exist_ok=True)
        locator = Locator(table.files, reading.lines_before(list(table.files), lines))
        rejections = write_rejected([pa.concat_batches(bad).sort_by(PLACE)], locator, rejected_rows)
    rows = len(merged[table.source.key]) - len(dropped)
    remark = rejected_remark(f"tables.{table.name}", rows + rejections.rows, rejections)
    keys = [str(key) for key in merged[table.source.key][:_SHOWN_KEYS].to_pylist()]
    return ReadTable(side, rows, rejections, keys, remark)


def _texts(rows: pa.RecordBatch) -> list[object]:
    if TEXT in rows.schema.names:
        return rows.column(TEXT).to_pylist()
    return [str(row) for row in rows.drop_columns([PLACE, LINE]).to_pylist()]


def _plain(column: pa.Array) -> pa.Array:
    return column if pa.types.is_integer(column.type) else as_text(column).dictionary_decode()


def _compact(column: pa.Array, number: bool, form: NumberFormat) -> pa.Array:
    """Numbers as float64 if all of them are, so that they are parsed once; else dictionary-encoded text."""
    if number:
        values, bad = as_numbers(column, form)
        if not bad.any():
            return pa.array(values)
    return as_text(column)
