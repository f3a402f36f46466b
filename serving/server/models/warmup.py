"""Replays a version's warm-up records before it answers.

Source: TF Serving's saved_model_warmup (file, limit, texts).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import message
from tensorflow.python.lib.io import _pywrap_record_io

from ranker.backend import tf
from serving.server.metrics import Metrics
from serving.server.models.servable import Servable
from serving.server.requests.examples import classify, multi_inference, regress
from serving.server.requests.predict import ServedModel, predict
from serving.server.requests.tensors import decode
from serving.status import Code, StatusError, invalid
from serving.wire import PredictionLog

FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000


class Warmup:
    """A loading step: runs every record `iterations` times; any failure fails the load."""

    def __init__(self, iterations: int, metrics: Metrics):
        self._iterations = max(iterations, 1)
        self._metrics = metrics

    def __call__(self, model: ServedModel, servable: Servable) -> ServedModel:
        """Warms a model up.

        Raises:
            StatusError: DATA_LOSS if the file is not TFRecord, INVALID_ARGUMENT for too many or
                unparsable records, or what a record's request answers.
        """
        path = Path(servable.directory) / FILE
        if not path.is_file():
            return model
        count = 0
        try:
            # Not tf.data: setting up a dataset holds the interpreter lock for longer than most warm-ups take.
            # This is what the deprecated `tf_record_iterator` returns, without its warning.
            for record in _pywrap_record_io.RecordIterator(str(path), ""):
                count += 1
                if count > MAX_RECORDS:
                    raise invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
                log = PredictionLog()
                try:
                    log.ParseFromString(record)
                except message.DecodeError:
                    raise invalid(f"Failed to parse warmup record: {count} from {path}") from None
                for _ in range(self._iterations):
                    replay(model, log)
        except tf.errors.OpError as error:
            raise StatusError(
                Code.DATA_LOSS, f"{error.message}. Please verify your warmup data is in TFRecord format."
            ) from None
        labels = (("model_path", servable.path), ("status", "OK"))
        self._metrics.count("/tensorflow/serving/model_warmup_records_read", labels, count)
        return model


def replay(model: ServedModel, log: Any) -> None:
    """Runs the request of one `PredictionLog`; the model's name and version in it are not looked at.

    Raises:
        StatusError: what the request answers.
    """
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        inputs = request.inputs
        predict(
            model,
            request.model_spec.signature_name,
            inputs,
            lambda alias: decode(inputs[alias]),
            request.output_filter,
        )
    elif kind == "classify_log":
        classify(model, log.classify_log.request.model_spec.signature_name, log.classify_log.request.input)
    elif kind == "regress_log":
        regress(model, log.regress_log.request.model_spec.signature_name, log.regress_log.request.input)
    elif kind == "multi_inference_log":
        multi_inference(model, log.multi_inference_log.request.tasks, log.multi_inference_log.request.input)
    else:
        raise StatusError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")
