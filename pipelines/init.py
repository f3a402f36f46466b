"""Proposes a configuration for an undescribed log: what its columns probably are, and why.

Everything is a guess from the first rows, written beside its evidence. What the rows cannot say is a question in the file.
"""

from __future__ import annotations

import csv
import io
import json
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

from pipelines.prepare.needs import Needs
from pipelines.prepare.read import lines, sources
from pipelines.prepare.read.columns import NumberFormat, as_numbers, as_text, as_times, decode
from pipelines.prepare.read.libsvm import INDEX
from pipelines.prepare.read.parquet import is_list, unusable
from pipelines.prepare.remarks import NULL_MARKERS
from ranker.config import Data, Source
from ranker.errors import UserError
from ranker.json_text import json_text

_SNIFFED_LINES = 200
_MOST_GRADES = 11  # distinct whole numbers that may be grades
_MAX_SPARSE = 300  # indices of a sparse file that become features
_MOSTLY = 0.99  # of the groups, from which a column counts as constant within them
_YAML_WORDS = {"null", "true", "false", "yes", "no", "y", "n", "on", "off"}
_DELIMITERS = ("\t", ",", ";", "::", "|", " ")
_FEW = 30  # distinct values that make numbers look like codes
_LABEL_NAMES = ("label", "click", "clicked", "is_click", "target", "purchase", "bought", "buy", "liked", "like", "converted",
                "conversion", "watched", "relevance", "y")  # fmt: skip
_RATING_NAMES = ("rating", "stars", "score", "grade")
_USER_NAMES = ("user", "session", "query", "request", "visitor", "customer", "qid", "impression", "search")
_ITEM_NAMES = (
    "item",
    "product",
    "movie",
    "doc",
    "article",
    "app",
    "ad",
    "song",
    "book",
    "candidate",
    "listing",
    "news",
    "video",
)
_KEY_WORDS = {"id", "key", "no", "nr", "number", "code", "hash", "uid"}
_TIME_NAMES = ("time", "date", "timestamp", "datetime", "created", "when", "ts")


@dataclass
class ColumnGuess:
    """What one column probably is.

    Attributes:
        name: of the column.
        kind: `id`, `category`, `number`, `row number`, `time`, `flag`, `list` or `constant`.
        distinct: distinct values among the rows looked at.
        missing: rows without a value.
        rows: rows looked at.
        evidence: why, in words.
        values: some of its values.
        separator: of a list that is text.
    """

    name: str
    kind: str
    distinct: int
    missing: int
    rows: int
    evidence: str
    values: list[str] = field(default_factory=list)
    separator: str = "|"


@dataclass
class FileGuess:
    """What one file probably is.

    Attributes:
        path: of the file.
        settings: keys of the source that differ from the defaults, and
        reasons: why, by key.
        columns: by name.
        texts: the columns' text.
        rows: rows looked at.
    """

    path: Path
    settings: dict[str, Any]
    reasons: dict[str, str]
    columns: dict[str, ColumnGuess]
    texts: dict[str, pa.Array]
    rows: int


def propose(paths: Sequence[Path], rows: int) -> str:
    """Inspects files and writes a configuration that runs.

    Args:
        paths: the log and its side tables, in any order.
        rows: rows of each file to look at.

    Returns:
        YAML with comments.

    Raises:
        UserError: a file cannot be read, or no column of any of them can be a label.
    """
    guesses = [inspect(path, rows) for path in paths]
    labels = [_label(guess) for guess in guesses]
    candidates = [at for at, label in enumerate(labels) if label is not None]
    if not candidates:
        raise UserError(
            f"{paths[0]}: no column can be a label: none is 0/1, true/false, or a rating;"
            f" there is: {', '.join(name for guess in guesses for name in guess.columns)}"
        )
    log = max(candidates, key=lambda at: (guesses[at].rows, -at))
    tables = [guess for at, guess in enumerate(guesses) if at != log]
    label = labels[log]
    assert label is not None
    return _write(guesses[log], tables, label)


