"""A trained replica as a SavedModel: signatures, warm-up records, and who it is."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ranker.backend import tf
from ranker.combined import Combined
from ranker.features import FeatureEncoder
from ranker.json_text import json_text
from ranker.model import RankingModel

REGRESS = "tensorflow/serving/regress"


class ServedRanker(tf.Module):
    """What is served: raw columns in, scores out. The vocabularies are inside.

    Only the weights and the vocabularies are tracked, and saved: of a tracked Keras model the saver would trace every
    layer again, which takes longer than all the rest of an export.

    Args:
        model: the trained model, or anything that maps encoded inputs to probabilities [batch, 1].
        encoder: the feature encoder.
        item: the feature that identifies a candidate.
    """

    def __init__(self, model: RankingModel | Combined, encoder: FeatureEncoder, item: str):
        super().__init__(name="served_ranker")
        self.weights, self.encoder = model.named_variables(), encoder
        self._item = item
        # Traced once, for all signatures. In lambdas, which the saver does not look into.
        probabilities = _function(lambda columns: model(encoder(columns)), encoder.raw_signature())
        self._probabilities = lambda columns: probabilities(columns)
        raw, serialized = encoder.raw_signature(), tf.TensorSpec([None], tf.string, name="inputs")
        functions = [
            _function(self._score, raw),
            _function(self._rank, raw),
            _function(self._regress, serialized),
        ]
        self._functions = lambda: functions

    def signatures(self, description: Mapping[str, Any]) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The four signatures of the contract, each a function of raw columns; see docs/architecture.md.

        Args:
            description: who this replica is; JSON-serialisable.
        """
        text = json_text(description, sort_keys=True)
        describe = _function(lambda: {"description": tf.constant(text)})
        names = "serving_default", "rank", "regress", "describe"
        functions = zip(names, [*self._functions(), describe], strict=True)
        return {name: function.get_concrete_function() for name, function in functions}

    def score(self, columns: Mapping[str, tf.Tensor]) -> np.ndarray:
        """The probability of the label for raw columns, float32 [batch]; the same graph as `serving_default`."""
        return self._score(columns)["score"].numpy()[:, 0]

    def _score(self, columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"score": self._probabilities(columns)}

    def _rank(self, columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        candidates = tf.size(columns[self._item])
        # The context has one row for all candidates; so may an item feature that is the same, or missing, for all.
        rows = {name: tf.broadcast_to(value, [candidates]) for name, value in columns.items()}
        scores = self._probabilities(rows)[:, 0]
        items = rows[self._item]
        by_item = byte_order(items)
        order = tf.gather(by_item, tf.argsort(-tf.gather(scores, by_item), stable=True))
        return {"item_id": tf.gather(items, order), "score": tf.gather(scores, order)}

    def _regress(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        missing = {tf.string: "", tf.float32: float("nan")}
        columns = {
            name: tf.io.FixedLenFeature([], spec.dtype, missing[spec.dtype])
            for name, spec in self.encoder.raw_signature().items()
        }
        return {"outputs": self._probabilities(tf.io.parse_example(inputs, columns))}


def _function(body: Callable[..., Any], *signature: Any) -> Any:
    """A compiled function without AutoGraph, which would rewrite the source of the model and of every Keras layer."""
    return tf.function(
        tf.autograph.experimental.do_not_convert(body), input_signature=signature, autograph=False
    )


def byte_order(strings: tf.Tensor) -> tf.Tensor:
    """The positions that sort strings by their bytes (which for UTF-8 is by code point), int32 [n], stable.

    TensorFlow sorts numbers only, so strings are sorted as numbers of seven bytes each, least significant first.
    """
    width = 7
    chunks = tf.maximum(1, -(-tf.reduce_max(tf.concat([tf.strings.length(strings), [0]], 0)) // width))
    bytes_ = tf.io.decode_raw(strings, tf.uint8, fixed_length=width * chunks)
    bytes_ = tf.reshape(tf.cast(bytes_, tf.int64), [-1, chunks, width])
    numbers = tf.reduce_sum(bytes_ * tf.constant([256**i for i in reversed(range(width))], tf.int64), axis=2)

    def sort(chunk: tf.Tensor, order: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return chunk - 1, tf.gather(order, tf.argsort(tf.gather(numbers[:, chunk], order), stable=True))

    start = chunks - 1, tf.range(tf.size(strings))
    shapes = tf.TensorShape([]), tf.TensorShape([None])
    return tf.while_loop(lambda chunk, order: chunk >= 0, sort, start, shape_invariants=shapes)[1]


def save(
    served: ServedRanker, directory: Path, warm_up: Mapping[str, list], identity: Mapping[str, Any]
) -> None:
    """Writes the SavedModel, its warm-up records and `replica.json`.

    Args:
        served: the module.
        directory: a version directory that does not exist yet.
        warm_up: a few raw rows: feature name to values, the context's the same in all rows.
        identity: who this replica is, as `describe` answers.
    """
    tf.saved_model.save(served, str(directory), signatures=served.signatures(identity))
    _set_method(directory, "regress", REGRESS)
    extra = directory / "assets.extra"
    extra.mkdir()
    _write_warm_up(extra / "tf_serving_warmup_requests", warm_up)
    (extra / "replica.json").write_text(
        json_text(identity, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )


def versions() -> dict[str, str]:
    """Versions of what decides a replica's numbers."""
    import tensorflow_recommenders as tfrs

    from ranker import __version__

    return {
        "steady_ranker": __version__,
        "tensorflow": tf.__version__,
        "tensorflow_recommenders": tfrs.__version__,
        "python": platform.python_version(),
    }


def _set_method(directory: Path, signature: str, method: str) -> None:
    # TF 2's saver calls every signature a predict method; TF Serving's Regress wants its own name.
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(directory))
    updater.replace_method_name(signature, method, tags=["serve"])
    updater.save()


def _write_warm_up(path: Path, rows: Mapping[str, list]) -> None:
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    requests = []
    count = len(next(iter(rows.values())))
    for size in sorted({1, count}):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "ranker"
        request.model_spec.signature_name = "serving_default"
        for name, values in rows.items():
            text = isinstance(values[0], (str, bytes))
            tensor = tf.make_tensor_proto(values[:size], tf.string if text else tf.float32, [size])
            request.inputs[name].CopyFrom(tensor)
        requests.append(request)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
