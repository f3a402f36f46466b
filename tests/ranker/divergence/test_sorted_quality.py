"""AUC and calibration of rows that are never in memory at once are those of all rows."""

import numpy as np
import pytest

from ranker.divergence import auc, calibration, ece
from ranker.divergence.sorted_quality import SortedQuality, merge_by_score, sum_by_score


def reader(table):
    return lambda start, count: table[start : start + count]


def rows(count: int, levels: int, seed: int):
    """Labels and scores with ties, and a weight of each row, of which some are 0."""
    random = np.random.default_rng(seed)
    score = random.integers(0, levels, count) / levels
    return (random.random(count) < score).astype(float), score, random.integers(0, 4, count).astype(float)


def quality_of_parts(label, score, weight, shards: int, in_memory: int) -> SortedQuality:
    parts = np.array_split(np.arange(len(label)), shards)
    tables = [sum_by_score(score[part], weight[part], (weight * label)[part]) for part in parts]
    quality = SortedQuality(float(weight.sum()))
    for part in merge_by_score([reader(table) for table in tables], in_memory):
        quality.add(*part.T)
    return quality


@pytest.mark.parametrize("levels", [7, 5_000, 1 << 30])
@pytest.mark.parametrize("shards", [1, 3])
def test_quality_of_parts_is_that_of_all_rows(levels, shards):
    label, score, weight = rows(20_000, levels, seed=levels)
    # 1,024 rows of each table, which is the least
    quality = quality_of_parts(label, score, weight, shards, in_memory=1)
    # Sums of whole numbers below 2^53 are exact, in any order.
    assert quality.auc == auc(label, score, weight=weight)
    # A sum of n terms of one sign has a relative error of at most n times 1.1e-16, in any order.
    assert quality.calibration == pytest.approx(calibration(label, score, weight=weight), rel=5e-12)
    assert quality.ece == pytest.approx(ece(label, score, weight=weight), abs=5e-12)


def test_parts_are_in_the_order_of_scores_and_lose_nothing():
    label, score, _ = rows(30_000, 9_000, seed=1)
    # one table lies below the others, one is a multiple of a block, one is empty
    low, rest = score < 0.2, np.flatnonzero(score >= 0.2)
    columns = (np.ones(len(label)), label)
    chosen = [np.flatnonzero(low), rest[::2], rest[1::2], rest[:0]]
    tables = [sum_by_score(score[part], *(column[part] for column in columns)) for part in chosen]
    tables[1] = tables[1][:2048]
    parts = list(merge_by_score([reader(table) for table in tables], 1))
    assert len(parts) > 3
    whole = np.concatenate(parts)
    assert (np.diff(whole[:, 0]) > 0).all()
    expected = np.concatenate(tables)
    assert whole.tolist() == sum_by_score(expected[:, 0], *expected[:, 1:].T).tolist()


def test_undefined_is_nan():
    empty = SortedQuality(0.0)
    empty.add(*np.zeros((3, 2)))
    assert np.isnan([empty.auc, empty.calibration, empty.ece]).all()
    negatives = quality_of_parts(np.zeros(5), np.full(5, 0.5), np.ones(5), 2, 1)
    assert np.isnan([negatives.auc, negatives.calibration]).all()
    assert negatives.ece == 0.5
