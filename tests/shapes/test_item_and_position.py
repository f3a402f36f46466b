"""An item that is no feature, and columns that are there in training alone."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from ranker import layout
from ranker.backend import tf
from ranker.config import build, dump
from ranker.errors import UserError
from ranker.features import FeatureEncoder
from ranker.inputs import plan
from serving.run_directory import deployment_of
from tests.pipelines.prepare.small_log import read_rows
from tests.shapes.conftest import tree

POSITION = {"kind": "numeric", "role": "item", "training_only": True}
SLOT = {"kind": "categorical", "role": "item", "training_only": True}


@pytest.fixture(scope="module")
def worked(work):
    return work(
        data__item={"column": "doc", "feature": False},
        features__doc=None,
        features__position=POSITION,
    )


def test_the_item_is_stored_and_sent_but_not_learnt(worked):
    assert {"doc", "position"} <= set(read_rows(worked.run, "train")[0])
    assert not layout.vocabulary_path(worked.run, "doc").exists()
    inputs = plan(worked.experiment, worked.run)
    assert "doc" not in {column.name for column in inputs.columns}
    rows = {"user": ["u1"] * 3, "age": [21.0] * 3, "topic": ["t1"] * 3, "price": [4.0] * 3}
    scores = worked.scores({**rows, "doc": ["d1", "d9", "never seen"]})
    assert scores[0] == scores[1] == scores[2]


def test_training_only_columns_are_in_no_signature_probe_or_deployment(worked):
    served = {"user", "age", "doc", "topic", "price"}
    encoder = FeatureEncoder(plan(worked.experiment, worked.run))
    assert set(encoder.raw_signature()) == served
    assert set(encoder.stored_signature()) == served | {"position"}
    probe = pq.read_table(layout.probe_path(worked.run))
    assert set(probe.column_names) == served | {"request", "label"}
    deployment = deployment_of(worked.run, 1)
    assert deployment.item == "doc"
    assert "position" not in (*deployment.context, *deployment.candidate)


def test_it_ranks_and_is_compared(worked):
    assert worked.quality["auc"] > 0.7
    assert worked.report["counts"]["rankable"] > 30
    assert 0 <= worked.divergence["top1_swap"] <= 1
    candidates = {"doc": ["d1", "d11"], "topic": ["t1", "t3"], "price": [1.0, 11.0]}
    assert worked.ranking({"user": "u1"}, candidates) == ["d11", "d1"]


def test_a_served_model_sees_the_column_as_missing(work, worked):
    encoder = FeatureEncoder(plan(worked.experiment, worked.run))
    raw = {
        name: tf.constant([""] * 20 if spec.dtype == tf.string else [2.0] * 20, spec.dtype)
        for name, spec in encoder.stored_signature().items()
    }
    served = {name: raw[name] for name in encoder.raw_signature()}
    absent = {**raw, "position": tf.fill([20], float("nan"))}
    np.testing.assert_array_equal(encoder(served)["dense"], encoder(absent)["dense"])
    hidden = np.isnan(encoder.training_columns(raw)["position"].numpy())
    assert hidden.tolist() == [i % 10 == 0 for i in range(20)]
    with pytest.raises(KeyError):
        encoder({name: value for name, value in served.items() if name != "age"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__item": {"column": "doc", "feature": False}}, "must not be in features"),
        ({"data__item": "absent"}, "data.item: must name"),
        (
            {"data__item": {"column": "doc", "feature": False, "kind": "x"}, "features__doc": None},
            "unknown key",
        ),
        ({"data__item": "slot", "features__slot": SLOT}, "that is served"),
        ({"monitor__slices": ["position"], "features__position": POSITION}, "monitor.slices"),
        (
            {
                "features__doc": SLOT,
                "features__topic": None,
                "features__price": None,
                "data__item": {"column": "x", "feature": False},
            },
            "at least one must have role 'item'",
        ),
    ],
)
def test_wrong_combinations_are_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        build(tree(**changes), "test")
    assert "\n" not in str(error.value)


def test_the_item_by_name_and_as_a_table_are_the_same(tmp_path):
    by_name, as_table = (build(tree(data__item=item), "test") for item in ("doc", {"column": "doc"}))
    assert by_name == as_table
    from ranker.config import load

    (tmp_path / "c.yaml").write_text(dump(as_table))
    assert load(tmp_path / "c.yaml") == as_table
