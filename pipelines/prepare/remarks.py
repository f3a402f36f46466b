"""What `prepare` has to say about the rows: how many there are, what was lost, why, and which key to set.

Each remark is one line for people and plain data for machines. Counts are always said. What may be a mistake is a
warning; what passes a limit of the configuration ends the run (`Limits`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipelines.prepare.write.rejects import Rejections
from ranker.config import Experiment
from ranker.errors import UserError

NULL_MARKERS = (
    "NULL",
    "null",
    "Null",
    "\\N",
    "NA",
    "N/A",
    "n/a",
    "n.a.",
    "N.A.",
    "#N/A",
    "NaN",
    "nan",
    "None",
    "none",
    "-",
    "--",
    "?",
    ".",
    "(null)",
    "missing",
    "nil",
)
"""Texts that other tools write for a missing value."""
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?P<mark>[,.' \u00a0\u202f])\d{3}((?P=mark)\d{3})*([.,]\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_WITH_UNIT = re.compile(r"([$€£¥~<>]|[A-Z]{1,3}) ?[-+]?[\d.]+|[-+]?[\d.]+ ?([%€$£¥+]|[A-Za-z]{1,4})")
_RESOLUTION = 0.01  # of the range of the middle half of the values: what float32 must tell apart


@dataclass(frozen=True)
class Remark:
    """One line about the data.

    Attributes:
        subject: `events`, `tables.<name>`, `joins.<name>`, `features.<name>` or a key of the configuration.
        level: `count` or `warning`.
        text: the line, without the subject.
        rows: rows it is about (rejected, unmatched, ...).
        of: out of how many.
        reason: the commonest reason, if there are several.
        example: a row it is about: `file`, `line`, `text`, or `value`.
        hint: which key of the configuration to set.
    """

    subject: str
    level: str
    text: str
    rows: int = 0
    of: int = 0
    reason: str | None = None
    example: Mapping[str, Any] | None = None
    hint: str | None = None

    @property
    def share(self) -> float:
        """The share of `rows` in `of`."""
        return self.rows / self.of if self.of else 0.0

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with the share."""
        return {**asdict(self), "share": round(self.share, 6)}


def rejected_remark(subject: str, rows: int, rejections: Rejections, counts: str = "") -> Remark:
    """What was read of the log or of a side table.

    Args:
        subject: `events` or `tables.<name>`.
        rows: all rows, good and rejected.
        rejections: the rejected ones.
        counts: what else to say of the good rows.
    """
    lost = rejections.rows
    head = f"{rows:,} rows read{counts}, {lost:,} rejected"
    if not lost:
        return Remark(subject, "count", head, 0, rows)
    reason, example = rejections.commonest or ("", {})
    hint = suggestion(f"data.{subject}", example)
    text = f"{head} ({_percent(lost, rows)}); {_most_often(example, hint)}"
    return Remark(
        subject=subject,
        level="warning",
        text=text,
        rows=lost,
        of=rows,
        reason=reason,
        example=example,
        hint=hint,
    )


def join_remark(
    name: str, key: str, rows: int, unmatched: int, example: Mapping[str, Any] | None, keys: list[str]
) -> Remark:
    """How many rows found their row in a side table.

    Args:
        name: the table.
        key: its key.
        rows: rows of the log that looked for one.
        unmatched: of them, without a match.
        example: `file`, `line` and `value` of the first of them.
        keys: some keys of the table.
    """
    subject = f"joins.{name}"
    head = f"{rows - unmatched:,} of {rows:,} rows ({_percent(rows - unmatched, rows)}) have their {key} in the table"
    if not unmatched or example is None:
        return Remark(subject, "count", head, 0, rows)
    hint = _key_hint(name, key, str(example["value"]), keys)
    text = (
        f"{head}; without it, for example, {example['value']!r} ({example['file']}, line {example['line']}), while the"
        f" table has {', '.join(map(repr, keys)) or 'no rows'}"
    )
    return Remark(
        subject=subject,
        level="warning",
        text=text + (f"; {hint}" if hint else ""),
        rows=unmatched,
        of=rows,
        reason=None,
        example=example,
        hint=hint,
    )


def no_request_remark(rows: int) -> Remark:
    """Why measures of lists are left out, where nothing tells requests apart; `rows` are the held-out ones."""
    hint = "name the columns that tell requests apart in data.request"
    text = (
        "not set: every row is a request of its own; predictions are compared, and measures of lists (swaps, NDCG, GAUC)"
        f" are left out; {hint}"
    )
    return Remark(
        subject="data.request",
        level="count",
        text=text,
        rows=rows,
        of=rows,
        reason=None,
        example=None,
        hint=hint,
    )


