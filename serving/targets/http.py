"""Model servers over HTTP and JSON: TF Serving's REST API, the Open Inference Protocol, plain JSON."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import quote

import httpx
import jmespath
import numpy as np

from ranker.errors import UserError
from ranker.json_text import json_text
from ranker.text import text
from serving.client import MalformedAnswer, NotFound, Prediction, ServingError, Signature, TensorSpec, Tls
from serving.client.columns import length, scoring_inputs
from serving.client.connection import backoff
from serving.client.errors import error_for
from serving.client.outputs import OutputError, choose_output, scores_in
from serving.targets.target import Target

_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    412: "FAILED_PRECONDITION",
    413: "RESOURCE_EXHAUSTED",
    415: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "UNAVAILABLE",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""HTTP statuses as gRPC's, so that one vocabulary of errors serves all protocols."""


class JsonConnection:
    """Sends JSON to one server and reads JSON; errors are those of `serving.client`.

    Args:
        target: the server; its path comes before the calls' own.
        deadline: seconds of a call, retries included.
        retries: how often a call is sent again after UNAVAILABLE.
        tls: whom to trust and who we are; None: the system's roots.
    """

    def __init__(self, target: Target, deadline: float, retries: int, tls: Tls | None) -> None:
        self.target, self._deadline, self._retries = target, deadline, retries
        # A proxy of the environment is not asked for this machine.
        self._client = httpx.Client(
            verify=_context(tls) if tls else True, trust_env=not target.address.is_loopback, timeout=deadline
        )

    def get(self, path: str) -> Any:
        """Gets a JSON document."""
        return self._send("GET", path, None)[0]

    def post(self, path: str, document: Any) -> tuple[Any, float]:
        """Posts a JSON document; returns the answer and the seconds it took.

        A missing number is null, or NaN for TF Serving.
        """
        # TF Serving reads NaN, which JSON does not have.
        body = json.dumps(document) if self.target.protocol == "tfserving" else json_text(document)
        return self._send("POST", path, body.encode())

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def malformed(self, reason: str) -> MalformedAnswer:
        """The error of an answer that holds no scores."""
        return MalformedAnswer(
            str(self.target), "OK", reason, f"{self.target}: the answer is not a ranking model's: {reason}"
        )

    def _send(self, method: str, path: str, body: bytes | None) -> tuple[Any, float]:
        expires, waits = time.monotonic() + self._deadline, backoff(self._retries)
        while True:
            started = time.monotonic()
            try:
                answer = self._client.request(
                    method,
                    self.target.url + path,
                    content=body,
                    headers={"content-type": "application/json"} if body is not None else {},
                    timeout=max(expires - started, 0.001),
                )
                latency = time.monotonic() - started
            except httpx.TimeoutException:
                raise self._error("DEADLINE_EXCEEDED", "") from None
            except httpx.HTTPError as error:
                failure = self._error("UNAVAILABLE", str(error) or type(error).__name__)
            else:
                if answer.is_success:
                    return self._read(answer), latency
                code = _CODES.get(answer.status_code, "INTERNAL" if answer.is_server_error else "UNKNOWN")
                failure = self._error(code, f"HTTP {answer.status_code}: {_reason(answer)}")
            wait = next(waits, None) if failure.code == "UNAVAILABLE" else None
            if wait is None or time.monotonic() + wait >= expires:
                raise failure
            time.sleep(wait)

    def _error(self, code: str, details: str) -> ServingError:
        return error_for(str(self.target), code, details, self._deadline)

    def _read(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except (ValueError, RecursionError):
            raise self.malformed(f"no JSON: {' '.join(answer.text[:80].split())!r}") from None


class DocumentConnection(Protocol):
    """Sends documents of plain values to one server and returns its answers."""

    target: Target

    def get(self, path: str) -> Any:
        """Gets a document."""

    def post(self, path: str, document: Any) -> tuple[Any, float]:
        """Posts a document; returns the answer and the seconds it took."""

    def malformed(self, reason: str) -> MalformedAnswer:
        """The error of an answer that holds no scores."""

    def close(self) -> None:
        """Closes the connections."""


class _DocumentClient:
    """What the clients share: a connection that closes, the choice of an output, no description."""

    def __init__(self, connection: DocumentConnection, output: str | None) -> None:
        self._connection, self._output = connection, output

    def describe(self) -> dict[str, Any]:
        """Nothing: the protocol has no such call."""
        return {}

    def close(self) -> None:
        """Closes its connections."""
        self._connection.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _scores(self, outputs: Mapping[str, Any], rows: int) -> np.ndarray:
        try:
            name, column = choose_output(outputs, self._output)
            scores = scores_in(name, _array(outputs[name]), column)
        except OutputError as error:
            raise self._connection.malformed(str(error)) from None
        if len(scores) != rows:
            raise self._connection.malformed(f"{len(scores)} scores for {rows} rows")
        return scores.astype(np.float32)


class TfServingRestClient(_DocumentClient):
    """TF Serving's REST API: the newest available version of a model, asked in columns.

    Args:
        connection: to the server.
        model_name: the model.
        item: the feature that identifies a candidate.
        signature: the signature that scores rows.
        output: its output with the scores; None: `score`, else the only one.
    """

    def __init__(
        self, connection: JsonConnection, model_name: str, item: str, signature: str, output: str | None
    ) -> None:
        super().__init__(connection, output)
        self._path = f"/v1/models/{quote(model_name, safe='')}"
        self._item, self._signature_name = item, signature
        self._known: tuple[int, Signature] | None = None

    def predict(self, rows: Mapping[str, Any]) -> Prediction:
        """Scores rows. The version is named in the call, because answers do not say theirs."""
        version, signature = self._known or self._learn()
        inputs = scoring_inputs(rows, signature, self._item)
        document = {
            "signature_name": self._signature_name,
            "inputs": {name: values.tolist() for name, values in inputs.items()},
        }
        try:
            answer, latency = self._connection.post(f"{self._path}/versions/{version}:predict", document)
        except NotFound:
            self._known = None  # the next call asks which version serves now
            raise
        outputs = answer.get("outputs") if isinstance(answer, dict) else None
        if outputs is None:
            raise self._connection.malformed("no `outputs`")
        if not isinstance(outputs, dict):  # of a single output the values alone
            outputs = {next(iter(signature.outputs), "outputs"): outputs}
        return Prediction(self._scores(outputs, length(inputs)), version, latency)

    def _learn(self) -> tuple[int, Signature]:
        status = self._connection.get(self._path)
        try:
            versions = [
                int(entry["version"])
                for entry in status["model_version_status"]
                if entry["state"] == "AVAILABLE"
            ]
            definitions = self._connection.get(f"{self._path}/metadata")["metadata"]["signature_def"]
            signatures = definitions["signature_def"]
        except (KeyError, TypeError, ValueError):
            raise self._connection.malformed("no model status or metadata of TF Serving") from None
        if not versions:
            raise error_for(str(self._connection.target), "UNAVAILABLE", "no version is available", 0)
        if self._signature_name not in signatures:
            names = ", ".join(sorted(name for name in signatures if not name.startswith("__")))
            reason = f'Serving signature key "{self._signature_name}" not found; signatures: {names}'
            raise error_for(str(self._connection.target), "FAILED_PRECONDITION", reason, 0)
        definition = signatures[self._signature_name]
        signature = Signature(_tf_specs(definition, "inputs"), _tf_specs(definition, "outputs"), "")
        self._known = max(versions), signature
        return self._known


def _tf_specs(definition: Mapping[str, Any], key: str) -> dict[str, TensorSpec]:
    specs = {}
    for name, info in (definition.get(key) or {}).items():
        shape = info.get("tensor_shape") or {}
        dims = tuple(int(dim["size"]) for dim in shape.get("dim") or [])
        specs[name] = TensorSpec(info.get("dtype", ""), None if shape.get("unknown_rank") else dims)
    return specs


DATATYPES = {
    "BYTES": "DT_STRING",
    "BOOL": "DT_BOOL",
    "FP16": "DT_FLOAT",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "DT_INT32"),
    **dict.fromkeys(("INT64", "UINT8", "UINT16", "UINT32", "UINT64"), "DT_INT64"),
}
"""The Open Inference Protocol's types as those that columns are converted to."""
_DATATYPE_OF = {"O": "BYTES", "b": "BOOL"}


