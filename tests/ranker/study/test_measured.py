"""Measures and intervals of studies, against the measures' own definitions and against simulation."""

import math

import numpy as np
import pytest

from ranker import divergence
from ranker.backend import tf
from ranker.divergence.quality import auc_components
from ranker.study.data import StudyData
from ranker.study.measured import MeasuredRecipe, auc_difference, ratio
from ranker.training.rows.examples import Examples


def simulated(noise, requests=80, candidates=12, replicas=4, seed=0):
    random = np.random.default_rng(seed)
    rows = requests * candidates
    truth = random.normal(size=rows)
    label = (random.random(rows) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    scores = 1 / (1 + np.exp(-truth - noise * np.random.default_rng(seed + 1).normal(size=(replicas, rows))))
    none = Examples(ids=tf.zeros([rows, 0], tf.int32), dense=tf.zeros([rows, 0]), label=label, weight=label)
    request = np.repeat(np.arange(requests), candidates)
    data = StudyData(None, None, "", none, none, label, request, np.tile(np.arange(candidates), requests))
    return MeasuredRecipe(data, np.ones(rows, bool), scores)


@pytest.mark.parametrize("name", ["rpd_sym", "rpd_ratio", "top1_swap", "pair_inversion"])
def test_values_are_the_mean_over_pairs(name):
    measured = simulated(0.3)
    expected = divergence.compare(measured.batch).overall[name].value
    assert measured.value(name) == pytest.approx(expected, rel=1e-3)
    low, high = measured.interval(name)[1:]
    assert low < measured.value(name) < high


def test_a_ratio_to_itself_is_one():
    measured = simulated(0.3)
    assert ratio(measured, measured, "rpd_sym") == pytest.approx((1, 1, 1))


def test_a_ratio_to_replicas_that_never_differ():
    alike, apart = simulated(0.0), simulated(0.3)
    assert ratio(apart, alike, "top1_swap") == (math.inf, math.inf, math.inf)
    assert ratio(alike, apart, "top1_swap").value == 0
    assert ratio(alike, alike, "top1_swap") == (1, 1, 1)


def test_a_ratio_finds_twice_the_noise():
    found = ratio(simulated(0.1), simulated(0.2), "pd_logit")
    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.2


def test_equal_replicas_do_not_differ():
    measured = simulated(0.0)
    assert measured.interval("rpd_sym") == (0, 0, 0)
    assert auc_difference(measured, measured) == (0, 0, 0)


def test_components_estimate_the_variance_of_the_auc():
    """Over many draws of requests, the spread of the AUC is what the components of one draw say."""
    random = np.random.default_rng(3)
    request = np.repeat(np.arange(40), 8)
    aucs, estimates = [], []
    for _ in range(1000):
        # Rows of one request share a shift of score and label: independent rows would hide a wrong unit.
        truth = random.normal(size=320) + random.normal(size=40)[request]
        label = (random.random(320) < 1 / (1 + np.exp(-truth))).astype(np.float32)
        scores = 1 / (1 + np.exp(-truth))
        aucs.append(divergence.auc(label, scores))
        parts = auc_components(label, scores, request)
        assert parts.sum() == pytest.approx(0, abs=1e-9)
        estimates.append(np.square(parts).sum())
    assert np.mean(estimates) == pytest.approx(np.var(aucs), rel=0.15)