def feature_remarks(
    statistics: Mapping[str, Any],
    inexact: Mapping[str, int],
    varying: Mapping[str, int],
    requests: int,
    experiment: Experiment,
) -> list[Remark]:
    """Features that hold nothing, or not what they seem to.

    Args:
        statistics: the content of `statistics.json`.
        inexact: whole numbers that float32 changes, by numeric feature.
        varying: eval requests in which a feature has more than one value, by context feature.
        requests: eval requests.
        experiment: the configuration.
    """
    remarks, rows = [], statistics["rows"]
    for name, entry in statistics["features"].items():
        subject, hint = f"features.{name}", f"remove features.{name}"
        constant = _constant(entry)
        if entry["count"] == 0:
            text = f"all {rows:,} training rows have no value; {hint}"
            remarks.append(
                Remark(
                    subject=subject,
                    level="warning",
                    text=text,
                    rows=rows,
                    of=rows,
                    reason="missing",
                    example=None,
                    hint=hint,
                )
            )
        elif constant is not None and entry["missing"] == 0:
            text = f"is {constant!r} in all {rows:,} training rows; {hint}"
            example = {"value": constant}
            remarks.append(
                Remark(
                    subject=subject,
                    level="warning",
                    text=text,
                    rows=rows,
                    of=rows,
                    reason="constant",
                    example=example,
                    hint=hint,
                )
            )
        if inexact.get(name) or _is_coarse(entry):
            of = entry["count"] + entry["missing"]
            remarks.append(_lossy(subject, entry, inexact.get(name, 0), of))
        if varying.get(name):
            count = varying[name]
            hint = f"set features.{name}.role: item, or name what separates requests in data.request"
            text = (
                f"has role context and more than one value in {count:,} of {requests:,} eval requests"
                f" ({_percent(count, requests)}): a request is served with one; {hint}"
            )
            remarks.append(
                Remark(
                    subject=subject,
                    level="warning",
                    text=text,
                    rows=count,
                    of=requests,
                    reason="varies",
                    example=None,
                    hint=hint,
                )
            )
    return remarks


@dataclass(frozen=True)
class Limits:
    """How much may be lost before the run ends.

    Attributes:
        max_rejected: a share below 1, or a number of rows; None for no limit.
        min_joined: the share of rows that must have a match.
    """

    max_rejected: float | None
    min_joined: float

    def refuse(self, remark: Remark) -> None:
        """Raises a UserError that names the key to change, if a remark on rejected or unmatched rows passes its limit."""
        if remark.subject.startswith("joins."):
            if 1 - remark.share < self.min_joined:
                raise UserError(
                    f"data.min_joined: {remark}. If that is right, lower data.min_joined. Received: {self.min_joined:g}"
                )
        elif self.max_rejected is not None:
            limit = self.max_rejected if self.max_rejected >= 1 else self.max_rejected * remark.of
            if remark.rows > limit:
                table = "" if remark.subject == "events" else f" of {remark.subject}"
                raise UserError(
                    f"data.max_rejected: {remark.rows:,} of {remark.of:,} rows{table} were rejected;"
                    f" {_most_often(remark.example or {}, remark.hint)}. If they may be lost, raise data.max_rejected"
                    f" (a share, a number of rows, or null for no limit). Received: {self.max_rejected:g}"
                )


