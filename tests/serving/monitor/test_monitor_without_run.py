"""`ranker monitor` in front of models that were not trained here: no run directory."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ranker.cli import app
from serving import wire
from serving.monitor.measurement.exemplars import read_exemplars

SCORES = {"a": [-3.0, 0.5, 2.0, 30.0], "b": [-2.5, 2.5, 0.5, 31.0]}


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = {
        "request": np.repeat([f"r{n}" for n in range(6)], 4).tolist(),
        "user_id": np.repeat([f"u{n}" for n in range(6)], 4).tolist(),
        "age": [20.0] * 24,
        "item_id": ["i1", "i2", "i3", "i4"] * 6,
    }
    pq.write_table(pa.table(table), tmp_path / "probe.parquet")
    return tmp_path


def foreign(fake_replica, name):
    """A model with logits beside another output, and no `describe`."""

    def mangle(response):
        if isinstance(response, wire.PredictResponse) and "score" in response.outputs:
            count = len(wire.to_array(response.outputs["score"]))
            del response.outputs["score"]
            logits = np.tile(SCORES[name], count // 4).astype(np.float32)
            response.outputs["logits"].CopyFrom(wire.to_tensor(logits[:, None]))
            response.outputs["predictions"].CopyFrom(wire.to_tensor(logits > 0))
        return response

    return fake_replica(name=name, signatures=("serving_default",), mangle=mangle)


def monitor(replicas, *options):
    pairs = [f"--replica={replica.name}={replica.target}" for replica in replicas]
    return CliRunner().invoke(
        app, ["monitor", "--probe", "probe.parquet", "--once", "--json", *pairs, *options]
    )


def test_logits_of_a_named_output_are_compared(fake_replica, directory):
    replicas = [foreign(fake_replica, name) for name in SCORES]
    result = monitor(replicas, "--output", "logits", "--scale", "logit", "--budget", "top1_swap=1")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["replicas"] == {"a": 3, "b": 3}
    assert summary["errors"] == {}
    assert summary["messages"] == {}
    assert summary["measures"]["top1_swap"]["value"] == 0
    expected = np.abs(np.diff([1 / (1 + np.exp(-np.array(SCORES[name]))) for name in "ab"], axis=0)).mean()
    assert summary["measures"]["pd_abs"]["value"] == pytest.approx(expected, rel=1e-5)  # logits are float32
    assert (directory / "monitor.db").exists()
    assert list((directory / "exemplars").glob("probe-*.parquet"))
    status = CliRunner().invoke(app, ["status", "--store", "monitor.db", "--budget", "top1_swap=1"])
    assert status.exit_code in (0, 2), status.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "outputs: logits, predictions; choose one with --output"),
        (("--output", "score"), "no output `score`; outputs: logits, predictions"),
        (("--output", "logits"), "scores from -3 to 30 are no probabilities; --scale logit"),
        (("--output", "logits", "--signature", "rank"), '"rank" not found; signatures: serving_default'),
    ],
)
def test_errors_name_what_there_is(fake_replica, directory, options, message):
    result = monitor([foreign(fake_replica, "a")], *options)
    (kinds,) = json.loads(result.stdout.splitlines()[-1])["messages"].values()
    assert message in " ".join(kinds.values())


def test_a_deployment_file_by_hand(fake_replica, directory):
    replicas = [foreign(fake_replica, name) for name in SCORES]
    (directory / "deployment.yaml").write_text(
        f"model_name: ranker\noutput: logits\nscale: logit\nreplicas:\n"
        f"  - {{name: a, target: grpc://{replicas[0].target}}}\n  - {{name: b, target: '{replicas[1].target}'}}\n"
    )
    result = monitor([], "--deployment", "deployment.yaml")
    assert result.exit_code == 0, result.output
    result = monitor(replicas, "--deployment", "deployment.yaml")
    assert "not both" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--once"], "--run-dir, or --probe"),
        (["--probe", "probe.parquet", "--once"], "--replica NAME=TARGET"),
        (["--probe", "none.parquet", "--replica", "a=h:1"], "ranker probe.*none.parquet"),
        (["--probe", "probe.parquet", "--replica", "a=h:1", "--item", "sku"], "column `sku`"),
        (["--probe", "probe.parquet", "--replica", "a=h:1", "--scale", "odds"], "scale.*odds"),
        (["--probe", "probe.parquet", "--replica", "a=ftp://h:1"], "begin with.*ftp://h:1"),
        (["--probe", "probe.parquet", "--replica", "a=h:1", "--budget", "swaps=1"], "--budget.*swaps=1"),
    ],
)
def test_mistakes_are_one_line(directory, arguments, message):
    result = CliRunner().invoke(app, ["monitor", *arguments])
    assert result.exit_code != 0
    assert re.search(message, str(result.exception)), result.exception


def test_scores_that_only_order(fake_replica, directory, capfd):
    replicas = [foreign(fake_replica, name) for name in SCORES]
    result = monitor(replicas, "--output", "logits", "--scale", "order")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["errors"] == {}
    assert summary["measures"]["top1_swap"]["value"] == 0
    assert summary["measures"]["pair_inversion"]["value"] == pytest.approx(1 / 6)
    assert not {"rpd_sym", "pd_abs", "bias", "consensus_regret"} & summary["measures"].keys()
    assert "the scores only order" in capfd.readouterr().err
    status = CliRunner().invoke(app, ["status", "--store", "monitor.db"])
    assert "the scores only order" in status.output
    assert "no budget of consensus_regret is held" in status.output
    examples = read_exemplars(directory / "exemplars", "probe", 0, 1e11)
    assert examples
    assert [example.cost for example in examples] == pytest.approx([1 / 6] * len(examples))


def test_flags_stand_before_the_run_directory(fake_replica, directory):
    replicas = [foreign(fake_replica, name) for name in SCORES]
    run = directory / "run"
    run.mkdir()
    (run / "config.yaml").write_text(
        "name: shop\ndata: {events: {path: log.csv, format: csv}, label: clicked, request: [user_id], timestamp: time, "
        "split: {by: time, eval: 0.1}}\n"
        "features: {user_id: {kind: categorical, role: context}, item_id: {kind: categorical, role: item}}\n"
        "serving: {model_name: other}\n"
    )
    flags = ("--model-name", "ranker", "--output", "logits", "--scale", "logit")
    result = monitor(replicas, "--run-dir", "run", *flags)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["errors"] == {}
    (run / "deployment.yaml").write_text(
        "model_name: other\nreplicas:\n"
        + "".join(f"  - {{name: {replica.name}, target: '{replica.target}'}}\n" for replica in replicas)
    )
    result = monitor([], "--run-dir", "run", *flags)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["errors"] == {}
    result = monitor([], "--run-dir", "run")
    assert json.loads(result.stdout.splitlines()[-1])["errors"] != {}
    first, second = replicas
    answer = gate(second.target, [first.target], "--run-dir", "run", *flags)
    assert answer.exit_code in (0, 2), answer.output


def gate(candidate, baseline, *options):
    arguments = ["--probe", "probe.parquet", "--json", "--measure", "top1_swap", "--allowance", "1"]
    sources = [f"--candidate={candidate}", *(f"--baseline={source}" for source in baseline)]
    return CliRunner().invoke(app, ["gate", *sources, *arguments, *options])


def test_the_gate_takes_models_of_any_origin(fake_replica, directory):
    first, second = (foreign(fake_replica, name) for name in SCORES)
    options = ("--output", "logits", "--scale", "logit")
    result = gate(f"grpc://{second.target}", [first.target], *options)
    assert result.exit_code in (0, 2), result.output
    answer = json.loads(result.stdout)
    assert answer["candidate"]["source"] == f"grpc://{second.target}"
    assert answer["requests"] == 6
    assert [path.name for path in directory.iterdir()] == ["probe.parquet"]
    result = gate(second.target, [first.target])
    assert result.exit_code == 1
    notes = json.loads(result.stdout)["notes"]
    assert any("outputs: logits, predictions; choose one with --output" in note for note in notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scale", "odds"], "`scale` must be one of probability, logit, order"),
        (["--score", "p"], "--probe must not be given with files of scored rows"),
    ],
)
def test_mistakes_in_the_call_of_the_gate(directory, options, message):
    result = gate("127.0.0.1:1", ["127.0.0.1:2"], *options)
    assert result.exit_code != 0
    assert message in str(result.exception)
    result = gate("ftp://127.0.0.1:1", ["127.0.0.1:2"])
    assert "begin with one of grpc://" in str(result.exception)
