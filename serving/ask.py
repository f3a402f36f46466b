"""One request from the command line to one replica."""

from __future__ import annotations

from collections.abc import Sequence

from ranker.errors import UserError
from serving.client import RankerClient, Ranking


def ask(
    target: str,
    context: Sequence[str],
    candidates: Sequence[str],
    *,
    model_name: str = "ranker",
    item: str = "item_id",
    k: int | None = None,
    deadline: float = 5.0,
) -> Ranking:
    """Ranks candidates written as text.

    Args:
        target: `host:port`.
        context: `name=value` texts.
        candidates: one text an item, `name=value,name=value`.
        model_name: the model's name.
        item: the feature that identifies a candidate.
        k: how many of the best, None for all.
        deadline: seconds.

    Raises:
        UserError: a text cannot be read, or names a feature the model does not have.
        ServingError: the replica does not answer, or refuses.
    """
    given = _pairs(context, "--context")
    rows = [_pairs(text.split(","), "--candidate") for text in candidates]
    if any(item not in row for row in rows):
        raise UserError(f"--candidate must give {item}=VALUE, the feature that identifies an item")
    with RankerClient(target, model_name=model_name, deadline=deadline, item=item) as client:
        known = client.metadata()["serving_default"].inputs
        for name in [*given, *(name for row in rows for name in row)]:
            if name not in known:
                raise UserError(f"the model has no feature {name!r}; it has {', '.join(sorted(known))}")
        # What nobody gave is missing: empty text, NaN. Whether a feature is the context's only the caller knows.
        columns = {name for row in rows for name in row}
        missing = {name: "" if spec.dtype == "DT_STRING" else float("nan") for name, spec in known.items()}
        wholly = {name: given.get(name, missing[name]) for name in known if name not in columns}
        return client.rank(
            wholly, {name: [row.get(name, missing[name]) for row in rows] for name in columns}, k
        )


def table(ranking: Ranking) -> str:
    """A ranking as lines: rank, score, item."""
    lines = [f"rank   score     item   (version {ranking.version}, {1000 * ranking.latency:.1f} ms)"]
    for place, (name, score) in enumerate(zip(ranking.item_ids, ranking.scores, strict=True), start=1):
        lines.append(f"{place:4d}   {score:.6f}  {name}")
    return "\n".join(lines)


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise UserError(f"{option} must be NAME=VALUE. Received: {text!r}")
        pairs[name.strip()] = value
    return pairs
