"""One contract for every protocol, against servers that speak it.

The embedded server speaks TF Serving's, a FastAPI application the Open Inference Protocol and JSON, and a gRPC server in
front of the same application the Open Inference Protocol's gRPC. MLServer speaks both where it is installed in an
environment of its own (`make test-mlserver`).
"""

from __future__ import annotations

import socket

import numpy as np
import pytest

from ranker.errors import UserError
from serving.client import (
    DeadlineExceeded,
    InvalidArgument,
    MalformedAnswer,
    NotFound,
    ServingError,
    Unavailable,
)
from serving.targets.scoring import connect
from tests.serving.targets.scoring_servers import (
    CALL,
    COLUMNS,
    LOGITS,
    PROTOCOLS,
    VERSIONS,
    call,
)


@pytest.mark.parametrize("protocol", ["v2", "v2+grpc"])
def test_scores_of_mlserver(mlserver, protocol):
    with connect(mlserver[protocol], CALL) as client:
        prediction = client.predict(COLUMNS)
    np.testing.assert_allclose(prediction.scores, LOGITS, rtol=1e-6)  # float32 of numbers of two digits
    assert prediction.version == 3


@pytest.mark.parametrize("protocol", ["v2", "v2+grpc"])
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"output": ""}, MalformedAnswer, "outputs: classes, logits"),
        ({"model_name": "store"}, NotFound, ""),
    ],
)
def test_mistakes_of_a_call_to_mlserver(mlserver, protocol, changes, error, message):
    with connect(mlserver[protocol], call(**changes)) as client, pytest.raises(error, match=message):
        client.predict(COLUMNS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scores_version_and_latency(servers, protocol):
    with connect(servers[protocol], CALL) as client:
        for _ in range(2):
            prediction = client.predict(COLUMNS)
            # float32 of numbers of two digits
            np.testing.assert_allclose(prediction.scores, LOGITS, rtol=1e-6)
            assert prediction.version == VERSIONS[protocol]
            assert prediction.latency > 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_log_odds_become_probabilities(servers, protocol):
    with connect(servers[protocol], call(scale="logit")) as client:
        scores = client.predict(COLUMNS).scores
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.array(LOGITS))), rtol=1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS[:4])
def test_a_column_of_an_output(servers, protocol):
    with connect(servers[protocol], call(output="classes[1]")) as client:
        scores = client.predict(COLUMNS).scores
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.array(LOGITS))), rtol=1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS[:4])
@pytest.mark.parametrize("output", ["", "score"])
def test_outputs_are_named(servers, protocol, output):
    with (
        connect(servers[protocol], call(output=output)) as client,
        pytest.raises(MalformedAnswer, match="outputs: classes, logits; choose one with --output"),
    ):
        client.predict(COLUMNS)


def test_the_path_to_the_scores_is_named(servers):
    with (
        connect(servers["json"], call(json_scores="predictions")) as client,
        pytest.raises(MalformedAnswer, match="no list at `predictions`; the answer has results"),
    ):
        client.predict(COLUMNS)


@pytest.mark.parametrize(
    ("protocol", "changes"),
    [
        ("grpc", {"signature": "matrix"}),
        ("tfserving", {"signature": "matrix"}),
        ("v2", {"model_name": "matrix"}),
        ("v2+grpc", {"model_name": "matrix"}),
    ],
)
def test_a_model_of_one_matrix_gets_the_columns_in_order(servers, protocol, changes):
    rows = {"sku": ["a", "b"], "second": [1.0, 2.0], "first": [3.0, 4.0]}
    with connect(servers[protocol], call(output="", **changes)) as client:
        assert client.predict(rows).scores.tolist() == [13, 24]
        with pytest.raises(UserError, match=r"must get 2 columns\. Received: 1"):
            client.predict({"sku": ["a"], "first": [1.0]})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_another_model_is_not_found(servers, protocol):
    with connect(servers[protocol], call(model_name="store")) as client, pytest.raises(NotFound):
        client.predict(COLUMNS)


@pytest.mark.parametrize("protocol", ["grpc", "tfserving"])
def test_signatures_are_named(servers, protocol):
    with (
        connect(servers[protocol], call(signature="rank")) as client,
        pytest.raises(ServingError, match='"rank" not found; signatures: matrix, serving_default'),
    ):
        client.predict(COLUMNS)


@pytest.mark.parametrize("protocol", PROTOCOLS[:4])
def test_a_refused_request_says_why(servers, protocol):
    rows = {name: COLUMNS[name] for name in ("user", "sku")}
    with connect(servers[protocol], CALL) as client, pytest.raises(ServingError) as caught:
        client.predict(rows)
    assert isinstance(caught.value, InvalidArgument)


@pytest.mark.parametrize(
    "scheme", ["grpc://", "tfserving+http://", "v2+http://", "v2+grpc://", "json+http://"]
)
def test_nobody_listens(scheme):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with (
            connect(f"{scheme}127.0.0.1:{closed.getsockname()[1]}", CALL, deadline=30, retries=0) as client,
            pytest.raises(Unavailable),
        ):
            client.predict(COLUMNS)


@pytest.mark.parametrize("scheme", ["tfserving+http://", "v2+http://", "json+http://"])
def test_a_silent_server_costs_the_deadline(scheme):
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        connect(f"{scheme}127.0.0.1:{silent.getsockname()[1]}", CALL, deadline=0.3) as client,
        pytest.raises(DeadlineExceeded),
    ):
        client.predict(COLUMNS)


def test_templates_and_paths_are_checked_before_a_call():
    for changes, message in (
        ({"json_request": "{"}, "must be JSON"),
        ({"json_request": "{}"}, r"must have \$rows"),
        ({"json_scores": "a["}, "must be JMESPath"),
    ):
        with pytest.raises(UserError, match=message):
            connect("json+http://127.0.0.1:1", call(**changes))
