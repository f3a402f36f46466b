"""The REST API: answers, HTTP codes and error texts as TF Serving's."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import math
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.error import URLError

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.server.transports.json_responses import float32_values
from tests.processes import wait_until

PREDICT = "/v1/models/half_plus_two:predict"


def test_row_and_column_form(shared):
    assert shared.http(PREDICT, {"instances": [2.0, 3.0, 4.0]}) == (200, {"predictions": [3.0, 3.5, 4.0]})
    assert shared.http(PREDICT, {"inputs": [[2.0], [3.0]]}) == (200, {"outputs": [[3.0], [3.5]]})


def test_named_inputs_and_several_outputs(shared):
    url = "/v1/models/ranker:predict"
    rows = [{"item_id": "a", "age": 1.0}, {"item_id": "zz", "age": 2}]
    expected = [{"score": [2.0], "item_id": "a"}, {"score": [2.0], "item_id": "zz"}]
    assert shared.http(url, {"instances": rows}) == (200, {"predictions": expected})
    columns = {"item_id": ["a", "zz"], "age": [1, 2]}
    assert shared.http(url, {"inputs": columns}) == (
        200,
        {"outputs": {"score": [[2.0], [2.0]], "item_id": ["a", "zz"]}},
    )


def test_versions_in_the_path_and_case_of_the_path(shared):
    assert shared.http("/v1/models/half_plus_two/versions/1:predict", {"instances": [2.0]})[0] == 200
    assert shared.http("/V1/Models/half_plus_two/Versions/1:Predict", {"instances": [2.0]})[0] == 200
    assert shared.http("/v1/models/half_plus_two/versions/2:predict", {"instances": [2.0]}) == (
        404,
        {"error": "Servable not found for request: Specific(half_plus_two, 2)"},
    )
    status, answer = shared.http("/v1/models/half_plus_two/labels/best:predict", {"instances": [2.0]})
    assert (status, answer) == (400, {"error": "Unrecognized servable version label: best"})
    too_big = "9" * 30
    assert shared.http(f"/v1/models/half_plus_two/versions/{too_big}") == (
        400,
        {"error": f"Failed to convert version: {too_big} to numeric."},
    )


def test_classify_and_regress(shared):
    body = {"signature_name": "classify_with_labels", "examples": [{"x": 2.0}, {"x": [4.0]}]}
    assert shared.http("/v1/models/half_plus_two:classify", body) == (
        200,
        {"results": [[["positive", 3.0]], [["positive", 4.0]]]},
    )
    body = {"signature_name": "regress_x_to_y", "context": {"x": 6.0}, "examples": [{}]}
    assert shared.http("/v1/models/half_plus_two:regress", body) == (200, {"results": [5.0]})


def test_status_and_metadata(shared):
    status, answer = shared.http("/v1/models/half_plus_two")
    entry = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert (status, answer) == (200, {"model_version_status": [entry]})
    assert shared.http("/v1/models/half_plus_two/versions/1") == (200, answer)
    status, answer = shared.http("/v1/models/half_plus_two/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "half_plus_two", "signature_name": "", "version": "1"}
    x = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["x"]
    assert x == {
        "dtype": "DT_FLOAT",
        "name": "x:0",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}],
            "unknown_rank": False,
        },
    }


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/v1/models", None, 400, "Missing model name in request."),
        ("/v1/models/nope", None, 404, "Could not find any versions of model nope"),
        ("/v1/models/nope/metadata", None, 404, "Servable not found for request: Latest(nope)"),
        ("/v1/models/nope:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(nope)"),
        ("/v1/other", None, 400, "Malformed request: GET /v1/other"),
        ("/v1/models/half_plus_two:guess", {}, 400, "Malformed request: POST /v1/models/half_plus_two:guess"),
        (PREDICT, b"", 400, "JSON Parse error: The document is empty"),
        (
            PREDICT,
            b'{"instances": [1.0}',
            400,
            "JSON Parse error: Expecting ',' delimiter",
        ),
        (
            PREDICT,
            b'{"instances": [Infinity, "\xff"]}',
            400,
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            'JSON Value: "\udcff" Type: String is not of expected type: float',
        ),
        (PREDICT, b"[1]", 400, "JSON Value: [\n    1\n] Is not object"),
        (PREDICT, {}, 400, "Missing 'inputs' or 'instances' key"),
        (
            PREDICT,
            {"instances": []},
            400,
            "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array",
        ),
        (
            PREDICT,
            {"signature_name": "no", "instances": [1.0]},
            400,
            'Serving signature name: "no" not found in signature def',
        ),
        (
            PREDICT,
            {"instances": ["a"]},
            400,
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            'JSON Value: "a" Type: String is not of expected type: float',
        ),
        (
            PREDICT,
            {"inputs": [True]},
            400,
            "JSON Value: true Type: True is not of expected type: float",
        ),
        (
            PREDICT,
            {"inputs": [16777217]},
            400,
            "Cannot convert JSON value: 16777217 to float without loss of precision.",
        ),
        (
            PREDICT,
            {"inputs": [1e39]},
            400,
            "Cannot convert JSON value: 1e+39 to float without loss of precision.",
        ),
        (
            PREDICT,
            {"instances": [[1.0], [2.0, 3.0]]},
            400,
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting tensor size: 1 but got: 2",
        ),
        (
            PREDICT,
            {"instances": [[[1.0]], [1.0]]},
            400,
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting shape [1,1] but got: [1]",
        ),
        (
            PREDICT,
            {"inputs": [[1.0], 2.0]},
            400,
            "JSON Value: 2.0 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (PREDICT, {"inputs": [1.0, [2.0]]}, 400, "Encountered list at unexpected level: 1 expected < 1"),
        (
            PREDICT,
            {"inputs": [[1.0], [2.0, 3.0]]},
            400,
            "Encountered list at unexpected size: 2 at level: 1 expected size: 1",
        ),
        (
            "/v1/models/ranker:predict",
            {"instances": [1.0]},
            400,
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (
            "/v1/models/ranker:predict",
            {"inputs": {"age": [1.0]}},
            400,
            "Missing named input: item_id in 'inputs' object.",
        ),
        (
            "/v1/models/ranker:predict",
            {"instances": [{"age": 1.0, "color": 1}]},
            400,
            "Failed to process element: 0 key: color of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON object: does not have named input: color",
        ),
        (
            "/v1/models/half_plus_two:classify",
            {"examples": [{"x": [1.0, 1]}]},
            400,
            "Unexpected element type in feature: x expecting type: float",
        ),
        (
            "/v1/models/half_plus_two:regress",
            {"examples": [{"x": None}]},
            400,
            "Feature: x has element with unexpected JSON type: Null",
        ),
        (
            "/v1/models/half_plus_two:regress",
            {"examples": [3]},
            400,
            "Example must be JSON object but got JSON Number",
        ),
    ],
)
def test_mistakes_are_answered_in_tf_servings_words(shared, path, body, status, error):
    assert shared.http(path, body) == (status, {"error": error})


def test_a_byte_order_mark_is_skipped(shared):
    status, answer = shared.http(PREDICT, b'\xef\xbb\xbf{"instances": [2.0]}')
    assert (status, answer) == (200, {"predictions": [3.0]})


def test_bytes_travel_as_base64(shared):
    data = b"\x00\xff\xfe"
    body = {"signature_name": "string", "inputs": {"b64": base64.b64encode(data).decode()}}
    connection = http.client.HTTPConnection("127.0.0.1", shared.server.rest_port, timeout=10)
    connection.request("POST", "/v1/models/echo:predict", json.dumps(body))
    answer = connection.getresponse().read()
    connection.close()
    assert data in answer.replace(b"\\u0000", b"\x00")
    body["inputs"]["b64"] = "@@@"
    assert shared.http("/v1/models/echo:predict", body) == (400, {"error": "Unable to base64 decode"})


@pytest.mark.parametrize(
    ("signature", "value"),
    [
        ("int64", 2**62 + 1),
        ("uint64", 2**64 - 1),
        ("int32", -(2**31)),
        ("bool", True),
        ("float64", 0.1),
        ("string", "é\n"),
    ],
)
def test_values_keep_their_type_and_precision(shared, signature, value):
    body = {"signature_name": signature, "inputs": [value, value]}
    assert shared.http("/v1/models/echo:predict", body) == (200, {"outputs": [value, value]})


def test_integers_do_not_become_floats_or_wrap(shared):
    body = {"signature_name": "int32", "inputs": [1.0]}
    assert shared.http("/v1/models/echo:predict", body)[1]["error"] == (
        "JSON Value: 1.0 Type: Number is not of expected type: int32"
    )
    body["inputs"] = [2**31]
    assert shared.http("/v1/models/echo:predict", body)[0] == 400


def test_nan_and_infinity_literals(shared):
    status, answer = shared.http(PREDICT, b'{"instances": [NaN, Infinity, -Infinity]}')
    assert status == 200
    assert math.isnan(answer["predictions"][0])
    assert answer["predictions"][1:] == [math.inf, -math.inf]


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, 1 / 3, 9e6, 3e-5, 123456.0, 1234567.0, 1e38, 2.05])
def test_a_float32_is_written_with_few_digits_and_reads_back_to_the_same_number(value):
    [written] = float32_values(np.array([value], np.float32))
    assert np.float32(written) == np.float32(value)
    assert len(repr(written).lstrip("-")) <= 12


def test_gzip_body_and_keep_alive(shared):
    connection = http.client.HTTPConnection("127.0.0.1", shared.server.rest_port, timeout=10)
    body = gzip.compress(b'{"instances": [2.0]}')
    for _ in range(3):
        connection.request("POST", PREDICT, body, {"Content-Encoding": "gzip"})
        assert json.loads(connection.getresponse().read()) == {"predictions": [3.0]}
    connection.request(
        "POST",
        PREDICT,
        iter([b'{"instances":', b" [2.0]}"]),
        {"Transfer-Encoding": "chunked"},
        encode_chunked=True,
    )
    assert json.loads(connection.getresponse().read()) == {"predictions": [3.0]}
    connection.close()


def test_slow_call_times_out_with_504(serve, models):
    client = serve(
        rest_api_port=-1, model_name="m", model_base_path=str(models / "ranker"), rest_api_timeout_in_ms=300
    )
    status, answer = client.http("/v1/models/m:predict", {"signature_name": "loop", "inputs": [10**9]})
    assert status == 504, answer
    assert client.http("/v1/models/m:predict", {"signature_name": "loop", "inputs": [1]})[0] == 200


def test_metrics_page_has_tf_servings_names_and_labels(shared):
    shared.http(PREDICT, {"instances": [2.0]})
    status, text = shared.http("/monitoring/prometheus/metrics")
    assert status == 200
    assert "# TYPE :tensorflow:serving:request_count counter\n:tensorflow:serving:request_count{" in text
    count = samples(text, ":tensorflow:serving:request_count")
    assert {frozenset(labels) for labels, _ in count} == {frozenset({"model_name", "status"})}
    latency = [
        (labels, value)
        for labels, value in samples(text, ":tensorflow:serving:request_latency_bucket")
        if labels["model_name"] == "half_plus_two" and labels["entrypoint"] == "REST"
    ]
    assert {frozenset(labels) for labels, _ in latency} == {
        frozenset({"model_name", "API", "entrypoint", "le"})
    }
    bounds = [float(labels["le"]) for labels, _ in latency if labels["API"] == "Predict"]
    assert bounds == pytest.approx([*(10 * 1.8**power for power in range(33)), math.inf], rel=1e-5)
    assert samples(text, ":tensorflow:cc:saved_model:load_attempt_count")


def samples(text, name):
    """(labels, value) of each sample of that name; the parser appends "_total" to a counter's."""
    families = text_string_to_metric_families(text)
    names = (name, f"{name}_total")
    return [(s.labels, s.value) for family in families for s in family.samples if s.name in names]