def inspect(path: Path, rows: int) -> FileGuess:
    """Guesses what one file holds.

    Raises:
        UserError: it cannot be read.
    """
    settings, reasons = _form(path)
    source = Source.model_validate({"path": str(path), **settings})
    data = Data.model_validate({
        "root": ".", "events": source, "label": "x", "request": ["x"], "split": {"by": "hash", "of": "x"},
    })  # fmt: skip
    sparse_names = [f"f{number}" for number in range(1, _MAX_SPARSE + 1)] if source.format == "libsvm" else []
    opened = sources.open_source(source, data)
    first_file = opened[0]
    if first_file.fault or not first_file.columns:
        raise UserError(f"{path}: {first_file.fault or 'is empty'}")
    types = dict(first_file.types)
    names = [
        name
        for name in first_file.columns
        if name not in types or unusable(types[name], False, False) is None
    ]
    names = [
        name
        for name in names
        if source.format != "libsvm" or not INDEX.fullmatch(name) or name in sparse_names
    ]
    needs = Needs(dict.fromkeys(names, "a look"), {})
    batches: list[pa.RecordBatch] = []
    rejected = 0
    for block in sources.blocks(opened):
        for part in sources.read(block, first_file, source, needs):
            batches += part.rows
            rejected += 0 if part.rejected is None else part.rejected.num_rows
            if sum(batch.num_rows for batch in batches) >= rows:
                break
        if sum(batch.num_rows for batch in batches) >= rows:
            break
    if not batches:
        raise UserError(f"{path}: none of its first rows can be read")
    columns: dict[str, pa.Array] = {}
    for name in names:
        parts = [batch.column(name) for batch in batches]
        lists = any(is_list(part.type) for part in parts)
        columns[name] = (
            parts[0] if len(parts) == 1 else pa.concat_arrays([decode(as_text(part)) for part in parts])
        )
        if lists:
            reasons[f"list:{name}"] = "its values are lists"
    if rejected:
        reasons["rejected"] = f"{rejected:,} of the first rows cannot be read as they are"
    texts = {name: decode(as_text(column))[:rows] for name, column in columns.items()}
    nulls = _null_values(texts)
    if nulls:
        settings["null_values"] = nulls
        reasons["null_values"] = "stand among numbers, or often among text"
        blank = pa.array(nulls)
        texts = {name: pc.if_else(pc.is_in(text, blank), "", text) for name, text in texts.items()}
    form = _number_format(texts)
    if not form.is_plain:
        settings.update({"decimal": form.decimal} if form.decimal != "." else {})
        settings.update({"thousands": form.thousands} if form.thousands else {})
        reasons["decimal" if form.decimal != "." else "thousands"] = "so more columns are numbers"
    guessed = {name: _guess(name, text, form, f"list:{name}" in reasons) for name, text in texts.items()}
    return FileGuess(path, settings, reasons, guessed, texts, len(next(iter(texts.values()))))


