"""The command that asks a replica a kept request again."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ranker import layout
from ranker.errors import UserError
from serving.deployment import Deployment
from serving.monitor.exemplars import Exemplar
from serving.monitor.requests import ProbeSet, load_probe


@dataclass(frozen=True)
class Replay:
    """A command for a shell; `missing` says in a sentence what it leaves out, empty if nothing."""

    command: str
    missing: str = ""


def replay(one: Exemplar, replica: str, deployment: Deployment | None, run: Path | None) -> Replay:
    """Makes the command from what is known of the request.

    Args:
        one: the kept request.
        replica: whom to ask.
        deployment: addresses and feature names; None: a placeholder stands for the address.
        run: the run directory, whose probe requests have the candidates' features.
    """
    item = deployment.item if deployment is not None else "item_id"
    target = next((r.target for r in deployment.replicas if r.name == replica), None) if deployment else None
    context, candidates, complete = _features(one, item, deployment, run)
    missing = []
    if target is None:
        missing.append("put in the replica's address")
    unknown = [name for name in deployment.context if name not in one.context] if deployment else []
    if unknown:
        missing.append(f"of the request {', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} not kept")
    if not complete:
        missing.append("features of the candidates other than their id are not kept")
    if any("," in value for row in candidates for value in row.values()):
        missing.append("a value has a comma, which the command line takes as the end of a feature")
    words = ["ranker", "rank", "--target", target or "HOST:PORT"]
    if deployment is not None and deployment.model_name != "ranker":
        words += ["--model-name", deployment.model_name]
    if item != "item_id":
        words += ["--item", item]
    for name, value in context.items():
        words += ["--context", f"{name}={value}"]
    for row in candidates:
        words += ["--candidate", ",".join(f"{name}={value}" for name, value in row.items())]
    return Replay(shlex.join(words), "; ".join(missing))


def _features(
    one: Exemplar, item: str, deployment: Deployment | None, run: Path | None
) -> tuple[dict[str, str], list[dict[str, str]], bool]:
    context = {name: _text(value) for name, value in one.context.items() if _text(value)}
    ids = sorted(set(one.items[0])) if one.items else []
    plain = [{item: name} for name in ids]
    names: Sequence[str] = deployment.candidate if deployment is not None else ()
    if set(names) <= {item} and deployment is not None:
        return context, plain, True
    probe = _probe(run, item) if run is not None and one.stream == "probe" else None
    if probe is None or one.request not in probe.requests:
        return context, plain, False
    columns = probe.rows(probe.requests.index(one.request))
    wanted = [
        item,
        *(name for name in names or columns if name in columns and name != item and name not in context),
    ]
    rows = [
        {name: _text(columns[name][row]) for name in wanted if _text(columns[name][row])}
        for row in range(len(columns[item]))
    ]
    return context, rows, True


def _probe(run: Path, item: str) -> ProbeSet | None:
    path = layout.probe_path(run)
    try:
        return _load(path, path.stat().st_mtime_ns, item)
    except (OSError, UserError):
        return None


@lru_cache(maxsize=2)
def _load(path: Path, changed: int, item: str) -> ProbeSet:
    return load_probe(path, item)


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if hasattr(value, "item"):
        return _text(value.item())
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def context_text(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A request's context for people; what is missing is left out."""
    return [(name, _text(value)) for name, value in context.items() if _text(value)]
