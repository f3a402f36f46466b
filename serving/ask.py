"""One request from the command line to one replica."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from ranker.errors import UserError
from serving.client import RankerClient, Ranking


def ask(
    target: str,
    context: Sequence[str],
    candidates: Sequence[str],
    *,
    model_name: str = "ranker",
    item: str | None = None,
    k: int | None = None,
    deadline: float = 5.0,
) -> Ranking:
    """Ranks candidates written as text. Features that are not given are missing.

    Args:
        target: `host:port`.
        context: `name=value` texts.
        candidates: one text an item, `name=value,name=value`; a `name=value` with a comma stands in quotes, as in CSV.
        model_name: the model's name.
        item: the feature that identifies a candidate; None: the model is asked.
        k: how many of the best, None for all.
        deadline: seconds.

    Raises:
        UserError: a text cannot be read, or names a feature the model does not have.
        ServingError: the replica does not answer, or refuses.
    """
    features = _pairs(context, "--context")
    rows = [_pairs(_fields(text), "--candidate") for text in candidates]
    with RankerClient(target, model_name=model_name, deadline=deadline, item=item) as client:
        item = item or client.item()
        if not all(row.get(item) for row in rows):
            raise UserError(f"--candidate must give {item}=VALUE, the feature that identifies an item")
        names = dict.fromkeys(name for row in rows for name in row)
        return client.rank(features, {name: [row.get(name) for row in rows] for name in names}, k)


def table(ranking: Ranking) -> str:
    """A ranking as lines: rank, score, item."""
    lines = [f"rank   score     item   (version {ranking.version}, {1000 * ranking.latency:.1f} ms)"]
    for place, (name, score) in enumerate(zip(ranking.item_ids, ranking.scores, strict=True), start=1):
        lines.append(f"{place:4d}   {score:.6f}  {name}")
    return "\n".join(lines)


def _fields(text: str) -> list[str]:
    try:
        (fields,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError) as error:
        raise UserError(f"--candidate must read as a line of CSV ({error}). Received: {text!r}") from None
    return fields


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise UserError(f"{option} must be NAME=VALUE. Received: {text!r}")
        if name.strip() in pairs:
            raise UserError(f"{option} must give a feature once. Received twice: {name.strip()}")
        pairs[name.strip()] = value
    return pairs
