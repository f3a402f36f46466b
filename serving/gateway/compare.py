"""Raw answers of several replicas to one request, made into one comparison. Pure: bytes in, a record out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from serving import wire
from serving.mirrored import MirroredRequest, ReplicaAnswer, Value

_COMPARABLE = ("serving_default", "rank")


@dataclass(frozen=True)
class Sampled:
    """A call that a caller made and a replica answered.

    Attributes:
      request_id, time: as in MirroredRequest.
      replica: who answered.
      latency: seconds.
      request, answer: the messages' bytes.
    """

    request_id: str
    time: float
    replica: str
    latency: float
    request: bytes
    answer: bytes


@dataclass(frozen=True)
class Question:
    """What of a request a comparison needs: the signature, the candidates' ids, the features to keep."""

    signature: str
    item_ids: tuple[str, ...]
    features: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)


def question(request: bytes, model_name: str, item: str, features: Sequence[str] = ()) -> Question | None:
    """Returns what a Predict request asks, or None if it ranks nothing; of `features` those that it has.

    None: another model, a signature other than `serving_default` and `rank`, no column of item ids, a filter
    of outputs without the score, bytes that are no PredictRequest.
    """
    try:
        message = wire.PredictRequest.FromString(request)
        signature = _ranking_signature(message, model_name, item)
        if signature is None:
            return None
        kept = {name: _values(message.inputs[name]) for name in features if name in message.inputs}
        return Question(signature, _texts(message.inputs[item]), kept)
    except (DecodeError, ValueError):
        return None


def usable_answer(asked: Question, replica: str, chosen: bool, latency: float, body: bytes) -> ReplicaAnswer:
    """Returns a replica's answer with its scores in the order of the request's candidates.

    An answer with other candidates, another number of scores, or none, has the error `MALFORMED`.
    """
    version: int | None = None
    scores: np.ndarray | None = None
    try:
        message = wire.PredictResponse.FromString(body)
        version = message.model_spec.version.value
        scores = _scores(asked, message, len(asked.item_ids))
    except (DecodeError, ValueError):
        pass
    error = "MALFORMED" if scores is None else ""
    return ReplicaAnswer(replica, chosen, version, latency, len(asked.item_ids), scores, error)


def is_plausible(request: bytes, answer: bytes, model_name: str, item: str) -> bool:
    """Whether an answer can be one to a request: a finite score for each candidate.

    True for requests that rank nothing: there is nothing to hold the answer against.
    """
    try:
        message = wire.PredictRequest.FromString(request)
        signature = _ranking_signature(message, model_name, item)
        if signature is None:
            return True
        candidates = wire.to_array(message.inputs[item])
    except (DecodeError, ValueError):
        return True
    asked = Question(signature, () if signature == "serving_default" else _decoded(candidates))
    try:
        scores = _scores(asked, wire.PredictResponse.FromString(answer), candidates.size)
    except (DecodeError, ValueError):
        return False
    return scores is not None and bool(np.isfinite(scores).all())


def failed_answer(asked: Question, replica: str, latency: float, error: str) -> ReplicaAnswer:
    """Returns the entry of a replica that gave no answer."""
    return ReplicaAnswer(replica, False, None, latency, len(asked.item_ids), None, error)


def comparison(call: Sampled, asked: Question, answers: Sequence[ReplicaAnswer]) -> MirroredRequest:
    """Returns the record; `answers` are those of the mirrored replicas."""
    chosen = usable_answer(asked, call.replica, True, call.latency, call.answer)
    return MirroredRequest(
        call.request_id, call.time, asked.signature, asked.item_ids, (chosen, *answers), asked.features
    )


def _ranking_signature(message: Any, model_name: str, item: str) -> str | None:
    signature: str = message.model_spec.signature_name or "serving_default"
    if (
        message.model_spec.name != model_name
        or signature not in _COMPARABLE
        or item not in message.inputs
        or (message.output_filter and "score" not in message.output_filter)
    ):
        return None
    return signature


def _scores(asked: Question, message: Any, candidates: int) -> np.ndarray | None:
    if "score" not in message.outputs:
        return None
    scores = wire.to_array(message.outputs["score"])
    if scores.size != candidates or scores.dtype.kind != "f":
        return None
    scores = scores.astype(np.float32, copy=False).ravel()
    if asked.signature == "serving_default":
        return scores
    if "item_id" not in message.outputs:
        return None
    # `rank` answers in its own order; a candidate that stands twice takes its scores in that order.
    by_item: dict[str, list[float]] = defaultdict(list)
    for item_id, score in zip(_texts(message.outputs["item_id"]), scores.tolist(), strict=True):
        by_item[item_id].append(score)
    for listed in by_item.values():
        listed.reverse()
    try:
        return np.array([by_item[item_id].pop() for item_id in asked.item_ids], np.float32)
    except IndexError:
        return None


def _values(tensor: Any) -> tuple[Value, ...]:
    """Raw values as they came, once if they are all the same."""
    array = wire.to_array(tensor).ravel()
    values: tuple[Value, ...] = tuple(map(float, array)) if array.dtype.kind == "f" else _texts(tensor)
    return values[:1] if len(set(values)) == 1 else values


def _texts(tensor: Any) -> tuple[str, ...]:
    return _decoded(wire.to_array(tensor))


def _decoded(array: np.ndarray) -> tuple[str, ...]:
    values = array.ravel().tolist()
    if array.dtype == object:  # text
        return tuple([value.decode(errors="replace") for value in values])
    return tuple(map(str, values))
