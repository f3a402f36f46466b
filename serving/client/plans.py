"""The client's operations as plans: generators that yield calls, are sent answers, and return a result.

A plan knows requests and answers and nothing of channels, so that the blocking and the asynchronous client
run the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ranker.errors import UserError
from ranker.text import text
from serving import wire
from serving.client.answers import Prediction, Ranking, Signature, TensorSpec, VersionStatus
from serving.client.columns import as_columns, length, to_arrays
from serving.client.errors import FailedPrecondition, InvalidArgument, MalformedAnswer, Unimplemented

DEFAULT_SIGNATURE = "serving_default"


class Call(NamedTuple):
    """One message to send."""

    method: wire.Method
    request: Any


class Answer(NamedTuple):
    """The server's message, and the seconds it took."""

    message: Any
    latency: float


Plan = Generator[Call, Answer, Any]


@dataclass
class Knowledge:
    """What a client knows about its server; learnt once and kept.

    Attributes:
      target: the server's address, for errors.
      model_name: the model asked for.
      item: the feature that identifies a candidate.
      signatures: by name; None: not asked yet.
      ranks: False once the server turned down the `rank` signature.
    """

    target: str
    model_name: str
    item: str
    signatures: dict[str, Signature] | None = None
    ranks: bool = True

    def forget(self) -> None:
        """Drops the signatures: a new version may have others."""
        self.signatures = None

    def spec(self, signature: str = "", version: int | None = None, label: str | None = None) -> Any:
        """Returns a ModelSpec.

        Raises:
          UserError: both a version and a label.
        """
        spec = wire.ModelSpec(name=self.model_name, signature_name=signature)
        if version is not None and label is not None:
            raise UserError(f"give a version or a label, not both. Received: {version} and {label!r}")
        if version is not None:
            spec.version.value = version
        if label is not None:
            spec.version_label = label
        return spec


def predict(known: Knowledge, rows: Mapping[str, Any], version: int | None, label: str | None) -> Plan:
    """Scores rows through `serving_default`; returns a Prediction."""
    signatures = yield from _signatures(known)
    arrays = to_arrays(rows, signatures.get(DEFAULT_SIGNATURE))
    batch = length(arrays)
    answer = yield Call(wire.PREDICT, _request(known.spec(DEFAULT_SIGNATURE, version, label), arrays))
    scores = np.array(_output(known, answer, "score"), np.float32).ravel()
    if len(scores) != batch:
        raise _malformed(known, f"{len(scores)} scores for {batch} rows")
    return Prediction(scores, _version(answer), answer.latency)


def rank(
    known: Knowledge,
    context: Mapping[str, Any],
    candidates: Mapping[str, Any],
    k: int | None,
    version: int | None,
    label: str | None,
) -> Plan:
    """Orders candidates by `rank`, or by `serving_default` where the server can't; returns a Ranking."""
    if k is not None and k < 1:
        raise UserError(f"`k` must be at least 1. Received: k={k}")
    if known.item not in candidates:
        raise UserError(
            f"candidates must have the item's column `{known.item}`. Received: {sorted(candidates)}"
        )
    columns = as_columns(context)
    signatures = yield from _signatures(known)
    if signatures and "rank" not in signatures:
        known.ranks = False
    if known.ranks:
        types = signatures.get("rank")
        items = to_arrays(candidates, types)
        count = length(items)
        request = _request(known.spec("rank", version, label), to_arrays(columns, types) | items)
        try:
            answer = yield Call(wire.PREDICT, request)
        except (InvalidArgument, FailedPrecondition) as error:
            if not _turned_down(error.details):
                raise
            known.ranks = False
        else:
            ids = tuple(text(value) for value in _output(known, answer, "item_id").ravel())
            scores = np.array(_output(known, answer, "score"), np.float32).ravel()
            if len(ids) != count or len(scores) != count:
                raise _malformed(known, f"{len(ids)} items and {len(scores)} scores for {count} candidates")
            return Ranking(ids[:k], scores[:k], _version(answer), answer.latency)
    items = to_arrays(candidates, signatures.get(DEFAULT_SIGNATURE))
    count = length(items)
    repeated = {name: [column[0]] * count for name, column in columns.items()}
    prediction = yield from predict(known, repeated | dict(candidates), version, label)
    ids = tuple(text(value) for value in items[known.item])
    order = sorted(range(count), key=lambda place: (-prediction.scores[place], ids[place].encode()))[:k]
    return Ranking(
        tuple(ids[place] for place in order), prediction.scores[order], prediction.version, prediction.latency
    )


