"""The client of a ranking model behind TF Serving's gRPC API."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from ranker.errors import UserError
from ranker.text import text
from serving import wire
from serving.client.answers import Prediction, Ranking, Signature, TensorSpec, VersionStatus
from serving.client.columns import (
    as_context,
    check_features,
    check_mapping,
    has_items,
    holds_lists,
    length,
    missing,
    scoring_inputs,
    shaped,
    to_arrays,
)
from serving.client.connection import (
    Tls,
    backoff,
    channel_options,
    check_limits,
    check_target,
    proxy_of,
)
from serving.client.errors import (
    ClientClosed,
    FailedPrecondition,
    InvalidArgument,
    MalformedAnswer,
    Unimplemented,
    error_for,
)
from serving.client.outputs import OutputError, choose_output, scores_in

DEFAULT_SIGNATURE = "serving_default"
_DEFAULT_ITEM = "item_id"
_LONGEST = 1e8  # seconds; gRPC takes no more than its clock holds


class RankerClient:
    """Asks a ranking model behind TF Serving's gRPC API; one connection, safe to share between threads.

    Every operation raises a `ServingError` subclass that keeps the server's text, and `ranker.errors.UserError` for
    arguments that can't be sent; nothing else.

    Values are given as they are: text, numbers, truth values, times; a feature of text gets the text of `ranker.text`. None
    and NaN are missing; an infinite number is refused. A multivalued feature takes a list of its items.

    Args:
      target: `host:port`.
      model_name: the model's name on the server.
      deadline: seconds for one operation, retries and look-ups of types included.
      retries: how often a call is sent again after UNAVAILABLE (and nothing else), with growing waits.
      tls: whom to trust and who we are; None: no TLS.
      item: the feature that identifies a candidate; None: what the model's `describe` says, else `item_id`.
      signature: the signature that scores rows.
      output: its output with the scores, `NAME`, or `NAME[COLUMN]` of several numbers a row; None: `score` if there is one,
        else the only one.

    Example:
      with RankerClient("127.0.0.1:8500") as client:
          ranking = client.rank({"user_id": "7"}, {"item_id": ["1", "2", "3"]}, k=2)
    """

    def __init__(
        self,
        target: str,
        *,
        model_name: str = "ranker",
        deadline: float = 5.0,
        retries: int = 2,
        tls: Tls | None = None,
        item: str | None = None,
        signature: str = DEFAULT_SIGNATURE,
        output: str | None = None,
    ) -> None:
        check_limits(deadline, retries)
        self.target = check_target(target)
        self.deadline = deadline
        self.retries = retries
        self._model_name = model_name
        self._item = item
        self._signature = signature
        self._output = output
        # What the server has said, learnt once; None: not asked yet. A race asks twice.
        self._signatures: dict[str, Signature] | None = None
        self._description: dict[str, Any] | None = None
        self._has_rank = True
        options = channel_options(target, tls)
        self._channel = (
            grpc.secure_channel(target, tls.credentials(), options)
            if tls
            else grpc.insecure_channel(target, options)
        )
        self._methods: dict[str, Any] = {}

    def predict(
        self, rows: Mapping[str, Any], *, version: int | None = None, label: str | None = None
    ) -> Prediction:
        """Scores rows, given as columns of raw values of one length.

        The scores are what the model answers; a broken model's may be NaN. See `serving.client.columns.scoring_inputs`
        for models that take other inputs than the columns.
        """
        check_mapping(rows, "rows")
        with _Operation(self) as operation:
            return self._predict(operation, rows, version, label)

    def rank(
        self,
        context: Mapping[str, Any],
        candidates: Mapping[str, Any],
        k: int | None = None,
        *,
        version: int | None = None,
        label: str | None = None,
    ) -> Ranking:
        """Orders candidates for a context, the best `k` of them (None: all). Features that are not given are missing.

        Uses the `rank` signature; `serving_default` with the context repeated where the model has no such
        signature or the server batches, which forbids inputs of unequal first dimensions.

        Raises:
          MalformedAnswer: a score is not finite, or the answer is not about these candidates.
        """
        check_mapping(context, "context")
        check_mapping(candidates, "candidates")
        if k is not None and (not isinstance(k, (int, np.integer)) or k < 1):
            raise UserError(f"`k` must be a whole number >= 1. Received: k={k!r}")
        twice = sorted(context.keys() & candidates.keys())
        if twice:
            raise UserError(
                f"a feature must be the context's or the candidates', not both. Received: {twice}"
            )
        with _Operation(self) as operation:
            return self._rank(
                operation=operation, context=context, candidates=candidates, k=k, version=version, label=label
            )

    def item(self) -> str:
        """Returns the feature that identifies a candidate."""
        with _Operation(self) as operation:
            return self._item_feature(operation)

    def describe(self, *, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        """Returns who is served: the `describe` signature's object, and `served_version`."""
        with _Operation(self) as operation:
            return self._describe(operation, version, label)

    def metadata(self, *, version: int | None = None, label: str | None = None) -> dict[str, Signature]:
        """Returns the model's signatures by name."""
        with _Operation(self) as operation:
            return self._metadata(operation, version, label)

    def status(self) -> list[VersionStatus]:
        """Returns the state of every version that the server knows, the newest first."""
        with _Operation(self) as operation:
            request = wire.GetModelStatusRequest(model_spec=self._spec())
            answer, _ = operation.send(wire.GET_MODEL_STATUS, request)
        statuses = [
            VersionStatus(
                entry.version, _state(entry.state), entry.status.error_code, entry.status.error_message
            )
            for entry in answer.model_version_status
        ]
        return sorted(statuses, key=lambda entry: -entry.version)

    def close(self) -> None:
        """Closes the connection; calls under way end with an error."""
        self._channel.close()

    def __enter__(self) -> RankerClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _predict(
        self, operation: _Operation, rows: Mapping[str, Any], version: int | None, label: str | None
    ) -> Prediction:
        signature = self._scoring_signature(operation)
        takes_columns = signature is None or not signature.inputs or rows.keys() <= signature.inputs.keys()
        item = _DEFAULT_ITEM if takes_columns else self._item_feature(operation)
        separators = self._separators(operation) if any(map(holds_lists, rows.values())) else {}
        arrays = scoring_inputs(rows, signature, item, separators)
        batch = length(arrays)
        request = self._request(self._spec(self._signature, version, label), arrays)
        answer, latency = operation.send(wire.PREDICT, request)
        scores = self._scores(answer)
        if len(scores) != batch:
            raise self._malformed(f"{len(scores)} scores for {batch} rows")
        return Prediction(scores, answer.model_spec.version.value, latency)

    def _rank(
        self,
        operation: _Operation,
        context: Mapping[str, Any],
        candidates: Mapping[str, Any],
        k: int | None,
        version: int | None,
        label: str | None,
    ) -> Ranking:
        item = self._item_feature(operation)
        if item not in candidates:
            raise UserError(
                f"candidates must have the item's column `{item}`. Received: {sorted(map(str, candidates))}"
            )
        signatures = self._all_signatures(operation)
        lists = any(map(has_items, context.values())) or any(map(holds_lists, candidates.values()))
        separators = self._separators(operation) if lists else {}
        check_features([*context, *candidates], signatures.get(self._signature))
        columns = as_context(context, separators)
        if signatures and "rank" not in signatures:
            self._has_rank = False
        if self._has_rank:
            signature = signatures.get("rank")
            items = to_arrays(candidates, signature, separators)
            count = length(items)
            row = to_arrays(columns, signature, separators) if columns else {}
            absent = missing(signature, [*columns, *candidates])
            spec = self._spec("rank", version, label)
            try:
                answer, latency = operation.send(wire.PREDICT, self._request(spec, row | absent | items))
            except (InvalidArgument, FailedPrecondition) as error:
                if not _has_no_rank(error.details):
                    raise
                self._has_rank = False
            else:
                ids = tuple(text(value) for value in self._values(answer, "item_id").ravel())
                scores = self._ranked_scores(answer, ids)
                if len(ids) != count or sorted(ids) != sorted(map(text, items[item])):
                    raise self._malformed(f"other items than the {count} candidates")
                return Ranking(ids[:k], scores[:k], answer.model_spec.version.value, latency)
        signature = signatures.get(self._signature)
        items = to_arrays(candidates, signature, separators)
        count = length(items)
        row = to_arrays(columns, signature, separators) if columns else {}
        row |= missing(signature, [*columns, *candidates])
        repeated = {name: np.repeat(values, count) for name, values in row.items()}
        inputs = shaped(repeated | items, signature)
        request = self._request(self._spec(self._signature, version, label), inputs)
        answer, latency = operation.send(wire.PREDICT, request)
        ids = tuple(text(value) for value in items[item])
        scores = self._ranked_scores(answer, ids)
        order = sorted(range(count), key=lambda place: (-scores[place], ids[place].encode()))[:k]
        ordered = tuple(ids[place] for place in order)
        return Ranking(ordered, scores[order], answer.model_spec.version.value, latency)

    def _describe(self, operation: _Operation, version: int | None, label: str | None) -> dict[str, Any]:
        request = wire.PredictRequest(model_spec=self._spec("describe", version, label))
        answer, _ = operation.send(wire.PREDICT, request)
        values = self._values(answer, "description").ravel()
        written = text(values[0]) if len(values) else ""
        try:
            description = json.loads(written)
        except (ValueError, RecursionError):
            raise self._malformed(f"a description that is not JSON: {written[:80]!r}") from None
        if not isinstance(description, dict):
            raise self._malformed(f"a description that is not an object: {written[:80]!r}")
        return description | {"served_version": answer.model_spec.version.value}

    def _metadata(
        self, operation: _Operation, version: int | None, label: str | None
    ) -> dict[str, Signature]:
        request = wire.GetModelMetadataRequest(
            model_spec=self._spec("", version, label), metadata_field=["signature_def"]
        )
        answer, _ = operation.send(wire.GET_MODEL_METADATA, request)
        if "signature_def" not in answer.metadata:
            raise self._malformed("metadata without `signature_def`")
        try:
            described = wire.SignatureDefMap.FromString(answer.metadata["signature_def"].value)
        except DecodeError:
            raise self._malformed("metadata whose `signature_def` is no SignatureDefMap") from None
        return {
            name: Signature(_specs(definition.inputs), _specs(definition.outputs), definition.method_name)
            for name, definition in described.signature_def.items()
            if not name.startswith("__")
        }

    def _all_signatures(self, operation: _Operation) -> dict[str, Signature]:
        if self._signatures is None:
            try:
                self._signatures = self._metadata(operation, None, None)
            except Unimplemented:
                self._signatures = {}
        return self._signatures

    def _scoring_signature(self, operation: _Operation) -> Signature | None:
        signatures = self._all_signatures(operation)
        if signatures and self._signature not in signatures:
            reason = f'Serving signature key "{self._signature}" not found; signatures: {", ".join(sorted(signatures))}'
            raise FailedPrecondition(self.target, "FAILED_PRECONDITION", reason)
        return signatures.get(self._signature)

    def _own_description(self, operation: _Operation) -> dict[str, Any]:
        if self._description is None:
            has_description = "describe" in self._all_signatures(operation)
            self._description = self._describe(operation, None, None) if has_description else {}
        return self._description

    def _item_feature(self, operation: _Operation) -> str:
        return self._item or str(self._own_description(operation).get("item") or _DEFAULT_ITEM)

    def _separators(self, operation: _Operation) -> dict[str, str]:
        separators = self._own_description(operation).get("multivalued")
        return separators if isinstance(separators, dict) else {}

    def _spec(self, signature: str = "", version: int | None = None, label: str | None = None) -> Any:
        if version is not None and label is not None:
            raise UserError(f"give a version or a label, not both. Received: {version} and {label!r}")
        try:
            spec = wire.ModelSpec(name=self._model_name, signature_name=signature)
            if version is not None:
                spec.version.value = version
            if label is not None:
                spec.version_label = label
        except (TypeError, ValueError):
            raise UserError(
                "a model must be asked for by a name, and a whole version or a label. "
                f"Received: {self._model_name!r}, {version!r}, {label!r}"
            ) from None
        return spec

    def _request(self, spec: Any, arrays: Mapping[str, np.ndarray]) -> Any:
        request = wire.PredictRequest(model_spec=spec)
        for name, array in arrays.items():
            try:
                wire.write_tensor(array, request.inputs[name])
            except (TypeError, ValueError) as error:
                raise UserError(f"column {name!r} cannot be sent: {' '.join(str(error).split())}") from None
        return request

    def _values(self, answer: Any, name: str) -> np.ndarray:
        if name not in answer.outputs:
            raise self._malformed(f"no output `{name}` among {sorted(answer.outputs)}")
        try:
            return wire.to_array(answer.outputs[name])
        except wire.TensorError as error:
            raise self._malformed(f"output `{name}`: {error}") from None

    def _scores(self, answer: Any) -> np.ndarray:
        try:
            name, column = choose_output(answer.outputs, self._output)
            scores = scores_in(name, self._values(answer, name), column)
        except OutputError as error:
            raise self._malformed(str(error)) from None
        return scores.astype(np.float32)

    def _ranked_scores(self, answer: Any, ids: tuple[str, ...]) -> np.ndarray:
        scores = self._scores(answer)
        if len(scores) != len(ids):
            raise self._malformed(f"{len(scores)} scores for {len(ids)} candidates")
        wrong = np.flatnonzero(~np.isfinite(scores))
        if len(wrong):
            first = wrong[0]
            raise self._malformed(
                f"{len(wrong)} of {len(scores)} scores are not finite: {scores[first]} for item {ids[first]!r}"
            )
        return scores

    def _malformed(self, reason: str) -> MalformedAnswer:
        return MalformedAnswer(
            self.target, "OK", reason, f"{self.target}: the answer is not a ranking model's: {reason}"
        )

    def _method(self, method: wire.Method) -> Any:
        if method.path not in self._methods:
            self._methods[method.path] = self._channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
        return self._methods[method.path]


