"""The models that the server is measured with, and a request for them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np

import serving.server  # noqa: F401 - chooses Keras 2 before anything imports TensorFlow

CANDIDATES = 100

BATCHED_MODELS = {
    "small": (128, 64, 32),
    "deep": (16,) * 150,
    "deeper": (16,) * 600,
    "wide": (2048, 2048, 2048),
}
"""Hidden layers of the models that batching is measured on.

Batching saves what a run costs whatever its size, and never what a request costs: taking it in, answering
it, and the load generator's own part. So the gain is a function of what a single row costs the model alone,
and of how little more a batch costs. A deep model of narrow layers is nearly all fixed cost, as graphs of
hundreds of features with an operation or two each are; a wide one (34 MB of weights) has fixed cost too, but
its arithmetic, which a batch does not save, soon takes over.
"""


def save_model(path: Path, hidden: tuple[int, ...] = (128, 64, 32)) -> None:
    """A ranking model: two vocabularies, embeddings of 16, fully connected layers; with a warm-up record."""
    from tensorflow_serving.apis import prediction_log_pb2

    from ranker.backend import tf

    class Ranker(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            random = np.random.default_rng(0)
            self.tables = {}
            self.embeddings = {}
            for name, size in (("user_id", 1000), ("item_id", 2000)):
                initializer = tf.lookup.KeyValueTensorInitializer(
                    [f"{name}-{i}" for i in range(size)], list(range(size)), tf.string, tf.int64
                )
                self.tables[name] = tf.lookup.StaticHashTable(initializer, 0)
                self.embeddings[name] = tf.Variable(random.normal(size=(size, 16)).astype("f4"))
            widths = (33, *hidden, 1)
            self.layers = [
                tf.Variable(random.normal(size=pair).astype("f4") * 0.1)
                for pair in itertools.pairwise(widths)
            ]

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.string, name="user_id"),
                tf.TensorSpec([None], tf.string, name="item_id"),
                tf.TensorSpec([None], tf.float32, name="age"),
            ]
        )
        def serve(self, user_id, item_id, age):
            x = tf.concat(
                [
                    tf.gather(self.embeddings["user_id"], self.tables["user_id"].lookup(user_id)),
                    tf.gather(self.embeddings["item_id"], self.tables["item_id"].lookup(item_id)),
                    age[:, None],
                ],
                1,
            )
            for layer in self.layers[:-1]:
                x = tf.nn.swish(x @ layer)
            return {"score": tf.sigmoid(x @ self.layers[-1])}

    module = Ranker()
    tf.saved_model.save(module, str(path), signatures=module.serve)
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.ParseFromString(request_body(CANDIDATES)[0])
    (path / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(path / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def request_body(rows: int) -> tuple[bytes, bytes]:
    """A Predict as a serialised PredictRequest and as JSON."""
    from tensorflow_serving.apis import predict_pb2

    from ranker.backend import tf

    values = {
        "user_id": ["user_id-5"] * rows,
        "item_id": [f"item_id-{index}" for index in range(rows)],
        "age": [0.5] * rows,
    }
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    for name, column in values.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(column))
    return request.SerializeToString(), json.dumps({"inputs": values}).encode()