def describe(known: Knowledge, version: int | None, label: str | None) -> Plan:
    """Asks who is served; returns the description with `served_version` added."""
    answer = yield Call(wire.PREDICT, wire.PredictRequest(model_spec=known.spec("describe", version, label)))
    written = text(_output(known, answer, "description").ravel()[0])
    try:
        description = json.loads(written)
    except ValueError:
        raise _malformed(known, f"a description that is not JSON: {written[:80]!r}") from None
    if not isinstance(description, dict):
        raise _malformed(known, f"a description that is not an object: {written[:80]!r}")
    return description | {"served_version": _version(answer)}


def metadata(known: Knowledge, version: int | None, label: str | None) -> Plan:
    """Returns the model's signatures by name."""
    request = wire.GetModelMetadataRequest(
        model_spec=known.spec("", version, label), metadata_field=["signature_def"]
    )
    answer = yield Call(wire.GET_MODEL_METADATA, request)
    if "signature_def" not in answer.message.metadata:
        raise _malformed(known, "metadata without `signature_def`")
    described = wire.SignatureDefMap.FromString(answer.message.metadata["signature_def"].value)
    return {
        name: Signature(_specs(definition.inputs), _specs(definition.outputs), definition.method_name)
        for name, definition in described.signature_def.items()
        if not name.startswith("__")
    }


def status(known: Knowledge) -> Plan:
    """Returns the state of every version that the server knows, the newest first."""
    answer = yield Call(wire.GET_MODEL_STATUS, wire.GetModelStatusRequest(model_spec=known.spec()))
    states = wire.ModelVersionStatus.State
    statuses = [
        VersionStatus(
            entry.version, states.Name(entry.state), entry.status.error_code, entry.status.error_message
        )
        for entry in answer.message.model_version_status
    ]
    return sorted(statuses, key=lambda entry: -entry.version)


def _signatures(known: Knowledge) -> Generator[Call, Answer, dict[str, Signature]]:
    if known.signatures is None:
        try:
            known.signatures = yield from metadata(known, None, None)
        except Unimplemented:
            known.signatures = {}
    return known.signatures


def _turned_down(details: str) -> bool:
    # TF Serving's two reasons: no such signature, and a batching session that wants equal first dimensions.
    return 'signature key "rank"' in details or "equal 0th-dimension size" in details


def _request(spec: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    request = wire.PredictRequest(model_spec=spec)
    for name, array in arrays.items():
        request.inputs[name].CopyFrom(wire.to_tensor(array))
    return request


def _output(known: Knowledge, answer: Answer, name: str) -> np.ndarray:
    outputs = answer.message.outputs
    if name not in outputs:
        raise _malformed(known, f"no output `{name}` among {sorted(outputs)}")
    try:
        return wire.to_array(outputs[name])
    except ValueError as error:
        raise _malformed(known, f"output `{name}`: {error}") from None


def _specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(
            wire.DataType.Name(info.dtype) if info.dtype in wire.DataType.values() else str(info.dtype),
            None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim),
        )
        for name, info in infos.items()
    }


def _version(answer: Answer) -> int:
    return answer.message.model_spec.version.value


def _malformed(known: Knowledge, what: str) -> MalformedAnswer:
    return MalformedAnswer(
        known.target, "OK", what, f"{known.target}: the answer is not a ranking model's: {what}"
    )