class _Operation:
    """One operation's calls: they share a deadline. A changed signature is learnt again after an error."""

    def __init__(self, client: RankerClient):
        self._client = client
        self._expires = time.monotonic() + client.deadline

    def send(self, method: wire.Method, request: Any) -> tuple[Any, float]:
        """Returns the answer and the seconds it took."""
        client = self._client
        waits = backoff(client.retries)
        while True:
            started = time.monotonic()
            if started >= self._expires:
                raise error_for(client.target, "DEADLINE_EXCEEDED", "", client.deadline)
            try:
                answer = client._method(method)(request, timeout=min(self._expires - started, _LONGEST))
                return answer, time.monotonic() - started
            except grpc.RpcError as status:
                details = status.details() or ""
                if "Exception deserializing response" in details:
                    raise client._malformed("bytes that are no message of this method") from None
                proxy = proxy_of(client.target) if status.code().name == "UNAVAILABLE" else None
                details += f" (asked through the proxy {proxy})" if proxy else ""
                error = error_for(client.target, status.code().name, details, client.deadline)
            except ValueError:  # the only one that gRPC raises here: the channel is closed
                raise ClientClosed(client.target, "CANCELLED", "the client is closed") from None
            wait = next(waits, None) if error.code == "UNAVAILABLE" else None
            if wait is None or time.monotonic() + wait >= self._expires:
                raise error
            time.sleep(wait)

    def __enter__(self) -> _Operation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, (InvalidArgument, FailedPrecondition)):
            self._client._signatures = self._client._description = None


def _has_no_rank(details: str) -> bool:
    # TF Serving's two reasons: no such signature, and a batching session that wants equal first dimensions.
    return 'signature key "rank"' in details or "equal 0th-dimension size" in details


def _specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(
            wire.DataType.Name(info.dtype) if info.dtype in wire.DataType.values() else str(info.dtype),
            None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim),
        )
        for name, info in infos.items()
    }


def _state(number: int) -> str:
    states = wire.ModelVersionStatus.State
    return states.Name(number) if number in states.values() else str(number)
