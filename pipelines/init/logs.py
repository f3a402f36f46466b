"""What the files of a log, or of a side table, probably hold: their first rows are read and looked at."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.init.columns import ColumnGuess, guess_column, is_numeric
from pipelines.init.form import FileForm, sniff
from pipelines.init.impressions import describe_impressions
from pipelines.init.names import split_part
from pipelines.prepare.needs import Needs
from pipelines.prepare.read import reading, sources
from pipelines.prepare.read.columns import NumberFormat, as_numbers, as_text, decode
from pipelines.prepare.read.files import find
from pipelines.prepare.read.libsvm import INDEX
from pipelines.prepare.read.parquet import is_list, unusable
from pipelines.prepare.remarks import NULL_MARKERS
from pipelines.prepare.rows import PLACE
from ranker.config import Data, Source
from ranker.errors import UserError

_ENDINGS = {
    ".csv",
    ".tsv",
    ".txt",
    ".dat",
    ".parquet",
    ".pq",
    ".json",
    ".jsonl",
    ".ndjson",
    ".libsvm",
    ".svm",
    ".libfm",
    ".gz",
    ".bz2",
    ".xz",
    ".zst",
}
_MAX_SPARSE = 1000  # indices of a sparse file that become features
_LARGEST = float(np.finfo(np.float32).max)
_SURE_MARKERS = (
    "NULL",
    "null",
    "\\N",
    "NaN",
    "nan",
    "N/A",
    "n.a.",
    "#N/A",
    "(null)",
)  # missing among words too
_UNUSABLE = re.compile(" is not utf-8 text$| is a list of (object|list)s$| is an object; ")
_NUMBER_FORMATS = (
    NumberFormat(),
    NumberFormat(".", ","),
    NumberFormat(","),
    NumberFormat(",", "."),
    NumberFormat(",", " "),
    NumberFormat(".", "'"),
)


@dataclass
class FileGuess:
    """What the files of one source probably hold.

    Attributes:
        paths: of the files, which have the same columns.
        form: keys of the source that differ from the defaults, with reasons.
        columns: by the name that the configuration uses.
        texts: the columns' text, empty where missing.
        rows: rows looked at, entries of exploded lists.
        numbers: how numbers are written.
        derive: column to its rule and the reason.
        source_row: for each row, which row of the file it comes from.
        clicks: of an exploded log, the column of 0 and 1 that is the label, or
        chosen: the exploded column and the one that names the entry that was chosen.
    """

    paths: list[Path]
    form: FileForm
    columns: dict[str, ColumnGuess]
    texts: dict[str, pa.Array]
    rows: int
    numbers: NumberFormat = field(default_factory=NumberFormat)
    derive: dict[str, tuple[dict[str, str], str]] = field(default_factory=dict)
    source_row: np.ndarray | None = None
    clicks: str | None = None
    chosen: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """Of the files, for people and as a key: their name without its usual endings, or what their names share."""
        names = [path.name for path in self.paths]
        while (suffix := Path(names[0]).suffix.lower()) in _ENDINGS:
            names[0] = names[0][: -len(suffix)]
        shared = [
            first for first, *rest in zip(*names, strict=False) if all(first == letter for letter in rest)
        ]
        # Of `rank.train` and `rank.test` the whole words that are shared.
        prefix = names[0] if len(names) == 1 else re.sub(r"[._ -]+[^._ -]*$", "", "".join(shared))
        return plain_name(prefix if len(prefix) > 1 else self.paths[0].resolve().parent.name)


def inspect(paths: Sequence[Path], rows: int) -> list[FileGuess]:
    """Guesses what files hold; those that are parts of one log go together.

    Args:
        paths: the files.
        rows: rows of each log or table to look at.

    Raises:
        UserError: a file cannot be read.
    """
    groups: dict[Any, tuple[FileForm, list[Path]]] = {}
    for path in paths:
        form = sniff(path)
        key = _kind_of_file(path, form)
        groups.setdefault(key, (form, []))[1].append(path)
    return [_inspect_together(members, form, rows) for form, members in groups.values()]


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files, with those of each directory in its place."""
    files: list[Path] = []
    for path in map(Path.resolve, paths):
        files += [Path(file.path) for file in find(str(path), str(path))] if path.is_dir() else [path]
    return files


def _kind_of_file(path: Path, form: FileForm) -> Any:
    """What is equal for the parts of one log: form, columns and, without a header, the name but for its number or part."""
    opened_file = _open([path], form)[0]
    settings = repr(sorted((key, value) for key, value in form.settings.items() if key != "encoding"))
    if form.settings.get("format") == "libsvm" or "columns" in form.settings:
        return settings, _words_of_the_log(path)
    partitions = tuple(name for name, _ in opened_file.partitions)
    if form.settings.get("format") == "json":  # fields without a value may be left out
        return settings, _words_of_the_log(path), partitions
    return settings, frozenset(opened_file.columns), partitions


def _words_of_the_log(path: Path) -> tuple[str, ...]:
    """The words of a file's name but for those that say which part of the log it is."""
    words = re.split(r"[^A-Za-z]+", path.name)
    return tuple(word for word in words if word and split_part(word) is None)


