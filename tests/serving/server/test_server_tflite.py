"""TensorFlow Lite models: names, shapes, a SignatureDef in the file, errors."""

from __future__ import annotations

import warnings

import grpc
import numpy as np
import pytest
from flatbuffers import Builder, flexbuffers
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.lite.python import schema_py_generated as schema

from ranker.backend import tf
from serving.server.models.tflite import TfLiteModel
from serving.status import Code, StatusError
from tests.serving.server.server_client import failure


@pytest.fixture(scope="module")
def half_plus_two() -> bytes:
    """y = x / 2 + 2 over [1, 1], tensors named x and y."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = tf.compat.v1.placeholder(tf.float32, [1, 1], name="x")
        y = tf.add(tf.multiply(x, 0.5), 2.0, name="y")
        return tf.compat.v1.lite.TFLiteConverter.from_session(session, [x], [y]).convert()


@pytest.fixture
def base_path(tmp_path, half_plus_two):
    (tmp_path / "m" / "5").mkdir(parents=True)
    (tmp_path / "m" / "5" / "model.tflite").write_bytes(half_plus_two)
    return tmp_path / "m"


def test_predict_status_and_metadata_of_a_tflite_model(serve, base_path):
    client = serve(model_name="m", model_base_path=str(base_path), prefer_tflite_model=True, rest_api_port=-1)
    response = client.predict(x=np.array([2.0], np.float32))
    assert list(response.outputs["y"].float_val) == [3.0]
    assert (response.model_spec.version.value, response.model_spec.signature_name) == (5, "serving_default")
    # Another size, then the first again.
    response = client.predict(x=np.array([[2.0], [4.0]], np.float32))
    assert list(response.outputs["y"].float_val) == [3.0, 4.0]
    assert client.http("/v1/models/m:predict", {"instances": [[2.0]]}) == (200, {"predictions": [[3.0]]})
    signatures = client.http("/v1/models/m/metadata")[1]["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert failure(client.predict, x=np.array([2])) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Expects arg[0] to be float but int64 is provided",
    )


def test_a_saved_signature_names_the_tensors(base_path, half_plus_two):
    definition = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    definition.inputs["age"].name, definition.outputs["score"].name = "x:0", "y:0"
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Key("serving_default")
        builder.Blob(definition.SerializeToString())
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(half_plus_two, 0))
    metadata, buffer = schema.MetadataT(), schema.BufferT()
    metadata.name, metadata.buffer, buffer.data = (
        "signature_defs_metadata",
        len(model.buffers),
        list(builder.Finish()),
    )
    model.buffers.append(buffer)
    model.metadata.append(metadata)
    packed = Builder()
    packed.Finish(model.Pack(packed), b"TFL3")
    (base_path / "5" / "model.tflite").write_bytes(bytes(packed.Output()))
    signature = TfLiteModel(str(base_path / "5")).signatures["serving_default"]
    assert (list(signature.inputs), list(signature.outputs)) == (["age"], ["score"])


def test_a_damaged_file_does_not_load(base_path):
    (base_path / "5" / "model.tflite").write_bytes(b"TFL3")
    with pytest.raises(StatusError) as caught:
        TfLiteModel(str(base_path / "5"))
    assert caught.value.code == Code.INVALID_ARGUMENT
