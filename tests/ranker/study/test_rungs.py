"""Rungs between asked twice and retrained: precision, TensorFlow Lite, and processes that fail."""

import numpy as np
import pytest

from ranker.architecture import design
from ranker.combined import served_model
from ranker.errors import UserError
from ranker.seeds import derive
from ranker.study import rungs
from ranker.study.data import load
from ranker.study.rung_worker import convert, serve, train_replica


@pytest.fixture(scope="module")
def trained(study_experiment, study_run):
    data = load(study_experiment, study_run)
    architecture = design(data.inputs, study_experiment.model)
    weights = train_replica(study_experiment, architecture, data.train, derive(1, 0, ()))
    return data, architecture, weights, served_model(architecture, [weights], False)


def test_bfloat16_is_near_float32_and_not_the_same(trained, study_experiment):
    data, architecture, weights, _ = trained
    half = train_replica(study_experiment, architecture, data.train, derive(1, 0, ()), half=True)
    assert all(value.dtype == np.float32 for value in half.values())
    difference = max(np.abs(half[name] - weights[name]).max() for name in weights)
    # bfloat16 has 8 bits: a step's gradient is off by 1 in 256, and all steps together move a weight by less than 2.
    assert 1e-6 < difference < 0.1


@pytest.mark.parametrize(
    ("kind", "most"), [("float32", 1e-5), ("float16", 5e-3), ("int8 weights", 0.05), ("int8", 0.1)]
)
def test_tensorflow_lite_predicts_what_the_graph_does(trained, kind, most):
    data, architecture, weights, model = trained
    expected = serve(model, data.eval)
    predictions = convert(architecture, weights, kind, data.train)(data.eval)
    assert predictions.shape == expected.shape
    assert np.abs(predictions - expected).max() < most


def test_calls_of_another_size_give_every_row(trained):
    data, _, _, model = trained
    np.testing.assert_allclose(serve(model, data.eval, batch=7), serve(model, data.eval), atol=1e-6)


def test_a_process_that_fails_is_named(study_experiment, tmp_path, trained):
    with pytest.raises(UserError, match="the process of 'first' failed: "):
        rungs.measure(study_experiment, tmp_path / "nowhere", trained[0], True, lambda text: None)


def rung_row(kind, rung, activation, pd, swap):
    return {"kind": kind, "rung": rung, "activation": activation, "rpd_sym": pd, "top1_swap": swap}


def test_the_verdicts_divide_what_nobody_notices_from_what_users_see():
    rows = [
        rung_row("serving", "two threads", "relu", 0.0, 0.0),
        rung_row("serving", "two threads", "smelu-1", 3e-9, 0.0),
        rung_row("training", "two workers", "relu", 0.015, 0.07),
        rung_row("training", "two workers", "smelu-1", 1e-7, 0.0),
        rung_row("seeds", "other order", "relu", 0.04, 0.2),
        rung_row("seeds", "other order", "smelu-1", 0.007, 0.03),
    ]
    unnoticed, noticed, order = rungs.verdicts(rows)
    assert unnoticed.startswith(
        "No request's first item changes by these, with either activation: two threads."
    )
    assert "3.0e-09 (two threads)" in unnoticed
    assert noticed.startswith("Two workers: relu has another first item in 7.0% of the requests")
    assert order.startswith("For comparison, other order: relu has another first item in 20.0%")