def _open(paths: Sequence[Path], form: FileForm) -> list[sources.Opened]:
    names = [str(path) for path in paths]
    source = Source.model_validate({"path": names if len(names) > 1 else names[0], **form.settings})
    opened = sources.open_source(source, _data(source, paths))
    for opened_file in opened:
        if opened_file.fault or not opened_file.columns:
            raise UserError(f"{opened_file.file.path}: {opened_file.fault or 'is empty'}")
    return opened


def _data(source: Source, paths: Sequence[Path]) -> Data:
    split = {"by": "hash", "of": "x"}
    tree = {"root": str(common_root(paths)), "events": source, "label": "x", "request": ["x"], "split": split}
    return Data.model_validate(tree)


def common_root(paths: Sequence[Path]) -> Path:
    """The directory that all files are in, above those that name partitions (`date=2024-01-31`)."""
    root = Path(os.path.commonpath([path.resolve().parent for path in paths]))
    partitions = [parent for parent in (root, *root.parents) if "=" in parent.name]
    return partitions[-1].parent if partitions else root


def _inspect_together(paths: list[Path], form: FileForm, rows: int) -> FileGuess:
    opened = _open(paths, form)
    renames = _plain_names(opened[0].columns)
    if renames:
        form.choose("rename", renames, "names that features can have")
        opened = _open(paths, form)
    names = _usable_columns(opened[0], form)
    columns, _ = _read_columns(paths, form, names, rows)
    names = list(columns)
    derive: dict[str, tuple[dict[str, str], str]] = {}
    texts = {name: decode(as_text(column)) for name, column in columns.items()}
    clicks, chosen = describe_impressions(columns, texts, form, derive)
    source_row = None
    if clicks is not None or chosen is not None:
        names = [name for name in names if name in columns]
        columns, source_row = _read_columns(paths, form, names, rows)
        for name, (rule, _) in derive.items():
            groups = pc.extract_regex(
                decode(as_text(columns[rule["extract"]])), f"(?s){_named(rule['pattern'])}"
            )
            columns[name] = pc.struct_field(groups, "group")
        for rule, _ in derive.values():
            columns.pop(rule["extract"], None)
        texts = {name: decode(as_text(column)) for name, column in columns.items()}
    lists = {name for name, column in columns.items() if is_list(column.type)}
    markers = _null_markers(texts)
    if columns_left := _indices_left_out(opened[0], form):
        form.reasons["left_out"] = columns_left
    if markers:
        form.choose("null_values", markers, "stand among numbers, or often among text")
        blank = pa.array(markers)
        texts = {name: pc.if_else(pc.is_in(text, blank), "", text) for name, text in texts.items()}
    numbers = _number_format(texts)
    too_large = _too_large(texts, numbers)
    if too_large:
        # A typed number has no text of its own.
        marks = (
            too_large
            if form.settings.get("format") == "delimited"
            else [repr(float(mark)) for mark in too_large]
        )
        form.choose(
            "null_values",
            [*markers, *marks],
            "stand among numbers, and are no number that a model can hold",
        )
        texts = {
            name: pc.if_else(pc.is_in(text, pa.array(too_large)), "", text) for name, text in texts.items()
        }
    if numbers.decimal != ".":
        form.choose("decimal", numbers.decimal, "so more columns are numbers")
    if numbers.thousands:
        form.choose("thousands", numbers.thousands, "so more columns are numbers")
    guesses = {name: guess_column(name, text, numbers, name in lists) for name, text in texts.items()}
    row_count = len(next(iter(texts.values())))
    log = FileGuess(paths, form, guesses, texts, row_count, numbers, derive, source_row, clicks, chosen)
    _derive_bracketed(log)
    return log


def _named(pattern: str) -> str:
    return pattern.replace("(", "(?P<group>", 1)


def _plain_names(columns: Sequence[str]) -> dict[str, str]:
    """Column to a name that a feature can have, where it has none."""
    renames: dict[str, str] = {}
    for name in columns:
        plain = plain_name(name)
        if plain == name:
            continue
        number, candidate = 2, plain
        while candidate in renames.values() or candidate in columns:
            candidate, number = f"{plain}_{number}", number + 1
        renames[name] = candidate
    return renames


