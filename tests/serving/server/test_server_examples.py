"""Classify, Regress, MultiInference, GetModelMetadata and GetModelStatus over gRPC."""

from __future__ import annotations

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    regression_pb2,
)

from tests.serving.server.server_client import Code, examples, failure, status

MODEL = "half_plus_two"


def request_of(kind, signature, inputs):
    request = kind(input=inputs)
    request.model_spec.name = MODEL
    request.model_spec.signature_name = signature
    return request


def classify(client, signature, inputs):
    return client.prediction.Classify(
        request_of(classification_pb2.ClassificationRequest, signature, inputs), 10
    )


def regress(client, signature, inputs):
    return client.prediction.Regress(request_of(regression_pb2.RegressionRequest, signature, inputs), 10)


def test_classify_scores_without_labels(shared):
    answer = classify(shared, "classify_x_to_y", examples(2.0, 4.0))
    assert [(c.label, c.score) for row in answer.result.classifications for c in row.classes] == [
        ("", 3.0),
        ("", 4.0),
    ]
    assert answer.model_spec.signature_name == "classify_x_to_y"
    assert answer.model_spec.version.value == 1


def test_classify_with_labels(shared):
    answer = classify(shared, "classify_with_labels", examples(2.0))
    assert [(c.label, c.score) for c in answer.result.classifications[0].classes] == [("positive", 3.0)]


def test_regress_and_context(shared):
    assert [r.value for r in regress(shared, "regress_x_to_y", examples(2.0, 6.0)).result.regressions] == [
        3.0,
        5.0,
    ]
    answer = regress(shared, "regress_x_to_y", examples(None, None, context=4.0))
    assert [r.value for r in answer.result.regressions] == [4.0, 4.0]


@pytest.mark.parametrize("call", [classify, regress])
def test_empty_input_and_unknown_signature(shared, call):
    signature = "classify_x_to_y" if call is classify else "regress_x_to_y"
    assert failure(call, shared, signature, input_pb2.Input()) == (Code.INVALID_ARGUMENT, "Input is empty.")
    assert failure(call, shared, "no", examples(1.0)) == (
        Code.INVALID_ARGUMENT,
        "No signature was found with the name: no",
    )


def test_signatures_of_another_form_are_refused(shared):
    assert failure(classify, shared, "serving_default", examples(1.0))[1].startswith(
        "No classification inputs found in SignatureDef: "
    )
    assert failure(regress, shared, "two_outputs", examples(1.0)) == (
        Code.INVALID_ARGUMENT,
        "Expected one output Tensor.",
    )
    assert failure(regress, shared, "classify_x_to_y", examples(1.0))[1].startswith(
        "No regression outputs found in SignatureDef: "
    )


def multi(*tasks, inputs=None):
    request = inference_pb2.MultiInferenceRequest(input=inputs or examples(2.0))
    for name, signature, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = name
        task.model_spec.signature_name = signature
    return request


def test_multi_inference_answers_each_task(shared):
    answer = shared.prediction.MultiInference(
        multi((MODEL, "regress_x_to_y", "regress"), (MODEL, "classify_x_to_y", "classify")), 10
    )
    assert answer.results[0].regression_result.regressions[0].value == 3.0
    assert answer.results[1].classification_result.classifications[0].classes[0].score == 3.0
    assert [result.model_spec.version.value for result in answer.results] == [1, 1]
    assert answer.results[1].model_spec.signature_name == "classify_x_to_y"


