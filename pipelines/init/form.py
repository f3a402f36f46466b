"""How a file is written: its format, encoding, delimiter, quote, header, and what stands before the rows."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.prepare.read import lines
from ranker.errors import UserError

_SNIFFED_BYTES = 1 << 20
_SNIFFED_LINES = 200
_DELIMITERS = ("\t", ",", ";", "::", "|", "\x01", " ")
_MOSTLY = 0.95  # of the lines
_LITERAL = re.compile(r"\{\s*u?'[^']*':")  # a dict as Python prints it
_HEADING = re.compile(r"\w+:\s*")  # `12:`, above the rows of movie 12
_CONTROL = bytes({*range(32)} - set(b"\t\n\r\x01\x02\x03\x1c\x1d\x1e\x1f"))  # but for those between fields
_MOST_CONTROL = 0.05  # of the bytes of a text
_MATRIX_COLUMNS = 20
_MAX_PREAMBLE = 10  # lines before the header that are passed over
_SPARSE_LINE = re.compile(r"[-+]?[\d.]+([ \t]+qid:\d+)?([ \t]+\d+:[-+\d.eE]+)+\s*(#.*)?")
_NUMBER = re.compile(r"[-+]?\.?\d[\d.,' ]*([eE][-+]?\d+)?")
_PLAIN_HEADER = re.compile(r"[\w .\-?#/()]{0,40}")


@dataclass
class FileForm:
    """How a file is written.

    Attributes:
        settings: keys of the source that differ from the defaults.
        reasons: why, by key.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def choose(self, key: str, value: Any, reason: str) -> None:
        """Sets a key, with the reason."""
        self.settings[key] = value
        self.reasons[key] = reason


def sniff(path: Path) -> FileForm:
    """Looks at the first bytes and lines of a file.

    Raises:
        UserError: it is missing, empty, or of a kind that cannot be read.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    form = FileForm()
    with path.open("rb") as stream:
        head = stream.read(64)
    if head.startswith(b"PAR1"):
        form.choose("format", "parquet", "it begins as Parquet does")
        return form
    raw_lines = _first_lines(path, _wide_encoding(head), form)
    rows = [line for line in raw_lines if line.strip()]
    if not rows:
        raise UserError(f"{path}: is empty")
    if all(_is_object(line) for line in rows[:20]):
        form.choose("format", "json", "each line is a JSON object")
        return form
    if all(_LITERAL.match(line) for line in rows[:20]):
        raise UserError(
            f"{path}: its lines are Python literals and no JSON ({rows[0][:40]!r}); write each with json.dumps on a line"
            " of its own"
        )
    if rows[0].lstrip().startswith(("[", "{")) and _begins_json(rows):
        raise UserError(f"{path}: is JSON, but not one object a line; write each object on a line of its own")
    uncommented = [line for line in rows if not line.startswith("#")]
    if uncommented and all(_SPARSE_LINE.fullmatch(line.strip()) for line in uncommented[:50]):
        _describe_sparse(path, uncommented, form)
        return form
    headings = [line for line in rows if _HEADING.fullmatch(line)]
    if headings and len(headings) < len(rows) and _HEADING.fullmatch(rows[0]):
        raise UserError(
            f"{path}: lines such as {headings[0].strip()!r} stand above the rows that they belong to; write that value into"
            " each row, as a column"
        )
    _describe_delimited(raw_lines, form, path)
    if "columns" in form.settings and "header" not in form.settings:
        _refuse_matrix(path, rows, form)
    return form


def _refuse_matrix(path: Path, lines_read: list[str], form: FileForm) -> None:
    """Raises a UserError if a file without a header holds a row for each user and a column for each item."""
    delimiter, quote = form.settings["delimiter"], form.settings["quote"]
    rows = [split_fields(line, delimiter, quote) for line in lines_read]
    width = len(form.settings["columns"])
    columns = [
        [text for text in column if text.strip()]
        for column in zip(*(fields for fields in rows if len(fields) == width), strict=True)
    ]
    if width < _MATRIX_COLUMNS or not all(_is_number(text) for column in columns for text in column):
        return
    values = [Counter(map(_number, column)) for column in columns if column]
    counts = sum(values, Counter[float]())
    (usual, _), has_grades = counts.most_common(1)[0], len(counts) > 3
    if has_grades and sum(usual in column for column in values) > _MOSTLY * len(values) - 1:
        raise UserError(
            f"{path}: is a matrix of {len(values)} columns, with {usual:g} where there is nothing; write one row for each"
            " entry: the row's number, the column's number, the value"
        )


def _wide_encoding(head: bytes) -> str | None:
    """The encoding with two bytes a character that a file begins in, or None."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(head) >= 8 and not any(head[1::2]):
        return "utf-16-le"
    if len(head) >= 8 and not any(head[0::2]):
        return "utf-16-be"
    return None


