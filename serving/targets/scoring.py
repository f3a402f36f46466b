"""Clients that score rows, whatever the server speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from ranker.scored.scale import ValueRange, logistic, order_codes
from serving.client import Prediction, RankerClient, Tls
from serving.targets.http import JsonClient, JsonConnection, OpenInferenceClient, TfServingRestClient
from serving.targets.open_inference_grpc import GrpcDocumentConnection
from serving.targets.target import Target, check_scale, parse_target


class ScoringClient(Protocol):
    """Scores rows by one model on one server; safe to share between threads.

    Errors are `serving.client.ServingError` and its subclasses, and `UserError` for rows that cannot be sent.
    """

    def predict(self, rows: Mapping[str, Any]) -> Prediction:
        """Scores rows, given as columns of raw values of one length."""

    def describe(self) -> dict[str, Any]:
        """What the model says of itself; empty where the protocol has no such call."""

    def close(self) -> None:
        """Closes its connections."""

    def __enter__(self) -> ScoringClient: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class ModelCall:
    """How a model is asked for scores, the same on every server that has it.

    Attributes:
        model_name: its name on the servers.
        item: the feature that identifies a candidate.
        signature: of TF Serving: the signature that scores rows.
        output: the output with the scores, `NAME` or `NAME[COLUMN]`; empty: `score`, else the only one.
        scale: one of `SCALES`, or `range:LOW:HIGH`.
        json_request, json_scores: of plain JSON: the request's template and the path to the scores, as
            `serving.targets.http.JsonClient` reads them.

    Raises:
        UserError: another scale.
    """

    model_name: str = "ranker"
    item: str = "item_id"
    signature: str = "serving_default"
    output: str = ""
    scale: str = "probability"
    json_request: str = '{"instances": "$rows"}'
    json_scores: str = "predictions"

    def __post_init__(self) -> None:
        check_scale(self.scale)


def connect(
    target: str, call: ModelCall, *, deadline: float = 5.0, retries: int = 1, tls: Tls | None = None
) -> ScoringClient:
    """Opens a client for the server at `target`.

    Args:
        target: as `parse_target` reads it.
        call: how the model is asked.
        deadline: seconds a request.
        retries: how often a call is sent again after UNAVAILABLE.
        tls: whom to trust and who we are; None: no TLS, or the system's roots where the scheme asks for it.

    Raises:
        UserError: no such target, or a TLS file cannot be read.
    """
    parsed = parse_target(target)
    if parsed.protocol == "grpc":
        client: ScoringClient = RankerClient(
            str(parsed),
            model_name=call.model_name,
            deadline=deadline,
            retries=retries,
            tls=tls,
            item=call.item,
            signature=call.signature,
            output=call.output or None,
        )
    elif parsed.scheme == "v2+grpc":
        connection = GrpcDocumentConnection(parsed, deadline, retries, tls)
        client = OpenInferenceClient(connection, call.model_name, call.item, call.output or None)
    else:
        client = _over_http(parsed, call, JsonConnection(parsed, deadline, retries, tls))
    return client if call.scale == "probability" else ScaledClient(client, call.scale)


def _over_http(target: Target, call: ModelCall, connection: JsonConnection) -> ScoringClient:
    output = call.output or None
    if target.protocol == "tfserving":
        return TfServingRestClient(connection, call.model_name, call.item, call.signature, output)
    if target.protocol == "v2":
        return OpenInferenceClient(connection, call.model_name, call.item, output)
    return JsonClient(connection, call.json_request, call.json_scores, call.model_name)


def within_unit(scores: np.ndarray, scale: str) -> np.ndarray:
    """Scores of any scale as numbers within [0, 1], float64; their order stays, but beyond the ends of a range."""
    values = scores.astype(np.float64)  # in float32 log-odds above 17 would tie at 1
    value_range = ValueRange.parse(scale)
    if value_range is not None:
        return value_range.share(values)
    if scale == "order":
        return order_codes(values)
    return logistic(values) if scale == "logit" else values


class ScaledClient:
    """A client whose model gives scores of another scale; it gives numbers within [0, 1], float64.

    Args:
        client: gives the model's scores.
        scale: what they are.
    """

    def __init__(self, client: ScoringClient, scale: str) -> None:
        self._client, self._scale = client, scale

    def predict(self, rows: Mapping[str, Any]) -> Prediction:
        """Scores rows."""
        prediction = self._client.predict(rows)
        return Prediction(within_unit(prediction.scores, self._scale), prediction.version, prediction.latency)

    def describe(self) -> dict[str, Any]:
        """What the model says of itself."""
        return self._client.describe()

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()

    def __enter__(self) -> ScaledClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