def plain_name(name: str) -> str:
    """A name with letters, digits, `_`, `.` and `-` only."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")[:100]
    return plain or "column"


def _usable_columns(opened_file: sources.Opened, form: FileForm) -> list[str]:
    types = dict(opened_file.types)
    is_sparse = form.settings.get("format") == "libsvm"
    return [
        name
        for name in opened_file.columns
        if name not in types or unusable(types[name], False, False) is None
        if not (is_sparse and (match := INDEX.fullmatch(name)) and int(match[1]) > _MAX_SPARSE)
    ]


def _read_columns(
    paths: Sequence[Path], form: FileForm, names: Sequence[str], rows: int
) -> tuple[dict[str, pa.Array], np.ndarray]:
    """(the columns of the first rows of all files, the place of each row)."""
    opened = _open(paths, form)
    source = Source.model_validate({"path": [str(path) for path in paths], **form.settings})
    needs = Needs(dict.fromkeys(names, "init"), {})
    share = -(-rows // len(opened))
    batches: list[pa.RecordBatch] = []
    rejected: Counter[str] = Counter()
    for opened_file in opened:
        count = 0
        for block in reading.blocks([opened_file]):
            for part in reading.read(block, opened_file, source, needs):
                batches += [batch.slice(0, share - count) for batch in part.rows]
                count += sum(batch.num_rows for batch in part.rows)
                reasons = [] if part.rejected is None else part.rejected.column("reason").to_pylist()
                rejected.update(reason.partition(":")[0] for reason in reasons)
                if count >= share:
                    break
            if count >= share:
                break
    unusable_names = {reason.partition(" is ")[0] for reason in rejected if _UNUSABLE.search(reason)} & set(
        names
    )
    if unusable_names:
        # Columns of bytes that are no text, and of lists of objects, are no features.
        return _read_columns(paths, form, [name for name in names if name not in unusable_names], rows)
    if not batches or not sum(batch.num_rows for batch in batches):
        reason = f": each {rejected.most_common(1)[0][0]}" if rejected else ""
        raise UserError(f"{paths[0]}: none of its first rows can be read{reason}")
    if rejected:
        reason, count = rejected.most_common(1)[0]
        form.reasons["rejected"] = (
            f"{rejected.total():,} of the first rows cannot be read; most often one {reason}"
        )
    columns = {name: _joined([batch.column(name) for batch in batches]) for name in names}
    places = np.concatenate([batch.column(PLACE).to_numpy() for batch in batches])
    return columns, np.unique(places, return_inverse=True)[1]


def _joined(parts: list[pa.Array]) -> pa.Array:
    types = {part.type for part in parts}
    if len(types) == 1 and not pa.types.is_dictionary(parts[0].type):
        return pa.concat_arrays(parts)
    return pa.concat_arrays([decode(as_text(part)) for part in parts])


def _derive_bracketed(log: FileGuess) -> None:
    """Lists in brackets become columns without them."""
    for name, column in list(log.columns.items()):
        if column.kind == "list" and column.brackets:
            inner = f"{name}_list"
            log.derive[inner] = ({"extract": name, "pattern": r"^\[(.*)\]$"}, "the list without its brackets")
            log.columns[inner] = column
            log.texts[inner] = log.texts.pop(name)
            del log.columns[name]


def _null_markers(texts: dict[str, pa.Array]) -> list[str]:
    """Markers of missing values: those among numbers, and those that are no plausible word."""
    markers = Counter[str]()
    for text in texts.values():
        counts = {entry["values"].as_py() or "": entry["counts"].as_py() for entry in pc.value_counts(text)}
        present = {marker: counts[marker] for marker in NULL_MARKERS if marker in counts}
        if not present:
            continue
        rest = text.filter(pc.invert(pc.is_in(text, pa.array(["", *present]))))
        if len(rest) and any(is_numeric(rest, form) for form in _NUMBER_FORMATS):
            markers.update(present)
        else:
            markers.update({marker: count for marker, count in present.items() if marker in _SURE_MARKERS})
    return [marker for marker, _ in markers.most_common()]


def _too_large(texts: dict[str, pa.Array], form: NumberFormat) -> list[str]:
    """Numbers beyond float32, which stand for a missing value: `1.7976931348623157e+308`."""
    marks = Counter[str]()
    for text in texts.values():
        if is_numeric(text, form):
            distinct = pc.unique(text)
            values = as_numbers(distinct, form)[0]
            marks.update(
                distinct.filter(pa.array(np.isfinite(values) & (np.abs(values) > _LARGEST))).to_pylist()
            )
    return [mark for mark, _ in marks.most_common()]


def _indices_left_out(opened_file: sources.Opened, form: FileForm) -> str | None:
    """What is to be said of a sparse file with more indices than become features."""
    if form.settings.get("format") != "libsvm":
        return None
    indices = [int(match[1]) for name in opened_file.columns if (match := INDEX.fullmatch(name))]
    largest = max(indices, default=0)
    if largest <= _MAX_SPARSE:
        return None
    return f"indices beyond {_MAX_SPARSE:,}, up to {largest:,}, are left out of the features"


def _number_format(texts: dict[str, pa.Array]) -> NumberFormat:
    """The number format that makes the most columns numbers; plain ones where that is as good."""
    plain = NumberFormat()
    rest = [text for text in texts.values() if not is_numeric(text, plain)]
    # A format that makes none of the rest numbers is no better, and most often none does.
    formats = [form for form in _NUMBER_FORMATS if any(is_numeric(text, form) for text in rest)]
    if not formats:
        return plain

    def count(form: NumberFormat) -> tuple[int, bool]:
        return sum(is_numeric(text, form) for text in texts.values()), form.is_plain

    return max([plain, *formats], key=count)


def numbers_of(log: FileGuess, name: str) -> np.ndarray:
    """A column as float64 [rows], NaN where missing."""
    return as_numbers(log.texts[name], log.numbers)[0]
