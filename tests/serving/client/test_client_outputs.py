"""Which output holds the scores, of models that are not ours."""

from __future__ import annotations

import numpy as np
import pytest

from serving import wire
from serving.client import FailedPrecondition, MalformedAnswer, RankerClient
from serving.client.outputs import OutputError, choose_output, scores_in

ROWS = {"user_id": ["u", "u"], "item_id": ["a", "b"]}


@pytest.mark.parametrize(
    ("names", "output", "expected"),
    [
        (["score", "label"], None, ("score", None)),
        (["dense_3"], None, ("dense_3", None)),
        (["a", "b"], "b", ("b", None)),
        (["a", "b"], "b[1]", ("b", 1)),
        (["b[1]"], "b[1]", ("b[1]", None)),
    ],
)
def test_an_output_is_chosen(names, output, expected):
    assert choose_output(names, output) == expected


@pytest.mark.parametrize(
    ("names", "output", "message"),
    [
        (["predictions", "logits"], None, "outputs: logits, predictions; choose one with --output"),
        (["predictions", "logits"], "scores", "no output `scores`; outputs: logits, predictions"),
        (["a"], "b[1]", r"no output `b\[1\]`; outputs: a"),
        ([], None, "outputs: none"),
    ],
)
def test_what_there_is_is_named(names, output, message):
    with pytest.raises(OutputError, match=message):
        choose_output(names, output)


def test_scores_in_an_output():
    two = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert scores_in("p", two, 1).tolist() == [0.1, 0.8]
    assert scores_in("p", two[:, :1]).tolist() == [0.9, 0.2]
    assert scores_in("p", np.array([3, 4])).tolist() == [3, 4]
    with pytest.raises(OutputError, match=r"`p` has 2 columns; choose one with --output 'p\[1\]'"):
        scores_in("p", two)
    with pytest.raises(OutputError, match="a column 2"):
        scores_in("p", two, 2)
    with pytest.raises(OutputError, match=r"must hold numbers\. Received: text"):
        scores_in("p", np.array([b"x"], object))


def outputs(**arrays):
    """Makes a fake replica answer with these outputs."""

    def mangle(response):
        if isinstance(response, wire.PredictResponse) and "score" in response.outputs:
            del response.outputs["score"]
            for name, array in arrays.items():
                response.outputs[name].CopyFrom(wire.to_tensor(np.asarray(array, np.float32)))
        return response

    return mangle


def test_the_client_takes_outputs_of_other_names(fake_replica):
    replica = fake_replica(
        signatures=("serving_default",), mangle=outputs(logits=[[-1], [2]], classes=[[0.7, 0.3], [0.1, 0.9]])
    )
    with RankerClient(replica.target, output="logits") as client:
        assert client.predict(ROWS).scores.tolist() == [-1, 2]
        assert client.rank({"user_id": "u"}, {"item_id": ["a", "b"]}).item_ids == ("b", "a")
    with RankerClient(replica.target, output="classes[1]") as client:
        np.testing.assert_allclose(client.predict(ROWS).scores, [0.3, 0.9], rtol=1e-6)  # float32
    with (
        RankerClient(replica.target) as client,
        pytest.raises(MalformedAnswer, match="outputs: classes, logits"),
    ):
        client.predict(ROWS)
    with (
        RankerClient(replica.target, signature="ranking") as client,
        pytest.raises(FailedPrecondition, match='"ranking" not found; signatures: serving_default'),
    ):
        client.predict(ROWS)


def test_an_item_that_is_no_feature_is_not_sent(fake_replica):
    replica = fake_replica(signatures=("serving_default",))
    with RankerClient(replica.target, item="sku") as client:
        client.predict({"sku": ["1", "2"], **ROWS})
    (request,) = replica.requests()
    assert set(request.inputs) == set(ROWS)