@pytest.mark.parametrize(
    ("tasks", "code", "text"),
    [
        ([], Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (
            [(MODEL, "regress_x_to_y", "regress")] * 2,
            Code.INVALID_ARGUMENT,
            "Duplicate evaluation of signature: regress_x_to_y",
        ),
        (
            [(MODEL, "regress_x_to_y", "regress"), ("ranker", "classify_x_to_y", "classify")],
            Code.INVALID_ARGUMENT,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            [(MODEL, "no", "regress")],
            Code.INVALID_ARGUMENT,
            "Requested signature not found in model graph: no",
        ),
        (
            [(MODEL, "regress_x_to_y", "predict")],
            Code.UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
    ],
)
def test_multi_inference_mistakes(shared, tasks, code, text):
    assert failure(shared.prediction.MultiInference, multi(*tasks), 10) == (code, text)


def metadata_request(name=MODEL, fields=("signature_def",)):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = name
    return request


def test_multi_inference_feeds_every_signature_its_own_input(shared):
    """Signatures of a TF2 model never share an input tensor."""
    answer = shared.prediction.MultiInference(
        multi((MODEL, "regress_own_input", "regress"), (MODEL, "classify_x_to_y", "classify")), 10
    )
    assert answer.results[0].regression_result.regressions[0].value == 20.0
    assert answer.results[1].classification_result.classifications[0].classes[0].score == 3.0


def test_metadata_holds_the_signatures_and_no_signature_name(shared):
    answer = shared.prediction.GetModelMetadata(metadata_request(), 10)
    assert (answer.model_spec.version.value, answer.model_spec.signature_name) == (1, "")
    definitions = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(definitions)
    assert definitions.signature_def["serving_default"].inputs["x"].name == "x:0"
    assert definitions.signature_def["regress_x_to_y"].method_name == "tensorflow/serving/regress"


def test_metadata_of_a_tf2_model_includes_its_init_op(shared):
    answer = shared.prediction.GetModelMetadata(metadata_request("ranker"), 10)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(definitions)
    assert "__saved_model_init_op" in definitions.signature_def


def test_metadata_mistakes(shared):
    call = shared.prediction.GetModelMetadata
    assert failure(call, metadata_request(fields=()), 10) == (
        Code.INVALID_ARGUMENT,
        "GetModelMetadataRequest must specify at least one metadata_field",
    )
    assert failure(call, metadata_request(fields=("x",)), 10) == (
        Code.INVALID_ARGUMENT,
        "Metadata field x is not supported",
    )
    assert failure(call, metadata_request("nope"), 10)[0] == Code.NOT_FOUND


def test_status_of_a_model_and_of_a_version(shared):
    for answer in (status(shared, MODEL), status(shared, MODEL, 1)):
        [entry] = answer.model_version_status
        assert (entry.version, entry.state, entry.status.error_code) == (1, entry.AVAILABLE, 0)


def test_status_mistakes(shared):
    assert failure(status, shared, "nope") == (Code.NOT_FOUND, "Could not find any versions of model nope")
    assert failure(status, shared, MODEL, 5) == (Code.NOT_FOUND, f"Could not find version 5 of model {MODEL}")
    assert failure(shared.model.GetModelStatus, get_model_status_pb2.GetModelStatusRequest(), 10) == (
        Code.INVALID_ARGUMENT,
        "Missing ModelSpec",
    )


def test_method_names_are_held_against_the_method_only_if_asked(serve, base):
    path = base / "1" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    definitions = saved.meta_graphs[0].signature_def
    definitions["odd"].CopyFrom(definitions["serving_default"])
    definitions["odd"].method_name = "not/supported/method"
    path.write_bytes(saved.SerializeToString())
    options = {"model_name": MODEL, "model_base_path": str(base)}
    loose, checked = serve(**options), serve(enable_signature_method_name_check=True, **options)
    x = np.array([[2.0]], np.float32)
    assert list(loose.predict(MODEL, "odd", x=x).outputs["y"].float_val) == [3.0]
    assert failure(checked.predict, MODEL, "odd", x=x) == (
        Code.INTERNAL,
        "Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
        "tensorflow/serving/classify, tensorflow/serving/regress}. Was: not/supported/method",
    )
    refusal = "Expected {} signature method_name to be tensorflow/serving/{}. Was: tensorflow/serving/predict"
    for call, words in ((classify, ("classification", "classify")), (regress, ("regression", "regress"))):
        code, text = failure(call, checked, "serving_default", examples(2.0))
        assert (code, text) == (Code.INVALID_ARGUMENT, refusal.format(*words))
    assert regress(checked, "regress_x_to_y", examples(2.0)).result.regressions[0].value == 3.0
    assert checked.predict(MODEL, x=x).outputs["y"].float_val == [3.0]
