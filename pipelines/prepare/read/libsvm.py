"""libsvm (svmlight) text: `label qid:7 3:0.5 10:1 # comment`, sparse numbers by index.

The columns are `label`, `qid` and `f<index>` for every index; an index that a line does not have is 0 there. Where every
line has the same places (libfm: `1 42:1 1572:1`), `columns` may name the label and the index at each place instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.prepare.read.columns import TEXT_TYPE, as_numbers
from pipelines.prepare.read.lines import MAX_LINE_BYTES, TOO_LONG, Lines
from pipelines.prepare.rows import FILE_SHIFT, LINE, PLACE, TEXT, rejected

INDEX = re.compile(r"f(\d+)")
_KEPT_BYTES = 4096
_TOKEN = r"^(?P<index>[0-9]{1,18}):(?P<value>[^:]+)$"


@dataclass(frozen=True)
class Sparse:
    """Which columns of the lines are wanted.

    Attributes:
        names: the wanted columns: `label`, `qid`, `f<index>`, or names of `places`.
        places: names of the label and of the index at each place, if all lines have the same.
        group_ends: for each file with groups of its own, how many lines its first groups have, added up, and
        group_name: what the names of its groups begin with.
    """

    names: tuple[str, ...]
    places: tuple[str, ...] | None = None
    group_ends: tuple[int, ...] | None = None
    group_name: str = ""


def largest_index(data: bytes) -> int:
    """The largest index in some lines; 0 without any."""
    return max((int(index) for index in re.findall(rb"(?<=[ \t])(\d{1,18}):", data)), default=0)


def parse(lines: Lines, sparse: Sparse, file: int) -> tuple[list[pa.RecordBatch], pa.RecordBatch | None]:
    """Reads lines.

    Args:
        lines: whole lines of a file that is read from its beginning.
        sparse: what is wanted of them.
        file: the file's index, part of every row's place.

    Returns:
        (rows, rejected), the latter None if there is none. Empty lines and comments are in neither.
    """
    base = (file << FILE_SHIFT) + lines.place
    if lines.fault is not None:
        return [], rejected([base], [lines.line], [lines.fault], [lines.data])
    raw = lines.data.split(b"\n")[:-1]
    starts = np.concatenate([[0], np.cumsum([len(line) + 1 for line in raw])[:-1]]).astype(np.uint64)
    bodies = [line.partition(b"#")[0].decode("utf-8", "replace").split() for line in raw]
    chosen = np.array([index for index, tokens in enumerate(bodies) if tokens], np.int64)
    if not len(chosen):
        return [], None
    reasons: dict[int, str] = {int(index): TOO_LONG for index in chosen if len(raw[index]) > MAX_LINE_BYTES}
    read = _placed if sparse.places is not None else _sparse
    columns = read([bodies[index] for index in chosen], chosen, sparse, reasons)
    if sparse.group_ends is not None:
        columns["qid"] = _groups(chosen + lines.line, chosen, sparse, reasons)
    is_good = np.array([int(index) not in reasons for index in chosen])
    rows = []
    if is_good.any():
        good = pa.array(np.flatnonzero(is_good))
        arrays = {name: columns[name].take(good) for name in sparse.names if name in columns}
        good_lines = chosen[is_good]
        arrays[PLACE] = pa.array(starts[good_lines] + np.uint64(base))
        arrays[LINE] = pa.array(good_lines + lines.line)
        arrays[TEXT] = pa.array([raw[index][:_KEPT_BYTES] for index in good_lines], pa.binary())
        rows.append(pa.RecordBatch.from_pydict(arrays))
    if not reasons:
        return rows, None
    where = np.array(sorted(reasons))
    texts = [raw[index][:_KEPT_BYTES] for index in where]
    return rows, rejected(
        starts[where] + np.uint64(base),
        where + lines.line,
        [reasons[index] for index in where.tolist()],
        texts,
    )


def _placed(
    bodies: list[list[str]], chosen: np.ndarray, sparse: Sparse, reasons: dict[int, str]
) -> dict[str, pa.Array]:
    places = sparse.places or ()
    for index, tokens in zip(chosen.tolist(), bodies, strict=True):
        if len(tokens) != len(places):
            text = f"has another number of fields: {len(tokens)} where {len(places)} columns are expected"
            reasons.setdefault(index, text)
    columns = {}
    for name in sparse.names:
        if name in places:
            at = places.index(name)
            texts = [tokens[at].removesuffix(":1") if at < len(tokens) else "" for tokens in bodies]
            columns[name] = _text(texts)
    return columns


def _sparse(
    bodies: list[list[str]], chosen: np.ndarray, sparse: Sparse, reasons: dict[int, str]
) -> dict[str, pa.Array]:
    columns = {"label": _text([tokens[0] for tokens in bodies])}
    has_group = [len(tokens) > 1 and tokens[1].startswith("qid:") for tokens in bodies]
    columns["qid"] = _text(
        [tokens[1][4:] if grouped else "" for tokens, grouped in zip(bodies, has_group, strict=True)]
    )
    entries = [tokens[1 + grouped :] for tokens, grouped in zip(bodies, has_group, strict=True)]
    row = np.repeat(np.arange(len(entries)), [len(tokens) for tokens in entries])
    flat = pa.array([token for tokens in entries for token in tokens], pa.string())
    parts = pc.extract_regex(flat, _TOKEN)
    is_pair = parts.is_valid().to_numpy(zero_copy_only=False)
    index_text, value_text = (pc.struct_field(parts, name) for name in ("index", "value"))
    values, bad = as_numbers(value_text)
    wrong = ~is_pair | bad | np.isnan(values)
    for at in np.flatnonzero(wrong).tolist():
        reasons.setdefault(
            int(chosen[row[at]]), f"has an entry that is not index:number: {flat[at].as_py()[:80]!r}"
        )
    index = index_text.cast(pa.int64()).fill_null(-1).to_numpy()
    order = np.lexsort((row, index))
    index, row, values = index[order], row[order], values[order]
    twice = np.flatnonzero((index[1:] == index[:-1]) & (row[1:] == row[:-1]) & (index[1:] >= 0))
    for at in twice.tolist():
        reasons.setdefault(int(chosen[row[at]]), f"has an index twice: {index[at]}")
    for name in sparse.names:
        match = INDEX.fullmatch(name)
        if match:
            low, high = np.searchsorted(index, [int(match[1]), int(match[1]) + 1])
            dense = np.zeros(len(entries))
            dense[row[low:high]] = values[low:high]
            columns[name] = pa.array(dense)
    return columns


def _groups(numbers: np.ndarray, chosen: np.ndarray, sparse: Sparse, reasons: dict[int, str]) -> pa.Array:
    """The name of each line's group; the sizes of the groups count all lines of the file."""
    ends = np.array(sparse.group_ends)
    group = np.searchsorted(ends, numbers, side="right")
    for index in chosen[group >= len(ends)].tolist():
        reasons.setdefault(
            index, f"is in no group: the groups have {int(ends[-1]) if len(ends) else 0:,} lines"
        )
    return _text([f"{sparse.group_name}:{number}" for number in group.tolist()])


def _text(values: list[str]) -> pa.DictionaryArray:
    return pa.array(values, pa.string()).dictionary_encode().cast(TEXT_TYPE)
