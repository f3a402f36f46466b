"""One request from the command line to one replica."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence

import numpy as np

from ranker.divergence import AnswerCoverage
from ranker.errors import UserError
from serving.client import RankerClient, Ranking
from serving.targets.scoring import ModelCall, connect
from serving.targets.target import parse_target


def ask(
    target: str,
    context: Sequence[str],
    candidates: Sequence[str],
    *,
    model_name: str = "ranker",
    item: str | None = None,
    signature: str | None = None,
    output: str | None = None,
    scale: str | None = None,
    k: int | None = None,
    deadline: float = 5.0,
) -> Ranking:
    """Ranks candidates written as text. Features that are not given are missing.

    Args:
        target: `host:port`, or a URL as `serving.targets.target` reads it, but no plain JSON.
        context: `name=value` texts.
        candidates: one text an item, `name=value,name=value`; a `name=value` with a comma stands in quotes, as in CSV.
        model_name: the model's name.
        item: the feature that identifies a candidate; None: the model is asked (of TF Serving's gRPC), else `item_id`.
        signature: the signature that scores rows; None: the model's `rank`, or `serving_default`.
        output: its output with the scores; None: `score`, else the only one.
        scale: what scores are, one of `serving.targets.target.SCALES`; None: probabilities.
        k: how many of the best, None for all.
        deadline: seconds.

    Raises:
        UserError: a text cannot be read, or names a feature the model does not have.
        ServingError: the replica does not answer, or refuses.
    """
    features = _pairs(context, "--context")
    rows = [_pairs(_fields(text), "--candidate") for text in candidates]
    parsed = parse_target(target)
    if parsed.protocol == "json":
        raise UserError(
            f"a target must be a server of TF Serving's or the Open Inference Protocol. Received: {target}"
        )
    options = {
        name: value
        for name, value in (("signature", signature), ("output", output), ("scale", scale))
        if value is not None
    }
    if parsed.protocol != "grpc" or options:
        call = ModelCall(model_name=model_name, item=item or "item_id", **options)
        return _by_scores(target=target, call=call, context=features, rows=rows, k=k, deadline=deadline)
    with RankerClient(target, model_name=model_name, deadline=deadline, item=item) as client:
        item = item or client.item()
        _check_items(rows, item)
        names = dict.fromkeys(name for row in rows for name in row)
        return client.rank(features, {name: [row.get(name) for row in rows] for name in names}, k)


def _by_scores(
    target: str,
    call: ModelCall,
    context: Mapping[str, str],
    rows: Sequence[Mapping[str, str]],
    k: int | None,
    deadline: float,
) -> Ranking:
    """Ranks by the scores of a server of any protocol: the highest first, ties by the item's text."""
    _check_items(rows, call.item)
    names = dict.fromkeys(name for row in rows for name in row)
    columns: dict[str, list[str | None]] = {name: [value] * len(rows) for name, value in context.items()}
    columns |= {name: [row.get(name) for row in rows] for name in names}
    with connect(target, call, deadline=deadline) as client:
        prediction = client.predict(columns)
    wrong = np.flatnonzero(~np.isfinite(prediction.scores))
    if len(wrong):
        item = rows[wrong[0]][call.item]
        raise UserError(
            f"{target}: {len(wrong)} of {len(rows)} scores are not finite, the first of item {item!r}"
        )
    order = sorted(range(len(rows)), key=lambda n: (-prediction.scores[n], rows[n][call.item]))[:k]
    items = tuple(rows[n][call.item] for n in order)
    return Ranking(items, prediction.scores[order], prediction.version, prediction.latency)


def _check_items(rows: Sequence[Mapping[str, str]], item: str) -> None:
    if not all(row.get(item) for row in rows):
        raise UserError(f"--candidate must give {item}=VALUE, the feature that identifies an item")


def coverage_of(ranking: Ranking, candidates: int) -> AnswerCoverage:
    """How many candidates were asked for and how many have a score; a score that is not finite is an error before."""
    return AnswerCoverage(candidates, candidates if ranking.item_ids else 0)


def table(ranking: Ranking, coverage: AnswerCoverage) -> str:
    """A ranking as lines: rank, score, item; then how many candidates have a score."""
    lines = [f"rank   score     item   (version {ranking.version}, {1000 * ranking.latency:.1f} ms)"]
    for place, (name, score) in enumerate(zip(ranking.item_ids, ranking.scores, strict=True), start=1):
        lines.append(f"{place:4d}   {score:.6f}  {name}")
    return "\n".join([*lines, f"candidates: {coverage.words}"])


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
