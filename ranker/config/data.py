"""`data`: where rows come from, what is the label, what is one request, what is held out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ranker.config import expression
from ranker.config.base import Name, Section


class Source(Section):
    """Files of rows: delimited text (plain or `.gz`) or Parquet.

    `path` is relative to `data.root`, may be a glob or a list of them. `columns` names the columns of a
    delimited file in order; without it the first line is the header. Values stay text until a feature or the
    label asks for numbers.
    """

    path: str | tuple[str, ...]
    format: Literal["delimited", "parquet"] = "delimited"
    delimiter: Annotated[str, Field(min_length=1)] = ","
    quote: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    encoding: str = "utf-8"
    columns: tuple[Name, ...] | None = None

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


class Table(Source):
    """A side table joined to the events by `key` (a column of both)."""

    key: Name


class Flags(Section):
    """A multi-valued column from 0/1 columns: the names of those that are `1`, joined by `separator`."""

    flags: Annotated[tuple[Name, ...], Field(min_length=1)]
    separator: Annotated[str, Field(min_length=1)] = "|"


class Extract(Section):
    """A column from part of another: the first group of a regular expression, empty where it does not match."""

    extract: Name
    pattern: str

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

    by: Literal["time"]
    eval: Annotated[float, Field(gt=0, lt=1)] = 0.1


class HashSplit(Section):
    """A stable pseudo-random share: rows whose hash of the columns `of` falls below `eval`."""

    by: Literal["hash"]
    of: str | tuple[str, ...]
    eval: Annotated[float, Field(gt=0, lt=1)] = 0.1


class ColumnSplit(Section):
    """The split is a column's value. Rows whose value is in neither list are rejected, and counted so."""

    by: Literal["column"]
    of: Name
    train: tuple[str, ...] = ("train",)
    eval: tuple[str, ...] = ("eval", "test")


Split = Annotated[TimeSplit | HashSplit | ColumnSplit, Field(discriminator="by")]


class Expectation(Section):
    """What a feature's values must satisfy, or `prepare` refuses the log."""

    min: float | None = None
    max: float | None = None
    allowed: tuple[str, ...] | None = None
    max_missing: Annotated[float, Field(ge=0, le=1)] | None = None


class Data(Section):
    """The log and how to read it."""

    root: str = "."
    events: Source
    tables: dict[Name, Table] = {}
    derive: dict[Name, Flags | Extract] = {}
    label: str
    weight: Name | None = None
    request: Annotated[tuple[Name, ...], Field(min_length=1)]
    item: Name | None = None
    timestamp: Name | None = None
    split: Split
    max_rejected: Annotated[float, Field(ge=0)] | None = 0.01
    min_joined: Annotated[float, Field(ge=0, le=1)] = 0.5
    order_seed: int = 0
    shards: Annotated[int, Field(ge=1, le=10_000)] = 4
    expectations: dict[Name, Expectation] = {}

    @field_validator("label")
    @classmethod
    def _label_parses(cls, value: str) -> str:
        expression.parse(value)
        return value

    @model_validator(mode="after")
    def _time_split_has_timestamp(self) -> Data:
        if self.split.by == "time" and self.timestamp is None:
            raise ValueError("split.by 'time' needs data.timestamp, the column that holds the time")
        return self

    def locate(self, path: str) -> str:
        """A source's path as the filesystem knows it: URIs and absolute paths as they are, others from `root`."""
        if "://" in path or Path(path).is_absolute():
            return path
        return f"{self.root.rstrip('/')}/{path}" if "://" in self.root else str(Path(self.root) / path)
