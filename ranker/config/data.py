"""`data`: where rows come from, what is the label, what is one request, what is held out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ranker.config import expression
from ranker.config.base import Column, Name, Section

_FORMATS_BY_SUFFIX = {
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
    **dict.fromkeys((".libsvm", ".svmlight", ".svm", ".libfm"), "libsvm"),
}
_SYNONYMS = {
    "csv": "delimited",
    "jsonl": "json",
    "ndjson": "json",
    "json_lines": "json",
    "svmlight": "libsvm",
}
_NULL_SPELLINGS = ("NULL", "null", "Null", "~")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def _endings(path: Any) -> set[str]:
    """The endings of all paths, without those of a compression."""
    paths = [path] if isinstance(path, str) else list(path) if isinstance(path, (list, tuple)) else []
    endings = set()
    for text in map(str, paths):
        stem = next((text[: -len(end)] for end in _COMPRESSED if text.lower().endswith(end)), text)
        endings.add(Path(stem).suffix.lower())
    return endings


class Explode(Section):
    """One row for each entry of a list: an impression list becomes a row a candidate."""

    columns: Annotated[tuple[Column, ...], Field(min_length=1, examples=[["items", "clicks"]])]
    """The columns that hold lists, side by side: entry i of each goes into row i. Other columns are repeated."""
    separator: Annotated[str, Field(min_length=1, examples=[" "])] = "|"
    """What stands between the entries of a list that is text; lists of Parquet and JSON need none."""
    position: Annotated[Column | None, Field(examples=["position"])] = None
    """A column to make: the entry's position in its list, from 1."""


