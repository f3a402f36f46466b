"""A proposal as YAML: one line a choice, with its evidence as a comment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ranker.json_text import json_text

if TYPE_CHECKING:
    from pipelines.init.proposal import Proposal, SourceProposal

_YAML_WORDS = {"null", "true", "false", "yes", "no", "y", "n", "on", "off"}
_SETTINGS = (
    "model: {embedding_stddev: 0}  # replicas begin alike, and an id says nothing before it has learnt",
    "training: {batch_size: 256, reshuffle: true, average_last: 0.5}  # the mean of the weights over half of the steps",
    "replicas: {count: 3, seed: 1, vary: [shuffle]}",
    "arms: {smelu: {}, relu: {model.activation: {name: relu}}}",
)
_WIDTH = 110
_SHORTEST_SERIES = 5


def yaml_text(proposal: Proposal) -> str:
    """The file that `ranker init` writes."""
    lines = [
        f"# A first configuration for {proposal.heading}.",
        "# Each choice has its evidence beside it; lines that begin with QUESTION are for you.",
        f"name: {_flow(proposal.name)}",
        "data:",
        f"  root: {_flow(proposal.root)}",
        "  events:",
        *_source(proposal.events, "    "),
    ]
    if proposal.tables:
        lines.append("  tables:")
    for name, table in proposal.tables.items():
        lines += [f"    {_flow(name)}:", *_source(table, "      ")]
    lines += [f"  {key}: {_flow(value)}{_comment(reason)}" for key, (value, reason) in proposal.data.items()]
    lines.append("features:")
    lines += [
        f"  {_flow(name)}: {_flow(feature)}{_comment(reason)}"
        for name, feature, reason in _in_ranges(proposal.features)
    ]
    for reason, names in proposal.omitted.items():
        lines += _wrapped(f"left out, {reason}: {', '.join(names)}")
    lines += _SETTINGS
    lines += [f"# QUESTION {number}: {question}" for number, question in enumerate(proposal.questions, 1)]
    return "\n".join(lines) + "\n"


def _in_ranges(features: Mapping[str, tuple[dict[str, Any], str]]) -> list[tuple[str, dict[str, Any], str]]:
    """(name, feature, reason) of each; those that differ in the number of their name alone are one: `f1..f136`."""
    entries: list[tuple[str, dict[str, Any], str]] = []
    series: list[str] = []

    def end_series() -> None:
        if len(series) < _SHORTEST_SERIES:
            entries.extend((name, *features[name]) for name in series)
        elif series:
            feature, reason = features[series[0]]
            entries.append((f"{series[0]}..{series[-1]}", feature, f"{series[0]}: {reason}"))
        series.clear()

    for name, (feature, _) in features.items():
        if series and not (_follows(series[-1], name) and features[series[-1]][0] == feature):
            end_series()
        series.append(name)
    end_series()
    return entries


def _follows(name: str, next_name: str) -> bool:
    match = re.fullmatch(r"(.*?)(0|[1-9]\d*)", name)
    return match is not None and next_name == f"{match[1]}{int(match[2]) + 1}"


def _source(source: SourceProposal, indent: str) -> list[str]:
    lines = [f"{indent}path: {_flow(source.path)}"]
    lines += [
        f"{indent}{key}: {_flow(value)}{_comment(reason)}" for key, (value, reason) in source.settings.items()
    ]
    return lines + [f"{indent}# {note}" for note in source.notes]


def _comment(reason: str) -> str:
    return f"  # {' '.join(reason.split())}" if reason else ""


def _wrapped(text: str) -> list[str]:
    lines, line = [], "  #"
    for word in text.split(" "):
        if len(line) + len(word) > _WIDTH:
            lines.append(line)
            line = "  #  "
        line += f" {word}"
    return [*lines, line]


def _flow(value: Any) -> str:
    """A value in YAML's flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if (
        isinstance(value, str)
        and value.lower() not in _YAML_WORDS
        and re.fullmatch(r"[A-Za-z_/][\w./-]*", value)
    ):
        return value
    return json_text(value, ensure_ascii=False)
