"""The API's methods as functions from request bytes to response bytes, whatever the transport.

Each is called with a `CallContext` and returns the serialised response or raises `StatusError`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf import message

from serving.server.metrics import CALLS_NOT_RUN, Metrics
from serving.server.models.core import ServerCore
from serving.server.requests.examples import classify, multi_inference, regress
from serving.server.requests.predict import ServedModel, predict
from serving.server.requests.request_log import REQUEST_ID, RequestLog
from serving.server.requests.signatures import (
    CLASSIFY_METHOD,
    DEFAULT_SIGNATURE,
    REGRESS_METHOD,
    ServedSignature,
    check_method_name,
)
from serving.server.requests.tensors import decode
from serving.status import Code, StatusError, invalid
from serving.wire import (
    CLASSIFY,
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    MULTI_INFERENCE,
    PREDICT,
    REGRESS,
    ClassificationRequest,
    ClassificationResponse,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    MultiInferenceRequest,
    MultiInferenceResponse,
    PredictRequest,
    PredictResponse,
    RegressionRequest,
    RegressionResponse,
    SignatureDefMap,
    write_tensor,
)

_INT32_MAX = 2**31 - 1


@dataclass
class CallContext:
    """What a transport knows of one call besides its bytes.

    Attributes:
        entrypoint: "GRPC" or "REST", a label of the metrics.
        deadline: monotonic time in seconds after which nobody waits; None for never.
        metadata: the caller's headers.
        cancelled: whether the caller is gone, where the transport notices.
    """

    entrypoint: str = "GRPC"
    deadline: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    cancelled: bool = False

    def timeout_ms(self) -> int:
        """Milliseconds left, 0 for no limit.

        Raises:
            StatusError: DEADLINE_EXCEEDED if none are left.
        """
        if self.deadline is None:
            return 0
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline exceeded before the request was run")
        return min(max(int(seconds * 1000), 1), _INT32_MAX)

    def cancel(self) -> None:
        """Notes that the caller is gone."""
        self.cancelled = True

    def expired(self) -> bool:
        """Whether nobody waits any more."""
        return self.cancelled or (self.deadline is not None and time.monotonic() >= self.deadline)


Method = Callable[[bytes, CallContext], bytes]


@dataclass(frozen=True)
class ApiOptions:
    """How the methods behave.

    Attributes:
        strict: check shapes against the signature.
        tensor_content: numeric outputs of Predict as `tensor_content`.
        max_batch_size: most rows (first dimension) of an input; 0 for no limit.
        check_method_names: hold a signature's method_name against the method that is called.
    """

    strict: bool = False
    tensor_content: bool = False
    max_batch_size: int = 0
    check_method_names: bool = False


class Endpoints:
    """PredictionService and ModelService over a `ServerCore`."""

    def __init__(
        self, core: ServerCore, options: ApiOptions, metrics: Metrics, request_log: RequestLog | None = None
    ):
        self._core = core
        self._options = options
        self._metrics = metrics
        self._request_log = request_log

    def methods(self) -> dict[str, Method]:
        """The gRPC path of each method."""
        return {
            PREDICT.path: self.predict,
            CLASSIFY.path: self.classify,
            REGRESS.path: self.regress,
            MULTI_INFERENCE.path: self.multi_inference,
            GET_MODEL_METADATA.path: self.get_model_metadata,
            GET_MODEL_STATUS.path: self.get_model_status,
        }

    def count_not_run(self, reason: str) -> None:
        """Counts a call that ended before it could run: "cancelled" or "deadline"."""
        self._metrics.count(CALLS_NOT_RUN, (("reason", reason),))

    def predict(self, data: bytes, call: CallContext) -> bytes:
        """PredictionService.Predict."""
        request = _parse(PredictRequest, data)
        spec = _spec(request)
        inputs = request.inputs
        response = PredictResponse()
        with (
            self._metrics.request(spec.name, "Predict", call.entrypoint) as record,
            self._core.handle(spec) as handle,
        ):
            record.version = handle.version
            record.signature = _signature_label(spec, handle.bundle)
            self._check_method("Predict", handle.bundle, spec.signature_name)
            name, outputs = predict(
                handle.bundle,
                spec.signature_name,
                inputs,
                lambda alias: decode(inputs[alias]),
                request.output_filter,
                call.timeout_ms,
                self._options.strict,
                self._options.max_batch_size,
            )
            response.model_spec.name = spec.name
            response.model_spec.version.value = handle.version
            response.model_spec.signature_name = name
            for alias, array in outputs.items():
                write_tensor(array, response.outputs[alias], typed_fields=not self._options.tensor_content)
            answer = response.SerializeToString()
            if self._request_log is not None:
                request_id = call.metadata.get(REQUEST_ID)
                self._request_log.offer(data, answer, request_id.encode() if request_id else None)
            return answer

    def predict_arrays(
        self,
        spec: Any,
        read: Callable[[Mapping[str, ServedSignature]], Mapping[str, np.ndarray]],
        call: CallContext,
    ) -> dict[str, np.ndarray]:
        """Predict for a caller that has arrays, not protos (REST).

        Args:
            spec: the ModelSpec.
            read: gives the inputs, once the model's signatures are known.
            call: the transport's part.

        Returns:
            Outputs by alias.

        Raises:
            StatusError: as TF Serving answers.
        """
        with (
            self._metrics.request(spec.name, "Predict", call.entrypoint) as record,
            self._core.handle(spec) as handle,
        ):
            record.version = handle.version
            record.signature = _signature_label(spec, handle.bundle)
            self._check_method("Predict", handle.bundle, spec.signature_name)
            inputs = read(handle.bundle.signatures)
            _, outputs = predict(
                handle.bundle,
                spec.signature_name,
                inputs,
                inputs.__getitem__,
                timeout_ms=call.timeout_ms,
                strict=self._options.strict,
                max_rows=self._options.max_batch_size,
            )
            return outputs

    def classify(self, data: bytes, call: CallContext) -> bytes:
        """PredictionService.Classify."""
        request = _parse(ClassificationRequest, data)
        response = ClassificationResponse()
        self._examples(request, response, call, "Classify", classify)
        return response.SerializeToString()

    def regress(self, data: bytes, call: CallContext) -> bytes:
        """PredictionService.Regress."""
        request = _parse(RegressionRequest, data)
        response = RegressionResponse()
        self._examples(request, response, call, "Regress", regress)
        return response.SerializeToString()

    def _examples(
        self, request: Any, response: Any, call: CallContext, api: str, run: Callable[..., Any]
    ) -> None:
        spec = _spec(request)
        with (
            self._metrics.request(spec.name, api, call.entrypoint) as record,
            self._core.handle(spec) as handle,
        ):
            record.version = handle.version
            record.signature = _signature_label(spec, handle.bundle)
            self._check_method(api, handle.bundle, spec.signature_name)
            response.result.CopyFrom(
                run(handle.bundle, spec.signature_name, request.input, call.timeout_ms())
            )
            _fill_spec(response.model_spec, spec, handle.version)

    def multi_inference(self, data: bytes, call: CallContext) -> bytes:
        """PredictionService.MultiInference."""
        request = _parse(MultiInferenceRequest, data)
        if not request.tasks:
            raise invalid("ModelSpec has no name specified.")
        response = MultiInferenceResponse()
        with self._core.handle(request.tasks[0].model_spec) as handle:
            for task in request.tasks:
                api = {CLASSIFY_METHOD: "Classify", REGRESS_METHOD: "Regress"}.get(task.method_name)
                if api is not None:
                    self._check_method(api, handle.bundle, task.model_spec.signature_name)
            results = multi_inference(handle.bundle, request.tasks, request.input, call.timeout_ms())
            for task, result in zip(request.tasks, results, strict=True):
                _fill_spec(result.model_spec, task.model_spec, handle.version)
                response.results.append(result)
        return response.SerializeToString()

    def _check_method(self, api: str, model: ServedModel, signature_name: str) -> None:
        signature = model.signatures.get(signature_name or DEFAULT_SIGNATURE)
        if self._options.check_method_names and signature is not None:
            check_method_name(api, signature)

    def get_model_metadata(self, data: bytes, call: CallContext) -> bytes:
        """PredictionService.GetModelMetadata."""
        request = _parse(GetModelMetadataRequest, data)
        spec = _spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for metadata_field in request.metadata_field:
            if metadata_field != "signature_def":
                raise invalid(f"Metadata field {metadata_field} is not supported")
        response = GetModelMetadataResponse()
        with self._core.handle(spec) as handle:
            definitions = SignatureDefMap()
            for name, definition in handle.bundle.signature_defs.items():
                definitions.signature_def[name].ParseFromString(definition.SerializeToString())
            response.metadata["signature_def"].Pack(definitions)
            response.model_spec.name = spec.name
            response.model_spec.version.value = handle.version
        return response.SerializeToString()

    def signature_definitions(self, spec: Any) -> tuple[int, Mapping[str, Any]]:
        """A version's number and its SignatureDefs, in TensorFlow's own messages, which leave nothing out.

        Raises:
            StatusError: as TF Serving answers an unknown name, version or label.
        """
        with self._core.handle(spec) as handle:
            return handle.version, dict(handle.bundle.signature_defs)

    def get_model_status(self, data: bytes, call: CallContext) -> bytes:
        """ModelService.GetModelStatus."""
        request = _parse(GetModelStatusRequest, data)
        return self.model_status(_spec(request)).SerializeToString()

    def model_status(self, spec: Any) -> Any:
        """The states of one version, or of all versions ever seen, highest first.

        Raises:
            StatusError: NOT_FOUND if there are none.
        """
        states = self._core.manager.states(spec.name)
        if spec.HasField("version"):
            states = [state for state in states if state[0] == spec.version.value]
            if not states:
                raise StatusError(
                    Code.NOT_FOUND, f"Could not find version {spec.version.value} of model {spec.name}"
                )
        if not states:
            raise StatusError(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        response = GetModelStatusResponse()
        for version, state, error in states:
            entry = response.model_version_status.add(version=version, state=int(state))
            entry.status.error_code = int(error.code) if error else 0
            entry.status.error_message = error.message if error else ""
        return response


def _parse(message_class: Any, data: bytes) -> Any:
    try:
        return message_class.FromString(data)
    except message.DecodeError as error:
        raise StatusError(Code.INTERNAL, f"Failed to parse the request: {error}") from None


def _spec(request: Any) -> Any:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec


def _fill_spec(target: Any, spec: Any, version: int) -> None:
    target.name = spec.name
    target.version.value = version
    target.signature_name = spec.signature_name or DEFAULT_SIGNATURE


def _signature_label(spec: Any, model: ServedModel) -> str:
    """The signature's name as a metrics label; made-up names must not become labels."""
    name = spec.signature_name or DEFAULT_SIGNATURE
    return name if name in model.signatures else "unknown"
