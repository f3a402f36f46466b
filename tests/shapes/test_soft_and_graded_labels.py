"""Soft labels, grades and weights by expressions."""

import csv

import numpy as np
import pytest

from pipelines.prepare import prepare
from ranker.config import build
from ranker.divergence import auc, gauc, logloss, ndcg, ranking_loss
from ranker.errors import UserError
from tests.pipelines.prepare.small_log import read_rejected, read_rows
from tests.shapes.conftest import log_rows, tree

RANDOM = np.random.default_rng(3)
SOFT = np.round(RANDOM.random(40), 1)
SCORE = np.round(RANDOM.random(40), 1)
WEIGHT = RANDOM.random(40)
REQUEST = np.repeat(np.arange(8), 5)


@pytest.fixture(scope="module")
def worked(work):
    return work(
        data__label="rating / 5",
        data__grade="rating",
        data__weight="1 / propensity",
    )


def test_labels_grades_and_weights_are_computed(worked):
    rows = read_rows(worked.run, "train")
    assert {row["__label__"] for row in rows} == {float(np.float32(n / 5)) for n in range(6)}
    assert all(row["__label__"] == pytest.approx(row["__grade__"] / 5) for row in rows)
    assert {round(row["__weight__"]) for row in rows} == {1, 2, 3, 4, 5, 6}


def test_it_is_trained_and_measured_with_grades(worked):
    assert worked.quality["auc"] > 0.6
    assert 0.6 < worked.quality["ndcg@10"] < 1
    assert worked.report["baseline"]["auc"] > 0.6
    rows = {"user": ["u1"] * 2, "age": [21.0] * 2, "doc": ["d1", "d11"], "topic": ["t1", "t3"]}
    low, high = worked.scores({**rows, "price": [1.0, 11.0]})
    assert 0 <= low < high <= 1


def test_a_soft_label_is_both_classes_in_its_shares():
    """Every measure of soft labels is that of hard ones, each row twice, weighted by its shares."""
    label, score = np.repeat([1.0, 0.0], 40), np.tile(SCORE, 2)
    weight = np.concatenate([WEIGHT * SOFT, WEIGHT * (1 - SOFT)])
    assert auc(SOFT, SCORE, weight=WEIGHT) == pytest.approx(auc(label, score, weight=weight))
    assert logloss(SOFT, SCORE, weight=WEIGHT) == pytest.approx(logloss(label, score, weight=weight))
    request = np.tile(REQUEST, 2)
    both = gauc(label, score, request, weight=weight)
    assert gauc(SOFT, SCORE, REQUEST, weight=WEIGHT) == pytest.approx(both)


def test_the_ranking_loss_meets_each_pair_of_different_labels():
    logit = np.log(SCORE.clip(1e-7, 1 - 1e-7) / (1 - SCORE.clip(1e-7, 1 - 1e-7)))
    means = []
    for request in range(8):
        rows = np.flatnonzero(request == REQUEST)
        pairs = [(i, j) for i in rows for j in rows if SOFT[i] > SOFT[j]]
        means.append(np.mean([np.log1p(np.exp(logit[j] - logit[i])) for i, j in pairs]))
    assert ranking_loss(SOFT, SCORE, REQUEST) == pytest.approx(np.mean(means))


def test_ndcg_by_hand():
    gains = 2.0 ** np.array([3, 0, 1]) - 1
    best = 7 / np.log2(2) + 1 / np.log2(3)
    got = 0 / np.log2(2) + 7 / np.log2(3) + 1 / np.log2(4)
    assert ndcg(gains, [0.5, 0.9, 0.1], [0, 0, 0]) == pytest.approx(got / best)


def test_rows_that_cannot_be_computed_or_are_out_of_range_are_rejected(tmp_path):
    rows = log_rows(1)
    rows["propensity"][3], rows["propensity"][5], rows["propensity"][7] = 0, -0.5, "?"
    rows["rating"][9], rows["rating"][11] = 7, ""
    with (tmp_path / "log.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows)
        writer.writerows(zip(*rows.values(), strict=True))
    changes = {"data__label": "rating / 5", "data__weight": "1 / propensity", "data__max_rejected": None}
    prepare(build(tree(tmp_path, **changes), "test"), tmp_path / "run")
    reasons = sorted(row["reason"] for row in read_rejected(tmp_path / "run"))
    assert reasons == [
        "label cannot be computed: rating=''",
        "label is not within [0, 1]: 1.4",
        "weight cannot be computed: propensity='0'",
        "weight cannot be computed: propensity='?'",
        "weight is not finite and >= 0: -2",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__weight": "1 / (propensity"}, "data.weight: must be an expression"),
        ({"data__weight": "exp(propensity)"}, "data.weight: may use columns, numbers"),
        ({"data__grade": "__import__('os')"}, "data.grade: may use"),
        ({"data__weight": "2 * nothing"}, "no column 'nothing', which data.weight needs"),
        ({"data__grade": "'a' + 'b' == 1"}, "data.grade"),
        ({"data__label": "rating"}, "or a number between"),
        ({"data__label": "clicked * 0 + 0.5"}, "all .* training rows have label 0.5"),
    ],
)
def test_wrong_expressions_are_one_line(changes, message, log_directory, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        prepare(build(tree(log_directory, **changes), "test"), tmp_path / "run")
    assert "\n" not in str(error.value)
