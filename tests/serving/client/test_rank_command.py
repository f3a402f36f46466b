"""One request from the command line."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from ranker.cli import app
from ranker.errors import UserError
from serving import wire
from serving.ask import ask


def sent(replica, name):
    return wire.to_array(replica.requests()[-1].inputs[name]).tolist()


def test_candidates_with_commas_are_written_as_csv(fake_replica):
    replica = fake_replica()
    ranking = ask(replica.target, [], ['"item_id=a, b",age=7', 'item_id=c"d', '"item_id=e""f"'])
    assert sorted(ranking.item_ids) == ["a, b", 'c"d', 'e"f']
    assert sorted(map(str, sent(replica, "age"))) == ["7.0", "nan", "nan"]
    assert sent(replica, "user_id") == [b""]


def test_how_many_candidates_have_a_score_is_said(fake_replica):
    command = [
        "rank",
        "--target",
        fake_replica().target,
        "--candidate",
        "item_id=1",
        "--candidate",
        "item_id=2",
    ]
    result = CliRunner().invoke(app, [*command, "--k", "1"])
    assert "candidates: 2 asked, 2 answered, 0 left out" in result.output
    answer = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert (answer["asked"], answer["answered"]) == (2, 2)


def test_the_output_and_its_scale_are_chosen(fake_replica):
    def add_logits(response):
        if isinstance(response, wire.PredictResponse):
            count = len(wire.to_array(response.outputs["score"]))
            logits = np.arange(count, dtype=np.float32)[:, None]
            response.outputs["logits"].CopyFrom(wire.to_tensor(logits))
        return response

    target = fake_replica(mangle=add_logits).target
    ranking = ask(target, ["user_id=u"], ["item_id=a", "item_id=b"], output="logits", scale="logit")
    assert ranking.item_ids == ("b", "a")
    assert ranking.scores.tolist() == pytest.approx([1 / (1 + math.exp(-1)), 0.5])
    assert ask(target, [], ["item_id=a", "item_id=b"], output="logits", scale="order", k=1).item_ids == ("b",)
    with pytest.raises(UserError, match="Open Inference"):
        ask("json+http://127.0.0.1:1/score", [], ["item_id=a"])


def test_the_item_is_what_the_model_says(fake_replica):
    replica = fake_replica(described={"item": "user_id"})
    with pytest.raises(UserError, match="must give user_id=VALUE"):
        ask(replica.target, [], ["item_id=1"])
    assert ask(replica.target, ["user_id=7"], ["item_id=1"], item="item_id").item_ids == ("1",)


@pytest.mark.parametrize(
    ("context", "candidate", "message"),
    [
        (["a"], "item_id=1", "--context must be NAME=VALUE"),
        (["age=1", "age=2"], "item_id=1", "Received twice: age"),
        (["age=1"], "item_id=1,age=2", "not both"),
        (["nobody=1"], "item_id=1", "the model has no feature 'nobody'"),
        ([], "item_id=", "must give item_id=VALUE"),
        ([], "item_id=1,", "--candidate must be NAME=VALUE"),
        ([], "", "--candidate must"),
        ([], '"item_id=1', "--candidate must read as a line of CSV"),
        (["age=old"], "item_id=1", "`age` must hold numbers"),
        (["age=inf"], "item_id=1", "`age` must hold finite numbers"),
    ],
)
def test_mistakes_are_one_line(fake_replica, context, candidate, message):
    with pytest.raises(UserError, match=message):
        ask(fake_replica().target, context, [candidate])
