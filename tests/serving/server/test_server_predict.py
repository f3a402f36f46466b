"""Predict over gRPC: answers, error codes and texts as TF Serving's."""

from __future__ import annotations

import time

import numpy as np
import pytest

from ranker.backend import tf
from tests.serving.server.saved_models import ECHO_DTYPES
from tests.serving.server.server_client import TWO, Code, failure, predict_request, tensor


def test_tf1_model_answers_with_typed_field_and_full_model_spec(shared):
    answer = shared.predict("half_plus_two", x=TWO)
    assert list(answer.outputs) == ["y"]
    assert list(answer.outputs["y"].float_val) == [3.0]
    assert not answer.outputs["y"].tensor_content
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("half_plus_two", 1)
    assert answer.model_spec.signature_name == "serving_default"


def test_tf2_model_with_vocabulary_asset_answers(shared):
    answer = shared.predict("ranker", item_id=["a", "c", "zz"], age=np.array([10, 20, 30], np.float32))
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["score"]), [[11.0], [23.0], [30.0]])
    assert list(answer.outputs["item_id"].string_val) == [b"a", b"c", b"zz"]


def test_version_in_the_request_is_served_and_returned(shared):
    answer = shared.predict("ranker", version=7, item_id=["a"], age=[0.0])
    assert answer.model_spec.version.value == 7


@pytest.mark.parametrize(
    ("request_fields", "code", "text"),
    [
        ({"model": ""}, Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        ({"model": "nope"}, Code.NOT_FOUND, "Servable not found for request: Latest(nope)"),
        (
            {"model": "half_plus_two", "version": 9},
            Code.NOT_FOUND,
            "Servable not found for request: Specific(half_plus_two, 9)",
        ),
        (
            {"model": "half_plus_two", "label": "best"},
            Code.INVALID_ARGUMENT,
            "Unrecognized servable version label: best",
        ),
        (
            {"model": "half_plus_two", "signature": "no"},
            Code.FAILED_PRECONDITION,
            'Serving signature key "no" not found.',
        ),
        (
            {"model": "half_plus_two", "outputs": ["q"]},
            Code.INVALID_ARGUMENT,
            "output tensor alias not found in signature: q Outputs expected to be in the set {y}.",
        ),
        (
            {"model": "half_plus_two", "outputs": ["y", "y"]},
            Code.INVALID_ARGUMENT,
            "duplicate output tensor alias: y",
        ),
    ],
)
def test_wrong_model_signature_or_output_is_answered_in_tf_servings_words(shared, request_fields, code, text):
    assert failure(shared.predict, **request_fields, x=TWO) == (code, text)


def test_missing_model_spec(shared):
    request = predict_request(x=TWO)
    request.ClearField("model_spec")
    assert failure(shared.prediction.Predict, request) == (Code.INVALID_ARGUMENT, "Missing ModelSpec")


def test_extra_missing_and_misnamed_inputs(shared):
    assert failure(shared.predict, "half_plus_two", x=TWO, z=TWO) == (
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). "
        "Sent extra: {z}. Missing but required: {}.",
    )
    assert failure(shared.predict, "half_plus_two") == (
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    )
    code, text = failure(shared.predict, "half_plus_two", z=TWO)
    assert code == Code.INVALID_ARGUMENT
    assert text == (
        "Signature input alias: x(feed name: x:0) not found in request and no default value provided. "
        "Inputs expected to be in the request {z}, or default input alias set: "
    )


def test_wrong_dtype_is_the_sessions_own_error(shared):
    code, text = failure(shared.predict, "half_plus_two", x=np.array([[2]], np.int64))
    assert (code, text) == (Code.INVALID_ARGUMENT, "Expects arg[0] to be float but int64 is provided")


def test_shape_is_not_checked_without_strict(shared):
    answer = shared.predict("half_plus_two", x=np.ones((2, 3), np.float32))
    assert tf.make_ndarray(answer.outputs["y"]).shape == (2, 3)


def test_kernel_error_names_the_node(shared):
    code, text = failure(shared.predict, "ranker", item_id=["a", "b"], age=np.zeros(3, np.float32))
    assert code == Code.INVALID_ARGUMENT
    assert "{{node" in text


