"""Raw columns to model inputs, against plain Python."""

import json

import numpy as np
import pytest

from ranker import layout
from ranker.backend import tf
from ranker.config import build
from ranker.errors import UserError
from ranker.features import FeatureEncoder
from ranker.inputs import plan
from tests.ranker.conftest import raw_rows, tiny_tree, write_prepared


def tensors(raw):
    return {n: tf.constant(v, tf.float32 if isinstance(v, np.ndarray) else tf.string) for n, v in raw.items()}


def encode(experiment, run, raw):
    return {k: v.numpy() for k, v in FeatureEncoder(plan(experiment, run))(tensors(raw)).items()}


def test_ids_are_missing_then_vocabulary_then_unknown(tiny, prepared):
    raw = raw_rows(200, seed=5)
    ids = encode(tiny, prepared, raw)["ids"]
    vocabulary = {"": 0, "u1": 1, "u2": 2, "u3": 3}
    assert ids[:, 0].tolist() == [vocabulary.get(user, 4) for user in raw["user"]]
    assert ids[:, 1].tolist() == [
        {"": 0, "a": 1, "b": 2, "c": 3, "d": 4}.get(item, 5) for item in raw["item"]
    ]


def test_multivalued_columns_hold_the_first_values_and_no_empty_ones(tiny, prepared):
    raw = raw_rows(200, seed=6)
    ids = encode(tiny, prepared, raw)["ids"][:, 2:5]
    known = {"x": 1, "y": 2, "z": 3}
    for row, text in zip(ids, raw["tags"], strict=True):
        values = [known.get(value, 4) for value in text.split("|") if value][:3]
        assert row.tolist() == values + [0] * (3 - len(values))


def test_numbers_are_standardised_or_bucketed_and_missing_is_marked(tiny, prepared):
    raw = raw_rows(200, seed=7)
    encoded = encode(tiny, prepared, raw)
    missing = np.isnan(raw["age"])
    expected = np.where(missing, 0, (raw["age"] - 40) / 10)
    np.testing.assert_allclose(encoded["dense"][:, 0], expected, atol=1e-5)
    assert encoded["dense"][:, 1].tolist() == missing.astype(float).tolist()
    boundaries = [25, 50, 75]  # the quartiles of the statistics' quantiles 0..100
    buckets = [0 if np.isnan(p) else 1 + np.searchsorted(boundaries, p, side="right") for p in raw["price"]]
    assert encoded["ids"][:, 5].tolist() == buckets
    assert np.isnan(raw["price"]).any()


def test_numbers_that_are_not_finite_are_missing(tiny, prepared):
    raw = raw_rows(3, seed=7)
    raw["age"] = np.array([np.nan, np.inf, -np.inf], np.float32)
    raw["price"] = raw["age"]
    encoded = encode(tiny, prepared, raw)
    assert encoded["dense"][:, :2].tolist() == [[0, 1]] * 3
    assert encoded["ids"][:, 5].tolist() == [0] * 3


def test_log1p_keeps_the_sign(prepared):
    tree = tiny_tree()
    tree["features"]["age"]["transform"] = "log1p"
    raw = raw_rows(3)
    raw["age"] = np.array([-7.0, 0.0, 7.0], np.float32)
    got = encode(build(tree, "log"), prepared, raw)["dense"][:, 0]
    np.testing.assert_allclose(got, np.array([-np.log(8), 0, np.log(8)]) - 3, atol=1e-5)


def test_a_column_that_is_missing_everywhere_has_no_vocabulary_and_still_works(tiny, tmp_path):
    run = write_prepared(tmp_path / "run", rows=40)
    layout.vocabulary_path(run, "user").write_text("")
    inputs = plan(tiny, run)
    ids = FeatureEncoder(inputs)(tensors(raw_rows(20)))["ids"].numpy()[:, 0]
    assert inputs.columns[0].size == 2
    assert set(ids) == {0, 1}


def test_the_schema_has_a_hash_and_what_a_refresh_may_change_has_others(tiny, prepared, tmp_path):
    before = plan(tiny, prepared)

    def hashes(inputs):
        return [inputs.spec_hash, inputs.vocabulary_hash, inputs.encoding_hash]

    def changed(inputs):
        return [now != old for now, old in zip(hashes(inputs), hashes(before), strict=True)]

    tree = tiny_tree()
    tree["model"]["hidden"] = [3]
    assert changed(plan(build(tree, "t"), prepared)) == [False, False, False]
    tree["features"]["price"]["buckets"] = 5
    assert changed(plan(build(tree, "t"), prepared)) == [False, False, True]
    tree = tiny_tree()
    tree["features"] = dict(reversed(tree["features"].items()))
    assert plan(build(tree, "t"), prepared).spec_hash == before.spec_hash
    for key, value in (("role", "item"), ("multivalued", ",")):
        tree = tiny_tree()
        tree["features"]["user"][key] = value
        assert changed(plan(build(tree, "t"), prepared))[0]
    refreshed = write_prepared(tmp_path / "run", rows=40)
    assert changed(plan(tiny, refreshed)) == [False, False, False]
    layout.vocabulary_path(refreshed, "user").write_text("u2\nu1\nu3\n")
    assert changed(plan(tiny, refreshed)) == [False, True, False]
    statistics = json.loads(layout.statistics_path(refreshed).read_text())
    for own in statistics["features"].values():
        own.update({key: value + 1 for key, value in own.items() if key in ("mean", "log1p_mean")})
    layout.statistics_path(refreshed).write_text(json.dumps(statistics))
    assert changed(plan(tiny, refreshed)) == [False, True, True]


def test_an_unprepared_run_says_what_to_do(tiny, tmp_path):
    with pytest.raises(UserError, match="run `ranker prepare` first"):
        plan(tiny, tmp_path)
