"""The command that asks a replica a kept request again."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ranker.errors import UserError
from ranker.text import text
from serving.deployment import Deployment
from serving.monitor.measurement.exemplars import RequestExemplar
from serving.monitor.requests.probe import ProbeSet, load_probe
from serving.targets.target import parse_target


@dataclass(frozen=True)
class Replay:
    """A command for a shell; `missing` says in a sentence what it leaves out, empty if nothing."""

    command: str
    missing: str = ""


def replay(
    exemplar: RequestExemplar, replica: str, deployment: Deployment | None, probe: Path | None
) -> Replay:
    """Makes the command from what is known of the request.

    Args:
        exemplar: the kept request.
        replica: whom to ask.
        deployment: addresses and feature names; None: a placeholder stands for the address.
        probe: the file of probe requests, which has the candidates' features; None: not known.
    """
    item = deployment.item if deployment is not None else "item_id"
    target = next((r.target for r in deployment.replicas if r.name == replica), None) if deployment else None
    context = {name: _text(value) for name, value in exemplar.context.items() if _text(value)}
    candidates = _candidates(exemplar, item, probe)
    missing = []
    if target is None:
        missing.append("put in the replica's address")
    elif parse_target(target).protocol == "json":
        missing.append("`ranker rank` does not send plain JSON: ask the server by its own client")
    context_names = deployment.context if deployment is not None else ()
    unknown = [name for name in context_names if name not in exemplar.context]
    if unknown:
        missing.append(_not_kept("request", unknown))
    known_names = {name for row in candidates.values() for name in row} | {item}
    lacking = [
        name for name in (deployment.candidate if deployment is not None else ()) if name not in known_names
    ]
    if lacking:
        missing.append(_not_kept("candidates", lacking))
    elif deployment is None and known_names == {item}:
        missing.append("features of the candidates other than their id are not kept")
    rows = [
        {item: name} | {key: _text(value) for key, value in features.items() if _text(value)}
        for name, features in candidates.items()
    ]
    words = ["ranker", "rank", "--target", target or "HOST:PORT"]
    if deployment is not None and deployment.model_name != "ranker":
        words += ["--model-name", deployment.model_name]
    if item != "item_id":
        words += ["--item", item]
    if deployment is not None:
        for option in ("signature", "output", "scale"):
            value = getattr(deployment, option)
            if value != getattr(Deployment, option):
                words += [f"--{option}", value]
    for name, value in context.items():
        words += ["--context", f"{name}={value}"]
    for row in rows:
        words += ["--candidate", _csv([f"{name}={value}" for name, value in row.items()])]
    return Replay(shlex.join(words), "; ".join(missing))


def _csv(fields: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _not_kept(of: str, names: Sequence[str]) -> str:
    return f"of the {of} {', '.join(names)} {'is' if len(names) == 1 else 'are'} not kept"


def _candidates(exemplar: RequestExemplar, item: str, path: Path | None) -> dict[str, Mapping[str, Any]]:
    """Item -> its other features, as far as they are known, by the id."""
    plain: dict[str, Mapping[str, Any]] = {
        name: {} for name in sorted(exemplar.items[0] if exemplar.items else ())
    }
    if exemplar.candidates:
        return plain | {name: exemplar.candidates[name] for name in plain if name in exemplar.candidates}
    probe = _probe(path, item) if path is not None and exemplar.stream == "probe" else None
    if probe is None or exemplar.request not in probe.requests:
        return plain
    position = probe.requests.index(exemplar.request)
    columns = probe.rows(position)
    names = [name for name in columns if name != item and name not in exemplar.context]
    ids = probe.items[probe.row_slice(position)]
    return {
        str(ids[row]): {name: columns[name][row] for name in names} for row in range(probe.size(position))
    }


def _probe(path: Path, item: str) -> ProbeSet | None:
    try:
        return _load(path, path.stat().st_mtime, item)
    except (OSError, UserError):
        return None


@lru_cache(maxsize=2)
def _load(path: Path, changed: float, item: str) -> ProbeSet:
    return load_probe(path, item)


def _text(value: Any) -> str:
    # A numeric feature is float32, whatever width the store kept it in.
    return text(np.float32(value) if isinstance(value, float) else value)


def context_text(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A request's context for people; what is missing is left out."""
    return [(name, _text(value)) for name, value in context.items() if _text(value)]