class Source(Section):
    """Files of rows. Values stay text until a feature or the label asks for numbers."""

    path: Annotated[str | tuple[str, ...], Field(examples=["logs/*.csv.gz"])]
    """A file, a directory (the files below it), a pattern with `*`, `**`, `?` or `[...]`, or a list of them; relative to
    `data.root`, or a URI. Names that begin with `_` or `.` are passed over where they are not spelt out (`_SUCCESS`)."""
    format: Annotated[Literal["delimited", "parquet", "json", "libsvm"], Field(examples=["parquet"])] = (
        "delimited"
    )
    """`delimited` text; `parquet`; `json`, one object a line; `libsvm`, `label qid:1 3:0.5 ...`. Without it the ending of
    `path` decides (`.parquet`, `.jsonl`, `.libsvm`, ...). Text may be compressed: gzip, bzip2, xz, zstd."""
    delimiter: Annotated[str, Field(min_length=1, examples=["::"])] = ","
    """What separates the fields, one or more characters. Without it, a tab for `.tsv`."""
    quote: Annotated[str | None, Field(min_length=1, max_length=1, examples=["'"])] = None
    """The character around fields that hold delimiters or line breaks; null for none. Without it, `"` for `.csv`."""
    encoding: Annotated[str, Field(examples=["latin-1"])] = "utf-8"
    """How the text is encoded, by any name that Python knows."""
    columns: Annotated[tuple[Column, ...] | None, Field(examples=[["user_id", "item_id", "rating"]])] = None
    """Names of the columns, in order. Without them the header names them. For `libsvm`: names of the label and of the
    index at each place, where every line has the same places."""
    header: Annotated[bool | None, Field(examples=[True])] = None
    """Whether the first line is a header. Without it, there is one if `columns` is not set."""
    skip_lines: Annotated[int, Field(ge=0, examples=[2])] = 0
    """Lines to pass over at the beginning of each file, before the header."""
    comment: Annotated[str | None, Field(min_length=1, examples=["#"])] = None
    """Lines that begin with this are no rows."""
    null_values: Annotated[tuple[str, ...], Field(examples=[["NULL", "\\N", "NA"]])] = ()
    """Texts that mean a missing value, beside the empty one: of a field, of a typed value that is written so (`-999`), or of
    an item of a list."""
    decimal: Annotated[str, Field(min_length=1, max_length=1, examples=[","])] = "."
    """The decimal mark of numbers."""
    thousands: Annotated[str | None, Field(min_length=1, max_length=1, examples=[","])] = None
    """The mark between groups of digits in numbers (`3,830.00`)."""
    integers: Annotated[tuple[Column, ...], Field(examples=[["user_id"]])] = ()
    """Columns of whole numbers that are not always written alike: `12.0`, `0012` and `+12` are read as `12`."""
    rename: Annotated[dict[Column, Column], Field(examples=[{"User ID": "user_id"}])] = {}
    """Name in the file to the name used everywhere else."""
    explode: Annotated[Explode | None, Field(examples=[{"columns": ["impressions"], "separator": " "}])] = (
        None
    )
    """Lists that become one row for each entry."""
    groups: Annotated[str | None, Field(min_length=1, examples=[".query"])] = None
    """For `libsvm`: the ending of a file beside each file (`rank.train.query`) with the sizes of its groups, one a line.
    The column `qid` then holds the file and the number of the row's group."""
    row_id: Annotated[Column | None, Field(examples=["document"])] = None
    """A column to make: a number that no other row has."""

    @model_validator(mode="before")
    @classmethod
    def _from_the_ending(cls, tree: Any) -> Any:
        """Fills in what the ending of the path says: only for keys that are not set."""
        if not isinstance(tree, dict):
            return tree
        tree = dict(tree)
        if isinstance(tree.get("format"), str):
            tree["format"] = _SYNONYMS.get(tree["format"], tree["format"])
        endings = _endings(tree.get("path"))
        formats = {_FORMATS_BY_SUFFIX.get(ending, "delimited") for ending in endings}
        tree.setdefault("format", formats.pop() if len(formats) == 1 else "delimited")
        if tree["format"] == "delimited":
            if endings == {".csv"}:
                tree.setdefault("quote", '"')
            if endings == {".tsv"}:
                tree.setdefault("delimiter", "\t")
        return tree

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "".encode(value)
        except LookupError:
            raise ValueError("must be an encoding Python knows, such as utf-8 or latin-1") from None
        return value

    @field_validator("columns")
    @classmethod
    def _unique_columns(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError("must not name a column twice")
        return value

    @field_validator("null_values", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        """Numbers as text; YAML takes NULL, null and ~ without quotes for nothing, and all of them are meant."""
        entries = value if isinstance(value, (list, tuple)) else [value]
        texts: list[Any] = []
        for entry in entries:
            if entry is None:
                texts += _NULL_SPELLINGS
            else:
                is_number = isinstance(entry, (int, float)) and not isinstance(entry, bool)
                texts.append(str(entry) if is_number else entry)
        return tuple(texts)

    @field_validator("rename")
    @classmethod
    def _unique_names(cls, value: dict[str, str]) -> dict[str, str]:
        if len(set(value.values())) != len(value):
            raise ValueError("must not give one name to two columns")
        return value

    @model_validator(mode="after")
    def _fits_its_format(self) -> Source:
        if self.header is False and self.columns is None and self.format == "delimited":
            raise ValueError("columns: must name the columns of a file without a header (header: false)")
        if self.thousands == self.decimal:
            raise ValueError(f"thousands: must differ from decimal. Received: {self.thousands!r}")
        for key in ("skip_lines", "comment", "header", "delimiter"):
            if (
                key in self.model_fields_set
                and self.format != "delimited"
                and getattr(self, key) != _default(self, key)
            ):
                raise ValueError(f"{key}: is for format delimited. Received: {self.format!r}")
        if self.groups is not None and self.format != "libsvm":
            raise ValueError("groups: is for format libsvm")
        if self.quote is not None and self.quote in (self.delimiter, "\n"):
            raise ValueError(f"quote: must differ from delimiter. Received: {self.quote!r}")
        return self


def _default(section: Section, key: str) -> Any:
    return type(section).model_fields[key].default


class Table(Source):
    """A side table joined to the events."""

    key: Annotated[Column, Field(examples=["user_id"])]
    """The column, of the table and of the events, that must be equal. One of `data.derive` serves too, if it is made from
    columns of the events alone."""


class Flags(Section):
    """A multi-valued column from columns of 0/1 or true/false."""

    flags: Annotated[tuple[Column, ...], Field(min_length=1, examples=[["Action", "Comedy"]])]
    """The columns; the names of those that are 1 or true become the values."""
    separator: Annotated[str, Field(min_length=1, examples=["|"])] = "|"
    """What joins them; the feature's `multivalued` must be the same."""


class Extract(Section):
    """A column from part of another."""

    extract: Annotated[Column, Field(examples=["title"])]
    """The column to look into."""
    pattern: Annotated[str, Field(examples=["\\(([0-9]{4})\\)$"])]
    """A regular expression with one group, which is the value; empty where it does not match."""

    @field_validator("pattern")
    @classmethod
    def _one_group(cls, value: str) -> str:
        import re

        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"must be a regular expression ({error})") from None
        if groups != 1:
            raise ValueError(f"must have exactly one group in parentheses, has {groups}")
        return value


class TimeSplit(Section):
    """The last `eval` share of the rows by `data.timestamp`."""

    by: Annotated[Literal["time"], Field(examples=["time"])]
    """The kind of split."""
    eval: Annotated[float, Field(gt=0, lt=1, examples=[0.2])] = 0.1
    """The share of the rows to hold out."""


class HashSplit(Section):
    """A stable pseudo-random share: rows whose hash of the columns `of` falls below `eval`."""

    by: Annotated[Literal["hash"], Field(examples=["hash"])]
    """The kind of split."""
    of: Annotated[Column | tuple[Column, ...], Field(examples=["user_id"])]
    """The column or columns: rows with equal values fall into one split."""
    eval: Annotated[float, Field(gt=0, lt=1, examples=[0.2])] = 0.1
    """The share of the values to hold out."""


class ColumnSplit(Section):
    """The split is a column's value. Rows whose value is in neither list are rejected, and counted so."""

    by: Annotated[Literal["column"], Field(examples=["column"])]
    """The kind of split."""
    of: Annotated[Column, Field(examples=["split"])]
    """The column."""
    train: Annotated[tuple[str, ...], Field(examples=[["train", "val"]])] = ("train",)
    """Its values in rows to train on."""
    eval: Annotated[tuple[str, ...], Field(examples=[["test"]])] = ("eval", "test")
    """Its values in rows to hold out."""


class FileSplit(Section):
    """The split is the file a row stands in. Every file must match one of the two lists."""

    by: Annotated[Literal["file"], Field(examples=["file"])]
    """The kind of split."""
    train: Annotated[tuple[str, ...], Field(min_length=1, examples=[["train.csv"]])]
    """Names or patterns (`*`, `?`) of the files to train on: whole paths as `data.events.path` has them, or their last
    part."""
    eval: Annotated[tuple[str, ...], Field(min_length=1, examples=[["test*.csv"]])]
    """Those of the files to hold out."""


Split = Annotated[TimeSplit | HashSplit | ColumnSplit | FileSplit, Field(discriminator="by")]


class Item(Section):
    """The column that identifies a candidate."""

    column: Annotated[Name, Field(examples=["doc"])]
    """Its name; a name alone in place of the table stands for a feature."""
    feature: Annotated[bool, Field(examples=[False])] = True
    """Whether it is one of the features. `false`: an id that nothing is learnt from."""


class Negatives(Section):
    """Rows with label 0 for a log of positives, made of the items of the training rows."""

    count: Annotated[int, Field(ge=1, le=10_000, examples=[4])]
    """How many for each positive to train on."""
    candidates: Annotated[int, Field(ge=1, le=100_000, examples=[100])] = 100
    """How many for each held-out positive, which they share a list with."""
    by: Annotated[Literal["uniform", "popularity"], Field(examples=["popularity"])] = "uniform"
    """Whether each item is as likely as any other, or in proportion to its positives."""
    seed: Annotated[int, Field(ge=0, examples=[1])] = 0
    """Another number gives other draws."""


class Expectation(Section):
    """What a feature's values must satisfy, or `prepare` refuses the log."""

    min: Annotated[float | None, Field(examples=[0])] = None
    """The least value of a numeric feature."""
    max: Annotated[float | None, Field(examples=[120])] = None
    """The greatest value of a numeric feature."""
    allowed: Annotated[tuple[str, ...] | None, Field(examples=[["M", "F"]])] = None
    """The only values of a categorical feature, beside the missing one."""
    max_missing: Annotated[float | None, Field(ge=0, le=1, examples=[0.1])] = None
    """The greatest share of missing values."""


def _check_time_format(value: str) -> None:
    from datetime import datetime

    moment = datetime(2001, 2, 3, 14, 5, 6)
    try:
        datetime.strptime(moment.strftime(value), value)
    except ValueError as error:
        raise ValueError(f"time_format: {error}. Received: {value!r}") from None
    if moment.strftime(value) == value:
        raise ValueError(f"time_format: must have a part such as %Y. Received: {value!r}")


class Data(Section):
    """The log and how to read it."""

    root: Annotated[str, Field(examples=["/data/ml-100k"])] = "."
    """What relative paths start from: a directory or a URI. `--set data.root=DIR` is the usual way."""
    events: Annotated[Source, Field(examples=[{"path": "events.csv"}])]
    """The log: one row a shown candidate, or a list of them (`explode`)."""
    tables: Annotated[
        dict[Name, Table], Field(examples=[{"users": {"path": "users.csv", "key": "user_id"}}])
    ] = {}
    """Side tables by a name of your choice; they are joined in this order."""
    derive: Annotated[
        dict[Column, Flags | Extract],
        Field(examples=[{"year": {"extract": "date", "pattern": "^([0-9]{4})"}}]),
    ] = {}
    """Columns to make from others: from columns of the events alone before the joins, others after them."""
    label: Annotated[str | None, Field(examples=["rating >= 4"])] = None
    """An expression over columns that gives 0 or 1, or true or false, or (a soft label) a number between: comparisons,
    `and`, `or`, `not`, `in`, `+ - * /`. A column whose name is no plain word stands in backticks. With `negatives` it may be
    missing: every row is a positive then."""
    grade: Annotated[str | None, Field(examples=["rating"])] = None
    """An expression that gives how good a row is, from 0 to 30: NDCG then has the gains 2^grade - 1, while all other
    measures keep to `label`."""
    weight: Annotated[str | None, Field(examples=["1 / propensity"])] = None
    """An expression that gives a row's weight, finite and at least 0."""
    negatives: Annotated[Negatives | None, Field(examples=[{"count": 4, "by": "popularity"}])] = None
    """Negatives to draw for the rows with a label above 0, each of which becomes a request of its own with its negatives."""
    request: Annotated[tuple[Column, ...] | None, Field(min_length=1, examples=[["session_id"]])] = None
    """The columns that tell requests apart: rows of one request are ranked against each other. Without it every row is a
    request of its own: predictions are compared, measures of lists (swaps, NDCG, GAUC) are left out."""
    item: Annotated[Item | None, Field(examples=[{"column": "doc", "feature": False}])] = None
    """What identifies a candidate: a feature by its name (`item: item_id`), or a column that is none. Without it, the first
    single-valued categorical feature with role `item`."""
    timestamp: Annotated[Column | None, Field(examples=["timestamp"])] = None
    """The column that holds the time: numbers, or dates and times as text."""
    time_format: Annotated[str | None, Field(examples=["%d/%m/%Y %H:%M"])] = None
    """How `timestamp` is written, in the letters of Python's `strptime`, if it is not ISO 8601, RFC 2822, or another
    that cannot be mistaken."""
    split: Annotated[Split, Field(examples=[{"by": "hash", "of": "user_id", "eval": 0.1}])]
    """What is held out for the evaluation."""
    max_rejected: Annotated[float | None, Field(ge=0, examples=[0.05])] = 0.01
    """How many rows of the log, and of each side table, may be rejected: a share below 1, or a number of rows from 1; null
    for any number."""
    min_joined: Annotated[float, Field(ge=0, le=1, examples=[0.9])] = 0.5
    """The least share of rows that must have a match in each side table."""
    order_seed: Annotated[int, Field(examples=[1])] = 0
    """Another number gives another base order of the training rows."""
    shards: Annotated[int, Field(ge=1, le=10_000, examples=[16])] = 4
    """Files of each split."""
    expectations: Annotated[dict[Name, Expectation], Field(examples=[{"age": {"min": 0, "max": 120}}])] = {}
    """By feature, what its values must satisfy."""

    @field_validator("item", mode="before", json_schema_input_type=Item | Name | None)
    @classmethod
    def _item_by_name(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    @field_validator("label", "grade", "weight")
    @classmethod
    def _expression_parses(cls, value: str | None) -> str | None:
        if value is not None:
            expression.parse(value)
        return value

    @model_validator(mode="after")
    def _has_labels(self) -> Data:
        if self.label is None and self.negatives is None:
            raise ValueError("label: required key is missing; a log of positives needs negatives")
        return self

    @property
    def has_requests(self) -> bool:
        """Whether several rows may belong to one request."""
        return self.request is not None or self.negatives is not None

    @model_validator(mode="after")
    def _time_split_has_timestamp(self) -> Data:
        if self.split.by == "time" and self.timestamp is None:
            raise ValueError("split.by 'time' needs data.timestamp, the column that holds the time")
        if self.time_format is not None:
            _check_time_format(self.time_format)
        return self

    @property
    def stored_values(self) -> tuple[str, ...]:
        """What an example holds of a row's values: `label`, and `grade` and `weight` where they are set."""
        return ("label", *(key for key in self.expressions if key != "label"))

    @property
    def expressions(self) -> dict[str, str]:
        """The expressions over columns by their keys: `label`, `grade` and `weight` where they are set."""
        texts = {"label": self.label, "grade": self.grade, "weight": self.weight}
        return {key: text for key, text in texts.items() if text is not None}

    def locate(self, path: str) -> str:
        """A source's path as the filesystem knows it: URIs and absolute paths as they are, others from `root`."""
        if "://" in path or Path(path).is_absolute():
            return path
        return f"{self.root.rstrip('/')}/{path}" if "://" in self.root else str(Path(self.root) / path)
