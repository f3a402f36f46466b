"""Ratings as values: trained by squared error, measured in units of the label's range, watched like any model."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from ranker import layout
from ranker.backend import tf
from ranker.config import Training, build
from ranker.divergence import mae, pd_abs, rmse
from ranker.errors import UserError
from ranker.inputs import TrainingTarget, plan
from ranker.scored.scale import ValueRange, to_probabilities
from ranker.training.step.objective import held_out_loss, squared_error
from serving.deployment import dump, load
from serving.monitor.judgement.gate import gate
from serving.monitor.judgement.gate_result import Options
from serving.monitor.requests.probe import load_probe
from serving.run_directory import deployment_of, identity
from serving.targets.scoring import ModelCall, connect
from tests.shapes.conftest import tree


@pytest.fixture(scope="module")
def worked(work):
    return work(
        task="regression",
        data__label="rating * 10 - 5",
        training__epochs="auto",
        training__max_epochs=6,
        replicas={"count": 3},
    )


def test_the_target_is_that_of_the_training_rows(worked):
    target = plan(worked.experiment, worked.run).target
    assert (target.low, target.high, target.scale) == (-5, 45, "range:-5:45")
    assert 5 < target.std < 20
    assert identity(worked.run, "smelu", 0)["scale"] == "range:-5:45"


def test_values_are_in_the_labels_unit(worked):
    [path, *_] = sorted((worked.run / "evaluation" / "predictions").glob("*.parquet"))
    table = pq.read_table(path)
    label, score = (table[name].to_numpy().astype(float) for name in ("label", "smelu/0"))
    assert set(label) <= {-5.0, 5.0, 15.0, 25.0, 35.0, 45.0}
    assert rmse(label, score) < 0.8 * label.std()


def test_errors_and_order_are_measured(worked):
    assert 0 < worked.quality["mae"] < worked.quality["rmse"] < 12
    assert worked.quality["ndcg@10"] > 0.8
    assert worked.quality["logloss"] is None
    assert worked.report["baseline"]["model"] is None
    assert (
        "RMSE" in (worked.run / "evaluation" / "report.html").read_text()
        or "rmse" in (worked.run / "evaluation" / "report.html").read_text()
    )


def test_prediction_differences_are_shares_of_the_range(worked):
    paths = sorted((worked.run / "evaluation" / "predictions").glob("*.parquet"))
    tables = [pq.read_table(path) for path in paths]
    values = [np.concatenate([t[f"smelu/{i}"].to_numpy() for t in tables]).astype(float) for i in range(3)]
    shares = [np.clip((replica + 5) / 50, 0, 1) for replica in values]
    pairs = [float(pd_abs(a, b)) for a, b in itertools.combinations(shares, 2)]
    assert worked.divergence["pd_abs"] == pytest.approx(np.mean(pairs), rel=1e-6)
    assert 0 <= worked.divergence["top1_swap"] <= 1


def test_the_monitors_client_takes_the_scale_of_the_deployment(worked, tmp_path):
    from serving.server.api import ServerOptions, start

    deployment = deployment_of(worked.run, 1)
    assert deployment.scale == "range:-5:45"
    dump(deployment, tmp_path / "deployment.yaml")
    assert load(tmp_path / "deployment.yaml") == deployment
    rows = {
        "user": ["u1"] * 2,
        "age": [21.0] * 2,
        "doc": ["d1", "d11"],
        "topic": ["t1", "t3"],
        "price": [1.0, 11.0],
    }
    base = layout.replica_dir(worked.run, "smelu", 0)
    server = start(ServerOptions(port=0, model_name="ranker", model_base_path=str(base)))
    try:
        raw, shares = (
            connect(f"127.0.0.1:{server.port}", ModelCall(item="doc", scale=scale))
            for scale in ("probability", deployment.scale)
        )
        with raw, shares:
            values = raw.predict(rows).scores
            np.testing.assert_allclose(shares.predict(rows).scores, (values + 5) / 50, rtol=1e-6)
    finally:
        server.stop(2)
    assert values[0] < values[1]
    assert values.max() > 1


def test_the_gate_takes_a_replica(worked):
    probe = load_probe(layout.probe_path(worked.run), "doc")
    candidate, *baseline = (str(layout.version_dir(worked.run, "smelu", i, 1)) for i in range(3))
    options = Options(call=ModelCall("ranker", "doc", scale="range:-5:45"))
    result = gate(candidate, baseline, probe, options)
    assert all(side.coverage.answered == len(probe) for side in (result.candidate, *result.baseline))
    assert "auc" not in {decision.measure for decision in result.decisions}
    with pytest.raises(UserError, match="a regression has values"):
        gate(candidate, baseline, probe, replace(options, measures=("auc",)))


def test_a_scale_that_is_a_range():
    values = np.array([[1.0, 3.0, 5.0, 7.0, math.nan]])
    scaled = to_probabilities(values, "range:1:5")
    np.testing.assert_array_equal(scaled.scores, [[0, 0.5, 1, 1, math.nan]])
    assert scaled.has_probabilities
    for scale in ("range:5:1", "range:1:1", "range:1", "range:a:b", "range:0:inf", "range:nan:1", "ranges"):
        with pytest.raises(UserError, match=r"range|scale"):
            to_probabilities(values, scale)
        with pytest.raises(UserError, match=r"range|scale"):
            ModelCall(scale=scale)
    assert ValueRange.parse("logit") is None


def test_errors_by_hand():
    assert rmse([0, 2], [1, 5], weight=[3, 1]) == pytest.approx(math.sqrt((3 * 1 + 9) / 4))
    assert mae([0, 2], [1, 5], weight=[3, 1]) == pytest.approx(6 / 4)
    assert math.isnan(rmse([], []))
    with pytest.raises(UserError):
        rmse([1.0, math.nan], [1, 1])


def test_the_loss_is_the_squared_distance():
    rows = {"label": [[1.0, -1.0]], "weight": [[1.0, 2.0]], "share": [[0.5, 0.5]]}
    loss = squared_error(tf.constant([[0.0, 1.0]]), {name: tf.constant(v) for name, v in rows.items()})
    assert loss.numpy().tolist() == [0.5 * 1 + 0.5 * 2 * 4]
    target = TrainingTarget(is_value=True, mean=10, std=2)
    held_out = held_out_loss(
        Training(), target, np.array([1.0, -1.0]), np.array([1.0, 2.0]), np.array([10.0, 12.0]), None
    )
    assert held_out == pytest.approx((1 * 1 + 2 * 4) / 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"task": "regression", "training__loss": "pairwise"},
            "training.loss: must be pointwise for a regression",
        ),
        ({"task": "regression", "mitigation": {"name": "distillation"}}, "mitigation: distillation mixes"),
        (
            {"task": "regression", "training__distribution": "multi_worker"},
            "training.distribution: must be none for a regression",
        ),
        ({"task": "ranking"}, "task"),
    ],
)
def test_wrong_combinations_are_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        build(tree(**changes), "test")
    assert "\n" not in str(error.value)
