"""Request logs of TF Serving as scored rows."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ranker.errors import UserError
from ranker.scored.align import align
from ranker.tfrecord import Writer, records
from serving.prediction_logs import read_prediction_log
from serving.wire import PredictionLog, to_tensor


def call(user, items, scores, output="score", **inputs):
    log = PredictionLog()
    columns = {"user": [user], "item": items, **inputs}
    for name, values in columns.items():
        log.predict_log.request.inputs[name].CopyFrom(to_tensor(np.array(values)))
    log.predict_log.response.outputs[output].CopyFrom(to_tensor(np.array(scores, np.float32)[:, None]))
    return log.SerializeToString()


def write(path, calls):
    with Writer(path) as writer:
        writer.write(calls)
    return str(path)


@pytest.fixture(name="logs")
def _logs(tmp_path):
    calls = [(f"u{n}", ["a", "b", "c"], n) for n in range(50)]
    generator = np.random.default_rng(1)
    paths = []
    for model in ("first", "second"):
        scored = [call(user, items, generator.random(3)) for user, items, _ in calls]
        paths.append(write(tmp_path / f"{model}.tfrecord.17.1700000000000", scored))
    return paths


def test_a_call_is_a_request(logs):
    for request in ([], ["user"]):
        models = [read_prediction_log(path, path, request, "item") for path in logs]
        aligned = align(models)
        assert len(aligned.request_ids) == 50
        assert aligned.item_ids.to_pylist() == ["a", "b", "c"]
        assert aligned.missing.tolist() == [0, 0]


def test_the_command_reads_them(logs):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ranker.cli",
            "compare",
            *logs,
            "--item",
            "item",
            "--request",
            "user",
            "--json",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["requests"] == 50
    assert len(report["models"]) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item": "sku"}, "record 1: the call must have the input sku"),
        ({"request": ["session"]}, "must have the input session"),
        ({"score": "logits"}, "choose the output with the scores. Received: logits of score"),
        ({"label": "clicked"}, "must have the input clicked"),
        ({"source": "none.tfrecord"}, "no such file"),
    ],
)
def test_mistakes(logs, change, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        read_prediction_log(
            **{"source": logs[0], "model": "m", "request": ["user"], "item": "item", **change}
        )


def test_damage_is_said_with_its_place(tmp_path, logs):
    content = Path(logs[0]).read_bytes()
    cut, flipped = tmp_path / "cut.tfrecord", tmp_path / "flipped.tfrecord"
    cut.write_bytes(content[:-3])
    flipped.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    other = tmp_path / "text.tfrecord"
    other.write_text("no records here")
    for path in (cut, flipped, other):
        with pytest.raises(UserError, match="damaged"):
            list(records(path))
    wrong = write(tmp_path / "wrong.tfrecord", [b"\xff\xff no message"])
    with pytest.raises(UserError, match="record 1: is no PredictionLog"):
        read_prediction_log(wrong, "m", [], "item")
    short = write(tmp_path / "short.tfrecord", [call("u", ["a", "b"], [0.1])])
    with pytest.raises(UserError, match=r"a score a candidate\. Received: 1 for 2"):
        read_prediction_log(short, "m", [], "item")