def test_version_and_signature_labels_are_a_flag(serve, models):
    client = serve(rest_api_port=-1, model_base_path=str(models / "ranker"), metrics_version_labels=True)
    client.predict(model="default", item_id=["a"], age=[1.0])
    text = client.http("/monitoring/prometheus/metrics")[1]
    expected = {"model_name": "default", "status": "OK", "version": "7", "signature": "serving_default"}
    assert (expected, 1) in samples(text, ":tensorflow:serving:request_count")


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "GUESS"])
def test_a_method_that_the_api_does_not_have(shared, method):
    path = "/v1/models/half_plus_two"
    status, answer = shared.http(path, method=method)
    assert status == 400
    assert answer == ("" if method == "HEAD" else {"error": f"Malformed request: {method} {path}"})
    assert shared.http("/else", method=method)[0] == 404


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/redoc", "/v2/health", "/metrics"])
def test_other_paths_are_not_found(shared, path):
    assert shared.http(path) == (404, "<HTML><HEAD><TITLE>404 Not Found</TITLE></HEAD></HTML>")


def test_a_body_cut_short_stops_nobody(shared):
    half = b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{"
    peers = [socket.create_connection(("127.0.0.1", shared.server.rest_port), 10) for _ in range(100)]
    for peer in peers:
        peer.sendall(half)
    assert shared.http(PREDICT, {"instances": [2.0]})[0] == 200
    for peer in peers:
        peer.close()


def test_made_up_names_do_not_become_labels(shared):
    shared.http("/v1/models/surprise-1:predict", {"instances": [2.0]})
    shared.http(PREDICT, {"signature_name": "surprise-2", "instances": [2.0]})
    assert "surprise" not in shared.http("/monitoring/prometheus/metrics")[1]


def test_monitoring_config_moves_or_hides_the_page(serve, models, tmp_path):
    config = tmp_path / "monitoring.config"
    config.write_text('prometheus_config { enable: true path: "/metrics" }')
    client = serve(
        rest_api_port=-1, model_base_path=str(models / "ranker"), monitoring_config_file=str(config)
    )
    assert client.http("/metrics")[0] == 200
    assert client.http("/monitoring/prometheus/metrics")[0] == 404


def test_cors_headers_when_asked_for(serve, models):
    client = serve(
        rest_api_port=-1, model_base_path=str(models / "ranker"), rest_api_enable_cors_support=True
    )
    connection = http.client.HTTPConnection("127.0.0.1", client.server.rest_port, timeout=10)
    connection.request("OPTIONS", "/v1/models/default:predict")
    response = connection.getresponse()
    assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (200, "*")
    connection.close()


def test_stop_lets_requests_under_way_finish(serve, models):
    base = str(models / "ranker")
    client = serve(rest_api_port=-1, model_name="m", model_base_path=base, rest_api_timeout_in_ms=120_000)
    manager = client.server.core.manager
    body = {"signature_name": "loop", "inputs": [3000]}
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(client.http, "/v1/models/m:predict", body) for _ in range(4)]
        wait_until(lambda: manager.requests_inside() == 4 or all(answer.done() for answer in answers))
        assert client.server.stop(60)
        assert [answer.result()[0] for answer in answers] == [200] * 4
    with pytest.raises(URLError):
        client.http("/v1/models/m")