def _form(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """(keys of the source, reasons): its format, encoding, delimiter, quote and header."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open("rb") as stream:
        if stream.read(4) == b"PAR1":
            return {"format": "parquet"}, {"format": "it begins as Parquet does"}
    data = b""
    encoding, reasons = "utf-8", {}
    with path.open("rb") as stream:
        head = stream.read(2)
    if head in (b"\xff\xfe", b"\xfe\xff"):
        encoding, reasons["encoding"] = "utf-16", "it begins with the mark of UTF-16"
    for part in lines.read_stream(str(path), encoding):
        data += part.data
        if len(data) > 1 << 20:
            break
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        encoding, reasons["encoding"] = "cp1252", "it is no UTF-8; cp1252 and latin-1 are the usual others"
        text = data.decode("cp1252", "replace")
    settings: dict[str, Any] = {} if encoding == "utf-8" else {"encoding": encoding}
    rows = [line for line in text.split("\n")[:_SNIFFED_LINES] if line.strip()]
    if not rows:
        raise UserError(f"{path}: is empty")
    if all(_is_object(line) for line in rows[:20]):
        return {**settings, "format": "json"}, {**reasons, "format": "each line is a JSON object"}
    sparse = re.compile(r"[-+]?[\d.]+( qid:\d+)?( \d+:[-+\d.eE]+)+\s*(#.*)?")
    if all(sparse.fullmatch(line.strip()) for line in rows[:50]):
        return _sparse_form(path, rows, settings, reasons)
    comment = "#" if any(line.startswith("#") for line in rows[:5]) and not rows[-1].startswith("#") else None
    rows = [line for line in rows if comment is None or not line.startswith(comment)]
    delimiter, quote = _dialect(rows)
    settings.update({"format": "delimited", "delimiter": delimiter, "quote": quote})
    reasons["delimiter"] = "the lines then have the same number of fields"
    if comment:
        settings["comment"] = comment
        reasons["comment"] = "the first lines begin with it"
    fields = [_fields(line.rstrip("\r"), delimiter, quote) for line in rows[:100]]
    if not _has_header(fields):
        width = Counter(map(len, fields)).most_common(1)[0][0]
        settings["columns"] = [f"column_{n}" for n in range(1, width + 1)]
        reasons["columns"] = "the first line looks like the others: no header; give the columns their names"
    return settings, reasons


def _sparse_form(
    path: Path, rows: list[str], settings: dict[str, Any], reasons: dict[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    reasons["format"] = "each line is a number and index:value pairs"
    settings["format"] = "libsvm"
    widths = {len(line.split()) for line in rows}
    if len(widths) == 1 and all(token.endswith(":1") for line in rows for token in line.split()[1:]):
        settings["columns"] = ["label", *(f"field_{n}" for n in range(1, widths.pop()))]
        reasons["columns"] = (
            "every line has the same number of entries, all with the value 1: places, not sparse numbers"
        )
    else:
        settings["row_id"] = "row"
        reasons["row_id"] = "no column tells the candidates apart"
    if Path(f"{path}.query").exists() and not any("qid:" in line for line in rows):
        settings["groups"] = ".query"
        reasons["groups"] = f"{path.name}.query lies beside it"
    return settings, reasons


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _dialect(rows: list[str]) -> tuple[str, str | None]:
    """The delimiter and the quote under which most lines have one number of fields above one."""
    best: tuple[float, int] = (-1.0, 0)
    choice: tuple[str, str | None] = (",", None)
    for delimiter in _DELIMITERS:
        for quote in ('"', None):
            counts = Counter(len(_fields(line.rstrip("\r"), delimiter, quote)) for line in rows)
            width, lines_of_width = counts.most_common(1)[0]
            score = (lines_of_width / len(rows), min(width, 3))
            if width > 1 and score > best:
                best, choice = score, (delimiter, quote)
    delimiter, quote = choice
    has_quotes = any(f'{delimiter}"' in line or line.startswith('"') for line in rows)
    return delimiter, quote if has_quotes or delimiter == "," else None


def _fields(line: str, delimiter: str, quote: str | None) -> list[str]:
    if quote is None or len(delimiter) > 1:
        return line.split(delimiter)
    return next(csv.reader(io.StringIO(line), delimiter=delimiter, quotechar=quote), [""])


def _has_header(rows: list[list[str]]) -> bool:
    """Whether the first line names columns: no number in it where the others have numbers, no value twice."""
    head, body = rows[0], rows[1:]
    if not body or len(set(head)) < len(head):
        return False
    if any(_is_number(text) for text in head if text):
        return False
    numeric = [
        at for at in range(len(head)) if all(_is_number(row[at]) for row in body if len(row) > at and row[at])
    ]
    return bool(numeric) or all(re.fullmatch(r"[\w .\-?#/()]{0,40}", text) for text in head)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _null_values(texts: dict[str, pa.Array]) -> list[str]:
    """Markers of missing values: those among numbers, and those that are no plausible word."""
    markers = Counter[str]()
    for text in texts.values():
        counts = {entry["values"].as_py() or "": entry["counts"].as_py() for entry in pc.value_counts(text)}
        present = {marker: counts[marker] for marker in NULL_MARKERS if marker in counts}
        if not present:
            continue
        rest = text.filter(pc.invert(pc.is_in(text, pa.array(["", *present]))))
        _, bad = as_numbers(rest)
        if len(rest) and not bad.any():
            markers.update(present)
        else:
            markers.update(
                {
                    m: n
                    for m, n in present.items()
                    if m in ("NULL", "null", "\\N", "NaN", "nan", "N/A", "(null)")
                }
            )
    return [marker for marker, _ in markers.most_common()]


def _number_format(texts: dict[str, pa.Array]) -> NumberFormat:
    """The number format that makes the most columns numbers; plain ones where that is as good."""
    forms = [
        NumberFormat(),
        NumberFormat(".", ","),
        NumberFormat(","),
        NumberFormat(",", "."),
        NumberFormat(",", " "),
    ]
    return max(
        forms, key=lambda form: (sum(_is_numeric(text, form) for text in texts.values()), form.is_plain)
    )


def _is_numeric(text: pa.Array, form: NumberFormat) -> bool:
    values, bad = as_numbers(text, form)
    return not bad.any() and bool((~np.isnan(values)).any())


def _guess(name: str, text: pa.Array, form: NumberFormat, is_a_list: bool) -> ColumnGuess:
    rows = len(text)
    counts = pc.value_counts(text)
    words = {entry["values"].as_py(): entry["counts"].as_py() for entry in counts}
    missing = words.pop("", 0)
    values = sorted(words, key=lambda word: -words[word])[:8]
    column = ColumnGuess(
        name, "category", len(words), missing, rows, f"{len(words):,} distinct values", values
    )
    separator = _separator(list(words))
    lowered = {word.lower() for word in words}
    named = _words(name)
    if len(words) <= 1:
        column.kind, column.evidence = (
            "constant",
            f"one value in {rows:,} rows" if words else "no value at all",
        )
    elif (
        lowered <= {"0", "1", "0.0", "1.0", "-1", "true", "false", "t", "f", "yes", "no", "y", "n"}
        and len(words) == 2
    ):
        column.kind, column.evidence = "flag", f"only {' and '.join(map(repr, values))}"
    elif is_a_list:
        column.kind, column.evidence = "list", "its values are lists"
    elif _is_numeric(text, form):
        _guess_numeric(column, as_numbers(text, form)[0], named)
    elif as_numbers(pa.array(values))[1].all() and not as_times(pa.array(values))[1].any():
        column.kind, column.evidence = "time", f"dates or times such as {values[0]!r}"
    elif separator is not None:
        column.kind, column.separator = "list", separator
        several = next(word for word in words if separator in word)
        column.evidence = f"several values with {separator!r} between them, such as {several!r}"
    elif len(words) > rows / 2 or named & {"id"}:
        column.kind, column.evidence = "id", f"{len(words):,} distinct values in {rows:,} rows"
    return column


def _guess_numeric(column: ColumnGuess, values: np.ndarray, named: set[str]) -> None:
    present = values[~np.isnan(values)]
    low, high = float(present.min()), float(present.max())
    whole = bool((present == np.floor(present)).all())
    span = f"{'whole numbers' if whole else 'numbers'} from {low:g} to {high:g}, {column.distinct:,} distinct"
    is_key = _names_a_key(column.name, (*_USER_NAMES, *_ITEM_NAMES)) or (
        # Without a header there are no names: whole numbers with many values are more often ids than amounts.
        column.name.startswith("column_") and whole and _FEW < column.distinct < column.rows / 2 and low >= 0
    )
    if (
        whole
        and (named & set(_TIME_NAMES) or 8e8 < low <= high < 4e9 or 8e11 < low <= high < 4e12)
        and high > 1e6
    ):
        column.kind, column.evidence = "time", f"{span}: seconds or milliseconds since 1970"
    elif whole and column.distinct == column.rows and high - low == column.rows - 1:
        column.kind, column.evidence = "row number", f"{span}: the number of the row"
    elif column.name.startswith("field_"):
        column.kind, column.evidence = "id", f"{span}: an index at this place of a sparse line"
    elif whole and is_key:
        column.kind, column.evidence = "id", f"{span}: a key by its name or its values"
    else:
        column.kind, column.evidence = "number", span


def _words(name: str) -> set[str]:
    """The parts of a column's name, in lower case: `userID` and `user_id` are `user` and `id`."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return set(re.findall(r"[a-z]+", spaced.lower())) | {name.lower()}


def _names_a_key(name: str, words: Sequence[str]) -> bool:
    """Whether a name says that a column identifies one of `words`: `user`, `UserID`, `item_no`, but not `user_age`."""
    parts = set(re.findall(r"[a-z0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower()))
    rest = parts - _KEY_WORDS
    return (bool(rest) and rest <= set(words)) or name.lower() in words


def _separator(words: list[str]) -> str | None:
    """What separates several values: it stands in many of the texts, and the parts repeat."""
    for separator in ("|", ";", ", ", ","):
        split = [word.split(separator) for word in words]
        parts = {part for entry in split for part in entry}
        several = sum(len(entry) > 1 for entry in split)
        repeats = len(parts) < 0.7 * sum(map(len, split)) and len(parts) < len(words)
        if several > 0.2 * len(words) and (separator == "|" or repeats):
            return separator
    return None


@dataclass(frozen=True)
class LabelGuess:
    """The label: an expression, why, and the other columns that could be it."""

    expression: str
    column: str
    evidence: str
    alternatives: tuple[str, ...]


def _label(guess: FileGuess) -> LabelGuess | None:
    def rank(column: ColumnGuess) -> int:
        named = _words(column.name)
        if column.kind == "flag" and named & set(_LABEL_NAMES):
            return 4
        if column.kind in ("number", "flag") and named & set(_RATING_NAMES):
            return 3
        if column.kind == "number" and named & set(_LABEL_NAMES) and column.distinct <= _FEW:
            return 3
        if (
            column.kind == "number"
            and column.distinct <= _MOST_GRADES
            and column.evidence.startswith("whole")
        ):
            return 1
        return 2 if column.kind == "flag" else 0

    ranked = sorted(guess.columns.values(), key=lambda column: -rank(column))
    usable = [column for column in ranked if rank(column)]
    if not usable:
        return None
    best = usable[0]
    alternatives = tuple(column.name for column in usable[1:])
    name = best.name if best.name.isidentifier() else f"`{best.name}`"
    if best.kind == "flag":
        positive = next((v for v in best.values if v.lower() in ("1", "1.0", "true", "t", "yes", "y")), "1")
        share = float(pc.mean(pc.equal(guess.texts[best.name], positive).cast(pa.float64())).as_py())
        return LabelGuess(
            f"{name} == 1", best.name, f"{best.evidence}; {share:.1%} are {positive!r}", alternatives
        )
    values = as_numbers(guess.texts[best.name])[0]
    values = values[~np.isnan(values)]
    cut = next(
        (v for v in np.unique(values)[1:] if (values >= v).mean() <= 0.6), float(np.unique(values)[-1])
    )
    share = float((values >= cut).mean())
    return LabelGuess(
        f"{name} >= {cut:g}", best.name, f"{best.evidence}; {share:.1%} are at least {cut:g}", alternatives
    )


def _key(log: FileGuess, table: FileGuess) -> tuple[str, str, float] | None:
    """(column of the log, column of the table, share of the log's rows with a match) of the best join, or None."""
    best: tuple[str, str, float] | None = None
    for name, column in table.columns.items():
        keys = table.texts[name]
        if column.distinct < 0.95 * (column.rows - column.missing) or column.distinct < 2:
            continue
        for log_column, text in log.texts.items():
            is_nameless = name.startswith("column_") or log_column.startswith("column_")
            shares_name = name.lower() == log_column.lower() or is_nameless
            share = float(pc.mean(pc.is_in(text, keys).cast(pa.float64())).as_py() or 0.0)
            if share > 0.5 and (
                best is None or (shares_name, share) > (best[0].lower() == best[1].lower(), best[2])
            ):
                best = (log_column, name, share)
    return best


def _write(log: FileGuess, tables: list[FileGuess], label: LabelGuess) -> str:
    questions: list[str] = []
    root = Path(os.path.commonpath([guess.path.resolve().parent for guess in (log, *tables)]))
    out = [
        f"# A first configuration for {log.path.name}, guessed from its first {log.rows:,} rows.",
        "# Each choice has its evidence beside it; lines that begin with QUESTION are for you.",
        f"name: {_plain_name(log.path.stem)}",
        "data:",
        f"  root: {_yaml(str(root))}",
        "  events:",
        *_source(log, root, "    "),
    ]
    joined: dict[str, tuple[FileGuess, str]] = {}
    names = set(log.columns)
    if tables:
        out.append("  tables:")
    for table in tables:
        key = _key(log, table)
        name = _plain_name(table.path.stem.removesuffix(".csv"))
        if key is None:
            questions.append(
                f"{table.path.name}: which of its columns joins it to the log? None matches half of the rows."
            )
            out.append(f"    # {table.path.name} is left out: no column of it matches the rows of the log")
            continue
        of_log, of_table, share = key
        rename = {of_table: of_log} if of_table != of_log else {}
        rename |= {c: f"{name}_{c}" for c in table.columns if c != of_table and c in names}
        out += [f"    {name}:", *_source(table, root, "      ", rename)]
        out.append(f"      key: {_yaml(of_log)}  # {share:.1%} of the log's rows have a match")
        for column in table.columns:
            new = rename.get(column, column)
            if column != of_table:
                joined[new] = (table, column)
                names.add(new)
    if tables and out[-1] == "  tables:":
        out.pop()
    columns = {name: log.columns[name] for name in log.columns}
    out += [f"  label: {_yaml(label.expression)}  # {label.evidence}"]
    if label.alternatives:
        questions.append(f"label: could it be {_some(label.alternatives)} instead of {label.column}?")
    context, item = _request_and_item(log, label)
    request, why = _request(columns, context, questions)
    out.append(f"  request: {_yaml(request)}  # {why}")
    if item is not None:
        out.append(f"  item: {_yaml(_plain_name(item))}  # {columns[item].evidence}")
    times = [column for column in columns.values() if column.kind == "time"]
    if times:
        out.append(f"  timestamp: {_yaml(times[0].name)}  # {times[0].evidence}")
        out.append(
            "  split: {by: time, eval: 0.1}  # the last tenth: a model is used on what comes after its training"
        )
    else:
        out.append(
            f"  split: {{by: hash, of: {_yaml(request)}, eval: 0.1}}  # no column is a time: whole requests are held out"
        )
    features, skipped = _features(log, joined, label, context, item, questions)
    text = "\n".join([*out, "features:", *features.values(), *skipped])
    settings = [
        "training: {batch_size: 256}",
        "replicas: {count: 3, seed: 1, vary: [shuffle]}",
        "arms: {smelu: {}, relu: {model.activation: {name: relu}}}",
    ]
    question_lines = [f"# QUESTION {n}: {question}" for n, question in enumerate(questions, 1)]
    return "\n".join([text, *settings, *question_lines]) + "\n"


def _source(guess: FileGuess, root: Path, indent: str, rename: dict[str, str] | None = None) -> list[str]:
    resolved = guess.path.resolve()
    out = [f"{indent}path: {_yaml(str(resolved.relative_to(root)))}"]
    for key, value in guess.settings.items():
        reason = guess.reasons.get(key)
        out.append(f"{indent}{key}: {_yaml(value)}" + (f"  # {reason}" if reason else ""))
    rename = {**_safe_names(guess), **(rename or {})}
    if rename:
        out.append(f"{indent}rename: {_yaml(rename)}  # names that features can have")
    if "rejected" in guess.reasons:
        out.append(f"{indent}# {guess.reasons['rejected']}")
    return out


def _safe_names(guess: FileGuess) -> dict[str, str]:
    return {name: _plain_name(name) for name in guess.columns if name != _plain_name(name)}


def _request_and_item(log: FileGuess, label: LabelGuess) -> tuple[list[str], str | None]:
    """(columns that may name a request, the column that names a candidate)."""
    ids = [
        c for c in log.columns.values() if c.kind in ("id", "category", "number") and c.name != label.column
    ]

    def by_name(words: Sequence[str]) -> list[str]:
        return [c.name for c in ids if _names_a_key(c.name, words)]

    items = by_name(_ITEM_NAMES) or [name for name in log.columns if name == log.settings.get("row_id")]
    users = by_name(_USER_NAMES)
    item = next((name for name in items if "id" in _words(name)), items[0] if items else None)
    if item is None:
        rest = [c for c in ids if c.kind != "number" and c.name not in users]
        keys = [c.name for c in rest if c.kind == "id"]
        if not users and len(keys) > 1:  # the usual order: who, then what
            return keys[:1], keys[1]
        item = max(rest, key=lambda c: c.distinct).name if rest else None
    return [name for name in users if name != item], item


def _request(
    columns: dict[str, ColumnGuess], names: list[str], questions: list[str]
) -> tuple[list[str], str]:
    best = next(
        (n for n in names if _words(n) & {"request", "impression", "session", "query", "qid", "search"}), None
    )
    best = best or (names[0] if names else None)
    if best is not None:
        column = columns[best]
        mean = (column.rows - column.missing) / max(column.distinct, 1)
        if mean < 1.5:
            questions.append(
                f"request: {best} has {mean:.1f} rows each; is there a column with all candidates of one request?"
            )
        return [
            best
        ], f"{column.distinct:,} distinct, {mean:.1f} rows each: rows of one are ranked against each other"
    fallback = next(
        (c for c in columns.values() if c.kind in ("category", "id")), next(iter(columns.values()))
    )
    questions.append("request: no column says which rows were shown together; is there one?")
    return [fallback.name], "no column names a request: this one stands in for it"


def _features(
    log: FileGuess,
    joined: dict[str, tuple[FileGuess, str]],
    label: LabelGuess,
    context: list[str],
    item: str | None,
    questions: list[str],
) -> tuple[dict[str, str], list[str]]:
    features: dict[str, str] = {}
    skipped: list[str] = []
    item_tables = set()
    for table, _ in joined.values():
        key = _key(log, table)
        if key is not None and key[0] == item:
            item_tables.add(id(table))
    sources_of = {name: (log, name) for name in log.columns} | joined
    for name, (guess, column_name) in sources_of.items():
        column = guess.columns[column_name]
        plain = _plain_name(name)
        missing = f", {column.missing / column.rows:.1%} missing" if column.missing else ""
        if name == label.column or column.kind in ("constant", "time", "row number"):
            reason = "the label" if name == label.column else column.evidence
            skipped.append(f"  # {plain}: left out, {reason}")
            continue
        of_item = id(guess) in item_tables if guess is not log else name == item or name not in context
        role = "item" if of_item else "context"
        if guess is log and name not in (*context, item) and context:
            role = "context" if _is_constant_within(log, context[0], name) else "item"
        note = f"  # {column.evidence}{missing}"
        if column.kind == "number" and name != item:
            skew = "log1p" if _is_skewed(guess.texts[column_name]) else "standardize"
            features[name] = f"  {plain}: {{kind: numeric, role: {role}, transform: {skew}}}{note}"
        elif column.kind == "list":
            features[name] = (
                f"  {plain}: {{kind: categorical, role: {role}, multivalued: {_yaml(column.separator)}}}{note}"
            )
        elif (
            column.kind == "category"
            and column.distinct > 0.9 * column.rows
            and guess is log
            and name != item
        ):
            skipped.append(f"  # {plain}: left out, nearly every row has a value of its own")
        else:
            features[name] = f"  {plain}: {{kind: categorical, role: {role}}}{note}"
    leaking = [c for c in label.alternatives if c in features]
    if leaking:
        questions.append(f"features: are {_some(leaking)} known before the label is? If not, remove them.")
    return features, skipped


def _is_constant_within(log: FileGuess, key: str, name: str) -> bool:
    """Whether a column has one value for each value of another, in 99% of the groups with several rows."""
    table = pa.table({"key": log.texts[key], "value": log.texts[name]})
    groups = table.group_by("key").aggregate([("value", "count_distinct"), ("value", "count")])
    several = groups.filter(pc.greater(groups["value_count"], 1))
    return (
        bool(len(several))
        and float(pc.mean(pc.equal(several["value_count_distinct"], 1).cast(pa.float64())).as_py()) > 0.99
    )


def _is_skewed(text: pa.Array) -> bool:
    values = as_numbers(text)[0]
    values = values[~np.isnan(values)]
    if not len(values) or values.min() < 0:
        return False
    return bool(values.max() > 20 * max(float(np.median(values)), 1e-9) and values.max() > 20)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" or one of {len(names) - 5} more" if len(names) > 5 else "")


def _plain_name(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")
    return plain or "column"


def _yaml(value: Any) -> str:
    """A value in YAML's flow style."""
    if (
        isinstance(value, str)
        and value.lower() not in _YAML_WORDS
        and re.fullmatch(r"[A-Za-z_/][\w./-]*", value)
    ):
        return value
    return json_text(value, ensure_ascii=False)