def _first_lines(path: Path, wide: str | None, form: FileForm) -> list[str]:
    if wide is not None:
        form.choose("encoding", wide, "it begins with characters of two bytes")
    data = b""
    for part in lines.read_stream(str(path), wide or "utf-8"):
        data += part.data
        if len(data) > _SNIFFED_BYTES:
            break
    if wide is None and len(data) - len(data.translate(None, _CONTROL)) > _MOST_CONTROL * len(data):
        raise UserError(
            f"{path}: is no text, nor a kind of file that can be read; write Parquet, CSV, JSON lines or libsvm"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        # Five bytes have no meaning in cp1252; all have one in latin-1.
        encoding = "latin-1" if re.search(rb"[\x81\x8d\x8f\x90\x9d]", data) else "cp1252"
        form.choose("encoding", encoding, "it is no UTF-8; cp1252 and latin-1 are the usual others")
        text = data.decode(encoding)
    lines_read = [line.removesuffix("\r") for line in text.split("\n")[:_SNIFFED_LINES]]
    if "\r" in lines_read[0] and len(lines_read) == 1:
        raise UserError(f"{path}: its lines end with a carriage return alone; end them with a line feed")
    return lines_read


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _begins_json(rows: list[str]) -> bool:
    """Whether the text is JSON over several lines: an array, or an object with line breaks."""
    try:
        json.loads("\n".join(rows))
    except json.JSONDecodeError as error:
        # A sample that was cut ends within the text; other text is no JSON from its beginning on.
        return error.lineno >= len(rows) or len(rows) == 1
    return True


def _describe_sparse(path: Path, rows: list[str], form: FileForm) -> None:
    form.choose("format", "libsvm", "each line is a number and index:value pairs")
    entries = [line.partition("#")[0].split() for line in rows]
    widths = {len(tokens) for tokens in entries}
    if len(widths) == 1 and all(token.endswith(":1") for tokens in entries for token in tokens[1:]):
        form.choose(
            "columns",
            ["label", *(f"field_{number}" for number in range(1, widths.pop()))],
            "every line has the same number of entries, all with the value 1: places, not sparse numbers",
        )
    else:
        form.choose("row_id", "row", "no column tells the candidates apart")
    if Path(f"{path}.query").exists() and not any("qid:" in line for line in rows):
        form.choose("groups", ".query", f"{path.name}.query lies beside it")


def _describe_delimited(raw_lines: list[str], form: FileForm, path: Path) -> None:
    has_comments = any(line.startswith("#") for line in raw_lines[:5]) and not raw_lines[-1].startswith("#")
    numbered = [
        (number, line)
        for number, line in enumerate(raw_lines)
        if line.strip() and not (has_comments and line.startswith("#"))
    ]
    delimiter, quote = _dialect([line for _, line in numbered])
    form.choose("format", "delimited", "")
    form.choose("delimiter", delimiter, "the lines then have the same number of fields")
    form.choose("quote", quote or ('"' if ".csv" in path.suffixes and len(delimiter) == 1 else None), "")
    if has_comments:
        form.choose("comment", "#", "the first lines begin with it")
    rows = [(number, split_fields(line, delimiter, quote)) for number, line in numbered[:100]]
    width, count = Counter(len(fields) for _, fields in rows[1:] or rows).most_common(1)[0]
    preamble = next((at for at, (_, fields) in enumerate(rows) if len(fields) in (width, width - 1)), 0)
    if count >= _MOSTLY * (len(rows) - preamble - 1) and 0 < preamble <= _MAX_PREAMBLE:
        form.choose(
            "skip_lines", rows[preamble][0], "the lines before have another number of fields than the rows"
        )
        rows = rows[preamble:]
    _describe_header([fields for _, fields in rows], width, form)


def _describe_header(rows: list[list[str]], width: int, form: FileForm) -> None:
    header = rows[0]
    if not _is_header(rows):
        form.choose(
            "columns",
            [f"column_{number}" for number in range(1, width + 1)],
            "the first line looks like the others: no header; give the columns their names",
        )
        return
    names = [name.strip() or f"column_{number}" for number, name in enumerate(header, 1)]
    if len(header) == width - 1 and all(
        not fields[-1].strip() for fields in rows[1:] if len(fields) == width
    ):
        form.choose("header", True, "")
        form.choose("columns", _unique([*names, f"column_{width}"]), "every row ends with the delimiter")
    elif len(header) == width - 1 and len({fields[0] for fields in rows[1:]}) == len(rows) - 1:
        form.choose("header", True, "")
        form.choose(
            "columns", _unique(["row_name", *names]), "every row begins with a name, as R writes them"
        )
    elif len(set(names)) < len(names):
        form.choose("header", True, "")
        form.choose("columns", _unique(names), "the header has a name twice")


def _unique(names: list[str]) -> list[str]:
    result: list[str] = []
    for name in names:
        number, candidate = 2, name
        while candidate in result:
            candidate, number = f"{name}_{number}", number + 1
        result.append(candidate)
    return result


def _dialect(rows: list[str]) -> tuple[str, str | None]:
    """The delimiter and the quote under which most lines have one number of fields above one."""
    best: tuple[Any, ...] = ()
    choice: tuple[str, str | None] = (",", None)
    for delimiter in _DELIMITERS:
        for quote in ('"', None):
            widths = [len(split_fields(line, delimiter, quote)) for line in rows]
            width, lines_of_width = Counter(widths).most_common(1)[0]
            share = lines_of_width / len(rows)
            fits_header = widths[0] in (width, width - 1)
            # A space stands within fields too, and a header has none of the commas of numbers.
            score = (share >= _MOSTLY, fits_header, delimiter != " ", min(width, 3), share)
            if width > 1 and score > best:
                best, choice = score, (delimiter, quote)
    delimiter, quote = choice
    has_quotes = any(f'{delimiter}"' in line or line.startswith('"') for line in rows)
    return delimiter, quote if has_quotes or delimiter == "," else None


def split_fields(line: str, delimiter: str, quote: str | None) -> list[str]:
    """The fields of one line."""
    if quote is None or len(delimiter) > 1:
        return line.split(delimiter)
    return next(csv.reader(io.StringIO(line, newline=""), delimiter=delimiter, quotechar=quote), [""])


def _is_header(rows: list[list[str]]) -> bool:
    """Whether the first line names columns: no number in it where the others have numbers."""
    header, body = rows[0], [fields for fields in rows[1:] if fields != rows[0]]
    if not body:
        return not any(_is_number(text) for text in header)
    if any(_is_number(text) for text in header if text):
        return False
    numeric_places = [
        at
        for at in range(len(header))
        if header[at].strip()  # nothing is no name of a column
        and (texts := [fields[at] for fields in body if len(fields) > at and fields[at].strip()])
        and all(map(_is_number, texts))
    ]
    if numeric_places:
        return True
    is_repeated = any(
        header[at] == fields[at] for fields in body for at in range(min(map(len, (header, fields))))
    )
    return not is_repeated and all(_PLAIN_HEADER.fullmatch(text) for text in header)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # in another country's marks
        return float("nan")


def _is_number(text: str) -> bool:
    """Whether a text is a number, in whatever country's marks."""
    return _NUMBER.fullmatch(text.strip()) is not None
