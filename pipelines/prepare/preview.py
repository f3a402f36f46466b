"""The first rows of a log as `prepare` would read them, in this process and without an engine."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.prepare.clean.cleaner import Cleaner
from pipelines.prepare.clean.join import ReadTable, read_table
from pipelines.prepare.finish import join_remarks
from pipelines.prepare.plan import Plan, files_by_split, make_plan
from pipelines.prepare.read import reading
from pipelines.prepare.remarks import Limits, Remark, rejected_remark
from pipelines.prepare.rows import PLACE
from pipelines.prepare.write.rejects import Locator, Rejections, write_rejected
from ranker.config import Experiment
from ranker.files import temporary_directory


@dataclass(frozen=True)
class Preview:
    """What became of the first rows.

    Attributes:
        rows: batches of good rows, as `Cleaned.rows`.
        rejections: the rejected rows of the log, whose text is in `DIRECTORY/events.jsonl`.
        tables: the side tables, which were read whole.
        remarks: what is to be said about rows, tables and joins.
        is_whole: whether these are all rows.
    """

    rows: list[pa.RecordBatch]
    rejections: Rejections
    tables: dict[str, ReadTable]
    remarks: list[Remark]
    is_whole: bool

    @property
    def rows_read(self) -> int:
        """Rows of the log that were read, good and rejected."""
        return sum(batch.num_rows for batch in self.rows) + self.rejections.rows

    def refuse(self, experiment: Experiment) -> None:
        """Raises a UserError if `prepare` would refuse these rows."""
        limits = Limits(experiment.data.max_rejected, experiment.data.min_joined)
        for remark in self.remarks:
            if not remark.subject.startswith("features."):
                limits.refuse(remark)


def check_rows(experiment: Experiment, limit: int) -> Preview:
    """Reads the first rows of a log, with what is to be said about its features.

    Raises:
        UserError: a file or a column is missing, or cannot serve.
    """
    with temporary_directory() as scratch:
        return preview(make_plan(experiment), scratch, limit)


def preview(plan: Plan, directory: Path, limit: int) -> Preview:
    """Reads the side tables, and the log from its beginning until at least `limit` rows have been seen.

    Args:
        plan: what is to be done.
        directory: an empty directory for the tables and the rejected rows.
        limit: rows of the log. They come from all files in turn, as many from each.
    """
    tables = {
        table.name: read_table(plan, table, directory, directory / "rejected" / f"{table.name}.jsonl")
        for table in plan.tables
    }
    sides = {name: table.side for name, table in tables.items()}
    held_out = files_by_split(
        plan.experiment.data.split, [opened_file.file.name for opened_file in plan.events]
    )
    cleaner = Cleaner(plan.experiment, sides, plan.log_derives, plan.derives, held_out)
    rows: list[pa.RecordBatch] = []
    bad: list[pa.RecordBatch] = []
    tally: Counter[tuple[Any, ...]] = Counter()
    lines: Counter[tuple[int, int]] = Counter()
    seen: Counter[int] = Counter()
    is_whole, share = True, -(-limit // len(plan.events))
    for block in reading.blocks(list(plan.events)):
        if seen[block.file] >= share:
            is_whole = False
            continue
        for part in reading.read(block, plan.events[block.file], plan.experiment.data.events, plan.needs):
            lines[block.file, block.start] += part.lines
            bad += [] if part.rejected is None else [part.rejected]
            for raw in part.rows:
                raw = raw.slice(0, max(0, share - seen[block.file]))
                seen[block.file] += raw.num_rows
                tally["looked_up",] += raw.num_rows
                for cleaned in cleaner(raw):
                    tally.update(cleaned.tally())
                    rows += [] if cleaned.rows is None else [cleaned.rows]
                    bad += [] if cleaned.rejected is None else [cleaned.rejected]
            if seen[block.file] >= share:
                is_whole = False
                break
    locator = Locator(plan.events, reading.lines_before(list(plan.events), lines))
    batches = [pa.concat_batches(bad).sort_by(PLACE)] if bad else []
    rejections = write_rejected(batches, locator, directory / "events.jsonl")
    total = sum(batch.num_rows for batch in rows) + rejections.rows
    remarks = [rejected_remark("events", total, rejections), *(table.remark for table in tables.values())]
    return Preview(rows, rejections, tables, [*remarks, *join_remarks(tables, tally, locator)], is_whole)