@pytest.mark.parametrize("dtype", ECHO_DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 2)], ids=str)
def test_every_dtype_goes_through_unchanged(shared, dtype, shape):
    count = int(np.prod(shape))
    if dtype == tf.string:
        array = np.array([f"s{i}\x00é".encode() for i in range(count)], object).reshape(shape)
    else:
        array = np.arange(count).reshape(shape).astype(dtype.as_numpy_dtype)
    answer = shared.predict("echo", dtype.name, x=tf.make_tensor_proto(array, dtype, shape))
    proto = answer.outputs["y"]
    assert proto.dtype == dtype.as_datatype_enum
    assert proto.HasField("tensor_shape")
    assert not proto.tensor_content
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        (tensor(1, [3], float_val=[1.0, 2.0]), [1.0, 2.0, 2.0]),
        (tensor(1, [3]), [0.0, 0.0, 0.0]),
        (tensor(1, [2], float_val=[1.0, 2.0, 3.0]), [1.0, 2.0]),
        (tensor(1, [], float_val=[5.0]), 5.0),
        (tensor(1, [2], int_val=[7, 8]), [0.0, 0.0]),
        (tensor(1, [1], float_val=[9.0], content=np.float32(4).tobytes()), [4.0]),
    ],
    ids=[
        "last value repeats",
        "none means zeros",
        "surplus dropped",
        "no shape",
        "wrong field",
        "content wins",
    ],
)
def test_short_and_odd_protos_decode_as_in_cpp(shared, proto, expected):
    answer = shared.predict("echo", "float32", x=proto)
    np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["y"]), np.array(expected, np.float32))


@pytest.mark.parametrize(
    "proto",
    [
        tensor(1, [2], content=b"abc"),
        tensor(1, [-1], float_val=[1.0]),
        tensor(0, [1]),
        tensor(1, [2**40]),
        tensor(1, [2**40, 2**40]),
        tensor(1, [0, 2**40, 2**40]),
        tensor(1, [1] * 100, float_val=[1.0]),
        tensor(99, [1]),
    ],
    ids=[
        "short content",
        "negative size",
        "no dtype",
        "a terabyte of nothing",
        "overflow",
        "overflow with 0",
        "rank 100",
        "unknown dtype",
    ],
)
def test_undecodable_tensor(shared, proto):
    assert failure(shared.predict, "echo", "float32", x=proto) == (
        Code.INVALID_ARGUMENT,
        "tensor parsing error: x",
    )


def test_unpacked_numbers_are_read_too(shared):
    request = predict_request("echo", "float32", x=tensor(1, [2], float_val=[1.5, 2.5]))
    packed = request.inputs["x"].SerializeToString()
    payload = np.array([1.5, 2.5], "<f4").tobytes()
    assert payload in packed
    unpacked = packed.replace(b"\x2a\x08" + payload, b"\x2d" + payload[:4] + b"\x2d" + payload[4:])
    entry = b"\x0a\x01x\x12" + bytes([len(unpacked)]) + unpacked
    data = (
        b"\x0a"
        + bytes([len(request.model_spec.SerializeToString())])
        + request.model_spec.SerializeToString()
    )
    data += b"\x12" + bytes([len(entry)]) + entry
    call = shared.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    assert payload in call(data, timeout=10)


def test_bytes_that_are_no_request(shared):
    call = shared.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    assert failure(call, b"\xff\xff\xff", timeout=10)[0] == Code.INTERNAL


def test_unknown_method_and_session_run_are_unimplemented(shared):
    call = shared.channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")
    assert failure(call, b"", timeout=10)[0] == Code.UNIMPLEMENTED


def test_output_filter_limits_the_answer(shared):
    answer = shared.predict("half_plus_two", "two_outputs", outputs=["x_again"], x=TWO)
    assert list(answer.outputs) == ["x_again"]
    assert set(shared.predict("half_plus_two", "two_outputs", x=TWO).outputs) == {"y", "x_again"}


def test_predict_runs_a_classify_signature_on_serialized_examples(shared):
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(2.0)
    answer = shared.predict("half_plus_two", "classify_x_to_y", inputs=[example.SerializeToString()])
    assert list(answer.outputs["scores"].float_val) == [3.0]


def test_a_deadline_stops_a_loop_and_the_server_answers_on(shared):
    started = time.monotonic()
    code, _ = failure(shared.predict, "ranker", "loop", timeout=0.5, steps=np.array([10**9], np.int64))
    assert code == Code.DEADLINE_EXCEEDED
    assert time.monotonic() - started < 10
    assert shared.predict("ranker", "loop", steps=np.array([1], np.int64)).outputs["total"].float_val


def test_long_error_texts_are_cut(shared):
    names = {f"input_{index:04d}": TWO for index in range(200)}
    _, text = failure(shared.predict, "half_plus_two", **names)
    assert len(text) == 1024 + len("...TRUNCATED")
    assert text.endswith("...TRUNCATED")


def test_tensor_content_on_request(serve, models):
    client = serve(
        model_name="m",
        model_base_path=str(models / "half_plus_two"),
        enable_serialization_as_tensor_content=True,
    )
    output = client.predict(x=TWO).outputs["y"]
    assert not output.float_val
    assert np.frombuffer(output.tensor_content, np.float32).tolist() == [3.0]


def test_large_tensors_both_ways(shared):
    array = np.arange(2_000_000, dtype=np.float32)
    answer = shared.predict("echo", "float32", x=array)
    np.testing.assert_array_equal(np.array(answer.outputs["y"].float_val, np.float32), array)