class OpenInferenceClient(_DocumentClient):
    """The Open Inference Protocol (KServe v2), as Triton, MLServer and OpenVINO speak it.

    Args:
        connection: to the server, by REST or gRPC.
        model_name: the model.
        item: the feature that identifies a candidate.
        output: the output with the scores; None: `score`, else the only one.
    """

    def __init__(
        self, connection: DocumentConnection, model_name: str, item: str, output: str | None
    ) -> None:
        super().__init__(connection, output)
        self._path = f"/v2/models/{quote(model_name, safe='')}"
        self._item = item
        self._known: tuple[Signature, dict[str, str]] | None = None

    def predict(self, rows: Mapping[str, Any]) -> Prediction:
        """Scores rows. The version is the number in the answer's `model_version`; 1 where it says none."""
        signature, datatypes = self._known or self._learn()
        inputs = scoring_inputs(rows, signature, self._item)
        document = {
            "inputs": [
                {
                    "name": name,
                    "datatype": datatypes.get(name) or datatype_of(values),
                    "shape": list(values.shape),
                    "data": values.ravel().tolist(),
                }
                for name, values in inputs.items()
            ]
        }
        answer, latency = self._connection.post(f"{self._path}/infer", document)
        try:
            outputs = {
                output["name"]: _array(output["data"]).reshape([int(size) for size in output["shape"]])
                for output in answer["outputs"]
            }
        except (KeyError, TypeError, ValueError):
            raise self._connection.malformed("no `outputs` with name, shape and data") from None
        version = version_number(answer.get("model_version"))
        return Prediction(self._scores(outputs, length(inputs)), version, latency)

    def _learn(self) -> tuple[Signature, dict[str, str]]:
        metadata = self._connection.get(self._path)
        try:
            specs = {
                key: {
                    tensor["name"]: (
                        str(tensor.get("datatype", "")),
                        tuple(int(size) for size in tensor.get("shape") or []),
                    )
                    for tensor in metadata.get(key) or []
                }
                for key in ("inputs", "outputs")
            }
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._connection.malformed("no metadata of the Open Inference Protocol") from None
        signature = Signature(
            open_inference_specs(specs["inputs"]), open_inference_specs(specs["outputs"]), ""
        )
        self._known = signature, {name: datatype for name, (datatype, _) in specs["inputs"].items()}
        return self._known