def suggestion(key: str, example: Mapping[str, Any]) -> str | None:
    """Which key of a source would probably let a rejected row in; None if nothing comes to mind.

    Args:
        key: of the source: `data.events` or `data.tables.<name>`.
        example: the rejected row: `reason`, `text`.
    """
    reason, text = example["reason"], example["text"]
    kind, _, value = reason.partition(": ")
    value = value[1:-1] if len(value) > 1 and value[0] == value[-1] in "'\"" else value
    value = value.replace("\\\\", "\\")
    if kind.endswith(("is not a finite number", "cannot be computed", "is not a time")):
        values = re.findall(r"='(.*?)'", value) if kind.endswith("cannot be computed") else [value]
        for text_value in (text_value.replace("\\\\", "\\") for text_value in values):
            if text_value.strip() in NULL_MARKERS:
                return f"if that means missing, set {key}.null_values: ['{text_value}']"
            mark = _THOUSANDS.fullmatch(text_value.strip())
            if mark:
                decimal = f" and {key}.decimal: ','" if mark["mark"] != "," and "," in text_value else ""
                return f"set {key}.thousands: '{mark['mark']}'{decimal}"
            if _DECIMAL_COMMA.fullmatch(text_value.strip()):
                return f"set {key}.decimal: ','"
            if _WITH_UNIT.fullmatch(text_value.strip()):
                column = kind.removesuffix(" is not a finite number")
                return (
                    f"take the number out with data.derive: {{extract: {column}, pattern: '([-+]?[0-9.]+)'}}"
                )
        if kind == "label cannot be computed" and any(values):
            return "compare text with text in data.label, for example \"event == 'click'\""
        return "set data.time_format" if kind.endswith("is not a time") else None
    if "\0" in text:
        return f"set {key}.encoding, perhaps utf-16"
    if kind == "label is not 0 or 1":
        return "compare it in data.label, for example 'rating >= 4'"
    if kind == "has another number of fields":
        return f"set {key}.quote: '\"'" if '"' in text else f"check {key}.delimiter and {key}.columns"
    if kind == "has broken quotes":
        return f"if quotes are plain characters there, set {key}.quote: null"
    if kind.startswith("is not ") and kind.endswith(" text"):
        return f"set {key}.encoding, for example latin-1 or cp1252"
    if " is neither " in kind:
        return "name its values in data.split.train and data.split.eval"
    if kind == "repeats the header":
        return "the file was joined from several with their headers: no row is lost with these lines"
    if kind == "repeats the key":
        return f"the first row of each key counts; check {key}.key"
    return None


def _most_often(example: Mapping[str, Any], hint: str | None) -> str:
    shown = example["text"][:80] + ("..." if len(example["text"]) > 80 else "")
    text = f"most often: {example['reason']} ({example['file']}, line {example['line']}: {shown!r})"
    return f"{text}; {hint}" if hint else text


def _key_hint(name: str, key: str, value: str, keys: list[str]) -> str | None:
    """Which side to tidy, if both have whole numbers and one side writes them with a fraction or with leading zeros."""
    if value.lower() in {text.lower() for text in keys}:
        return "the keys differ in capital letters alone; write both sides alike"
    odd = re.compile(r"\s+[+-]?\d+\s*|\s*[+-]?\d+\s+|\s*(\+\d+|[+-]?0\d+|[+-]?\d+\.0*)\s*")
    is_whole = re.compile(r"\s*[+-]?\d+(\.0*)?\s*")
    if not keys or not all(is_whole.fullmatch(text) for text in (value, *keys)):
        return None
    sides = [f"data.events.integers: [{key}]"] if odd.fullmatch(value) else []
    sides += [f"data.tables.{name}.integers: [{key}]"] if any(odd.fullmatch(text) for text in keys) else []
    return f"set {' and '.join(sides)}" if sides else None


def _constant(entry: Mapping[str, Any]) -> Any:
    """The only value of a feature, or None."""
    if entry["kind"] == "numeric":
        return entry["min"] if entry["count"] and entry["min"] == entry["max"] else None
    return entry["top"][0][0] if entry.get("cardinality") == 1 else None


def _is_coarse(entry: Mapping[str, Any]) -> bool:
    """Whether neighbouring float32 numbers lie too far apart for a numeric feature's values."""
    if entry["kind"] != "numeric" or not entry["quantiles"] or entry["min"] == entry["max"]:
        return False
    spacing = float(np.spacing(np.float32(max(abs(entry["min"]), abs(entry["max"])))))
    middle = entry["quantiles"][75] - entry["quantiles"][25]
    return middle > 0 and spacing > _RESOLUTION * middle


def _lossy(subject: str, entry: Mapping[str, Any], inexact: int, rows: int) -> Remark:
    count = (
        f"{inexact:,} whole numbers of {entry['min']:g} to {entry['max']:g} change"
        if inexact
        else "values merge"
    )
    hint = "subtract a start or use a coarser unit (seconds, days), or, for ids, set kind: categorical"
    return Remark(
        subject=subject,
        level="warning",
        text=f"loses digits as float32: {count}; {hint}",
        rows=inexact,
        of=rows,
        reason="float32",
        example=None,
        hint=hint,
    )


def _percent(part: int, whole: int) -> str:
    if not whole:
        return "0%"
    percent = 100 * part / whole
    # Neither "100%" of almost all nor "0%" of a few.
    if 0 < part < whole and not 0.1 <= percent <= 99.9:
        return "under 0.1%" if percent < 50 else "over 99.9%"
    return f"{percent:.1f}%".replace(".0%", "%")
