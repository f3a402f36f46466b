"""A live request that every replica answered: the gateway writes them, the monitor measures them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ranker.errors import UserError

Value = str | float | None
"""Of a raw feature."""


@dataclass(frozen=True)
class ReplicaAnswer:
    """What one replica made of the request.

    Attributes:
      replica: its name in the deployment.
      chosen: whether the caller got this answer; the others were mirrored.
      version: the version that answered; None: no answer.
      latency: seconds, as the gateway saw it.
      batch_size: candidates scored in one call.
      scores: float32, `[candidates]`, in the order of the request's `item_ids`; None: no usable answer.
      error: why there is none: a gRPC status name, `BREAKER_OPEN` or `MALFORMED`; empty: there is one.
    """

    replica: str
    chosen: bool
    version: int | None
    latency: float
    batch_size: int
    scores: np.ndarray | None
    error: str = ""


@dataclass(frozen=True)
class MirroredRequest:
    """One comparison of replicas on live traffic.

    Attributes:
      request_id: the caller's id, or a hash of the request where it sent none.
      time: when the caller's call came in, in seconds since 1970.
      signature: the signature called, `serving_default` or `rank`.
      item_ids: the candidates, in the caller's order.
      answers: one a replica, the chosen one first.
      features: the raw values of the features that the gateway was told to keep, one for the whole request or one a
        candidate; text, numbers, or None where missing.
    """

    request_id: str
    time: float
    signature: str
    item_ids: tuple[str, ...]
    answers: tuple[ReplicaAnswer, ...]
    features: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)


def to_json(request: MirroredRequest) -> str:
    """Returns the request as one line of JSON (without the line's end)."""
    answers = [
        {
            "replica": answer.replica,
            "chosen": answer.chosen,
            "version": answer.version,
            "latency": round(answer.latency, 6),
            "batch_size": answer.batch_size,
            # The shortest text that reads back as the same float32.
            "scores": None if answer.scores is None else [float(str(score)) for score in answer.scores],
            "error": answer.error,
        }
        for answer in request.answers
    ]
    features = {name: [_known(value) for value in values] for name, values in request.features.items()}
    return json.dumps(
        {
            "request_id": request.request_id,
            "time": request.time,
            "signature": request.signature,
            "item_ids": list(request.item_ids),
            "answers": answers,
            **({"features": features} if features else {}),
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def from_json(line: str) -> MirroredRequest:
    """Returns the request that `to_json` wrote.

    Raises:
      UserError: the line is not one.
    """
    try:
        tree = json.loads(line)
        answers = tuple(
            ReplicaAnswer(
                entry["replica"],
                entry["chosen"],
                entry["version"],
                entry["latency"],
                entry["batch_size"],
                None if entry["scores"] is None else np.array(entry["scores"], np.float32),
                entry["error"],
            )
            for entry in tree["answers"]
        )
        features = {str(name): tuple(values) for name, values in tree.get("features", {}).items()}
        return MirroredRequest(
            tree["request_id"], tree["time"], tree["signature"], tuple(tree["item_ids"]), answers, features
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"not a mirrored request ({type(error).__name__}: {error}): {line[:80]!r}") from None


def _known(value: Value) -> Value:
    """JSON has no NaN: a missing number is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
