"""The measures of parts of the rows, by the values of a column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ranker.divergence import Comparison, RequestMeasures, measure_requests
from ranker.errors import UserError
from ranker.scored.align import AlignedScores
from ranker.slices import MISSING, MOST_VALUES, Cut
from ranker.text import arrow_texts


@dataclass(frozen=True, eq=False)
class SliceComparison:
    """The measures of a part of the rows.

    Attributes:
        column: by which the rows are divided.
        value: of the column in this part; a range of numbers, `(other)` or `(missing)`.
        by_request: the column has one value in each request. If not, a request's candidates of this value are compared
            as a list of their own.
        rows: of the part.
        comparison: statistics of the pairs and of the mean over pairs, of the part's requests.
    """

    column: str
    value: str
    by_request: bool
    rows: int
    comparison: Comparison

    @property
    def requests(self) -> int:
        """Requests with at least two candidates in the part that a pair of models scored completely."""
        return rankable_requests(self.comparison)


def rankable_requests(comparison: Comparison) -> int:
    """Requests with at least two candidates that a pair of models scored completely."""
    statistic = comparison.means.get("top1_swap")
    return statistic.n if statistic is not None else 0


@dataclass(eq=False)
class ColumnCut:
    """A column's parts, and their comparisons so far.

    Attributes:
        cut: how the values fall into parts.
        names: of the parts, in the order in which they are shown.
        parts: position of each row's part in `names`, int64 [R].
        bounds: first row of each request, int64 [N + 1].
        comparisons: of each part.
        notes: what a reader should know of the column.
    """

    cut: Cut
    names: list[str]
    parts: np.ndarray
    bounds: np.ndarray
    comparisons: list[Comparison]
    notes: tuple[str, ...]

    @staticmethod
    def of(aligned: AlignedScores, name: str) -> ColumnCut:
        """The parts of a column.

        Raises:
            UserError: the rows have no such column.
        """
        if name not in aligned.columns:
            columns = ", ".join(aligned.columns) or "none"
            raise UserError(f"a slice must be by a column of the rows. Received: {name}, of {columns}")
        column = aligned.columns[name]
        codes = column.codes
        bounds = aligned.request_bounds()
        lowest, highest = (extreme.reduceat(codes, bounds[:-1]) for extreme in (np.minimum, np.maximum))
        by_request = bool((lowest == highest).all())
        if not pa.types.is_string(column.values.type) and len(column.values) > MOST_VALUES:
            distinct = column.values.cast(pa.float64()).to_numpy()
            cut = Cut.of_numbers(name, by_request, distinct[codes[codes >= 0]])
            shown = cut.parts(distinct)
        else:
            texts = arrow_texts(column.values).to_numpy(zero_copy_only=False)
            counts = np.bincount(codes[codes >= 0], minlength=len(texts))
            ascending = np.argsort(texts) if len(texts) else np.zeros(0, np.int64)
            cut = Cut.of_texts(name, by_request, texts[ascending], counts[ascending])
            shown = cut.parts(texts)
        names = list(cut.part_names)
        place = {part: position for position, part in enumerate(names)}
        of_value = np.array([*(place[part] for part in shown), place[MISSING]], np.int64)
        note = f"column {name}: {column.contradicted:,} rows have another value than the first row of their request and item"
        return ColumnCut(
            cut=cut,
            names=names,
            parts=of_value[codes],
            bounds=bounds,
            comparisons=[Comparison.empty()] * len(names),
            notes=(note,) if column.contradicted else (),
        )

    def add(self, measured: RequestMeasures) -> None:
        """Adds a batch, whose requests are positions in those of all rows, one after the other."""
        batch = measured.batch
        first = self.bounds[batch.requests]
        parts = self.parts[first[0] + batch.rows] if len(batch) else self.parts[:0]
        for position in np.unique(parts).tolist():
            if self.cut.by_request:
                part = measured.summarise(self.parts[first] == position)
            else:
                part = measure_requests(batch.take_rows(parts == position), measured.settings).summarise()
            self.comparisons[position] = self.comparisons[position].merge(part)

    def slices(self) -> list[SliceComparison]:
        """The parts that have rows."""
        rows = np.bincount(self.parts, minlength=len(self.names)).tolist()
        return [
            SliceComparison(self.cut.feature, name, self.cut.by_request, count, comparison)
            for name, count, comparison in zip(self.names, rows, self.comparisons, strict=True)
            if count
        ]