def open_inference_specs(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, TensorSpec]:
    """Tensors of a model's metadata, name -> datatype and shape, as a signature has them."""
    return {
        name: TensorSpec(DATATYPES.get(datatype, ""), shape or None)
        for name, (datatype, shape) in tensors.items()
    }


def datatype_of(values: np.ndarray) -> str:
    """The Open Inference Protocol's type of an array: text is BYTES."""
    return _DATATYPE_OF.get(values.dtype.kind) or {"f": "FP", "i": "INT"}[values.dtype.kind] + str(
        8 * values.dtype.itemsize
    )


def version_number(version: object) -> int:
    """A version as a whole number > 0: the digits of its text; 1 if it has none.

    >>> version_number("v3"), version_number("1.2"), version_number(None)
    (3, 12, 1)
    """
    digits = "".join(character for character in str(version or "") if character in "0123456789")
    return int(digits[-18:] or 1) or 1


class JsonClient(_DocumentClient):
    """A server that takes any JSON document with the rows in it, and answers one with the scores in it.

    Args:
        connection: to the server.
        template: the request, JSON. The texts `$rows` (a list of objects), `$columns` (an object of lists), `$model`,
            `$column.NAME` (a list) and `$context.NAME` (the first row's value) in it are replaced.
        scores: where the answer has the scores, a JMESPath expression.
        model_name: what `$model` stands for.

    Raises:
        UserError: the template is no JSON or has no rows, or the expression is no JMESPath.
    """

    def __init__(self, connection: JsonConnection, template: str, scores: str, model_name: str) -> None:
        super().__init__(connection, None)
        try:
            self._template = json.loads(template)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"the request's template must be JSON ({error}). Received: {template[:80]!r}"
            ) from None
        if not any(marker in template for marker in ("$rows", "$columns", "$column.")):
            raise UserError(
                f"the request's template must have $rows, $columns or $column.NAME. Received: {template[:80]!r}"
            )
        try:
            self._path = jmespath.compile(scores)
        except jmespath.exceptions.JMESPathError as error:
            raise UserError(
                f"the path to the scores must be JMESPath ({' '.join(str(error).split())}). Received: {scores!r}"
            ) from None
        self._scores_path, self._model_name = scores, model_name

    def predict(self, rows: Mapping[str, Any]) -> Prediction:
        """Scores rows. The version is 1: the answers say none."""
        columns = {name: np.asarray(values).tolist() for name, values in rows.items()}
        count = len(next(iter(columns.values())))
        answer, latency = self._connection.post("", self._filled(self._template, columns, count))
        scores = self._path.search(answer)
        if not isinstance(scores, list):
            keys = ", ".join(sorted(answer)) if isinstance(answer, dict) else type(answer).__name__
            raise self._connection.malformed(f"no list at `{self._scores_path}`; the answer has {keys}")
        return Prediction(self._scores({self._scores_path: scores}, count), 1, latency)

    def _filled(self, node: Any, columns: Mapping[str, list[Any]], count: int) -> Any:
        if isinstance(node, dict):
            return {key: self._filled(value, columns, count) for key, value in node.items()}
        if isinstance(node, list):
            return [self._filled(value, columns, count) for value in node]
        if node == "$rows":
            return [{name: values[row] for name, values in columns.items()} for row in range(count)]
        if node == "$columns":
            return dict(columns)
        if node == "$model":
            return self._model_name
        if isinstance(node, str) and node.startswith(("$column.", "$context.")):
            marker, _, name = node.partition(".")
            if name not in columns:
                raise UserError(f"{node}: there must be such a column. Received: {', '.join(columns)}")
            return columns[name] if marker == "$column" else columns[name][0]
        return node


def _array(values: Any) -> np.ndarray:
    """JSON lists as an array: of numbers, or of anything else as text."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array([text(value) for value in np.asarray(values, object).ravel()], object)
    return array


def _reason(answer: httpx.Response) -> str:
    """The server's own words in the error documents of these protocols, else the beginning of the body."""
    try:
        document = answer.json()
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        for key in ("error", "detail", "message"):
            if document.get(key):
                return str(document[key])[:300]
    return " ".join(answer.text[:300].split())


def _context(tls: Tls) -> ssl.SSLContext:
    tls.credentials()  # the same checks and errors as for gRPC
    context = ssl.create_default_context(cafile=str(tls.ca) if tls.ca else None)
    if tls.certificate:
        context.load_cert_chain(str(tls.certificate), str(tls.key))
    return context
