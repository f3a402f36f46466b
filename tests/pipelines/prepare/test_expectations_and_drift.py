"""Logs that break what is expected of them are refused; logs that changed are told apart from logs that did not."""

import numpy as np
import pytest

from pipelines.prepare import prepare
from pipelines.prepare.drift import drift
from pipelines.prepare.write.statistics import Distribution, NumericStatistics, merge
from ranker.errors import UserError


@pytest.mark.parametrize(
    ("expectations", "message"),
    [
        ({"age": {"min": 22}}, r"data.expectations.age: 20 of 240 rows are below 22"),
        ({"age": {"max": 50}}, r"data.expectations.age: 40 of 240 rows are above 50"),
        ({"gender": {"allowed": ["M"]}}, r"data.expectations.gender: 120 of 240 rows are not among M"),
        (
            {"age": {"max_missing": 0.05}},
            r"data.expectations.age: 20 of 240 rows are missing; at most a share of 0.05",
        ),
        ({"agee": {"min": 1}}, r"data.expectations.agee: no such feature; there is: user_id, age"),
        (
            {"gender": {"min": 1}},
            r"data.expectations.gender: a categorical feature has allowed and max_missing",
        ),
        (
            {"age": {"allowed": ["20"]}},
            r"data.expectations.age: a numeric feature has min, max and max_missing",
        ),
    ],
)
def test_broken_expectations_are_refused(make, tmp_path, expectations, message):
    with pytest.raises(UserError, match=message):
        prepare(make(data_expectations=expectations), tmp_path / "run")
    assert not (tmp_path / "run/data").exists()


def test_kept_expectations_pass(make, tmp_path):
    expectations = {
        "age": {"min": 20, "max": 54, "max_missing": 0.09},
        "gender": {"allowed": ["M", "F"], "max_missing": 0},
    }
    assert prepare(make(data_expectations=expectations), tmp_path / "run").counts["read"] == 240


def numeric(values):
    statistics = NumericStatistics()
    statistics.add(np.asarray(values, np.float32))
    return statistics.result()


def categorical(counts, missing=0):
    top = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:20]
    return {
        "kind": "categorical",
        "count": sum(counts.values()),
        "missing": missing,
        "cardinality": len(counts),
        "top": [list(entry) for entry in top],
    }


def named(changes):
    return {(change.feature, change.measure) for change in changes if change.exceeded}


def test_equal_logs_do_not_drift_and_samples_of_one_distribution_hardly():
    random = np.random.default_rng(0)

    def sample():
        counts = dict(zip("abcd", random.multinomial(5000, [0.4, 0.3, 0.2, 0.1]).tolist(), strict=True))
        whole, real = random.integers(0, 4, 5000), random.normal(size=5000)
        return {"features": {"x": numeric(real), "n": numeric(whole), "c": categorical(counts)}}

    first, second = sample(), sample()
    assert [first.value for first in drift(first, first)] == [0.0] * 6
    assert all(abs(change.value) < 0.02 for change in drift(first, second))


def test_what_shifted_is_named_and_the_largest_first():
    random = np.random.default_rng(1)
    x = random.normal(size=5000)
    old = {
        "features": {
            "x": numeric(x),
            "y": numeric(x),
            "c": categorical({"a": 900, "b": 100}),
            "z": numeric(x),
            "gone": numeric(x),
        }
    }
    holes = np.where(random.random(5000) < 0.2, np.nan, x)
    new = {
        "features": {
            "x": numeric(x + 2),
            "y": numeric(x),
            "c": categorical({"a": 300, "b": 600, "d": 100}),
            "z": numeric(holes),
        }
    }
    changes = drift(old, new)
    assert named(changes) == {("x", "psi"), ("c", "psi"), ("z", "missing"), ("gone", "kind")}
    assert changes[0].feature == "gone"
    assert "population stability index" in str(next(change for change in changes if change.feature == "x"))


def test_the_index_has_its_textbook_value():
    old = {"features": {"c": categorical({"a": 50, "b": 50})}}
    new = {"features": {"c": categorical({"a": 80, "b": 20})}}
    value = next(change.value for change in drift(old, new) if change.measure == "psi")
    assert value == pytest.approx(0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5))


def test_a_second_run_says_what_changed(log, make, tmp_path):
    prepare(make(), tmp_path / "run")
    users = (log / "u.user").read_text().splitlines()
    (log / "u.user").write_text("".join(f"{u.split('|')[0]}|{90 + n}|M\n" for n, u in enumerate(users)))
    messages = []
    prepare(make(), tmp_path / "run", progress=lambda text, *_, **__: messages.append(text))
    changes = [text for text in messages if "since the last run" in text]
    assert any("age: population stability index" in text for text in changes)
    assert any("gender: " in text for text in changes)
    assert not any("item_id: " in text for text in changes)


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_numeric_statistics_do_not_depend_on_how_rows_arrive(pieces):
    random = np.random.default_rng(2)
    values = random.normal(5, 3, 7000).astype(np.float32)
    values[random.random(7000) < 0.1] = np.nan
    whole = numeric(values)
    blocks = np.array_split(
        np.arange(6), pieces
    )  # whole blocks of 1,024 rows at a time, as a shard is written
    statistics = NumericStatistics()
    for block in blocks:
        statistics.add(values[block[0] * 1024 : (block[-1] + 1) * 1024])
    statistics.add(values[6 * 1024 :])
    assert statistics.result() == whole
    present = values[~np.isnan(values)].astype(np.float64)
    assert whole["mean"] == pytest.approx(present.mean(), rel=1e-12)
    assert whole["std"] == pytest.approx(present.std(), rel=1e-12)
    np.testing.assert_allclose(whole["quantiles"], np.quantile(present, np.linspace(0, 1, 101)), rtol=1e-12)


def test_a_great_mean_does_not_swallow_the_deviation():
    values = np.float32(2**23) + np.arange(4096, dtype=np.float32)
    assert numeric(values)["std"] == pytest.approx(np.arange(4096).std(), rel=1e-12)


def test_many_distinct_values_are_coarsened_the_same_in_any_order():
    values = np.random.default_rng(3).normal(size=5000).astype(np.float32)
    sketch, sketch_of_same = Distribution(limit=256), Distribution(limit=256)
    sketch.add(values)
    for part in np.array_split(values[::-1], 7):
        more = Distribution(limit=256)
        more.add(part)
        sketch_of_same.merge(more)
    assert sketch.dropped == sketch_of_same.dropped > 0
    assert sketch.quantiles() == sketch_of_same.quantiles()
    assert len(sketch.keys) <= 256
    exact = np.quantile(values, np.linspace(0, 1, 101))
    np.testing.assert_allclose(sketch.quantiles(), exact, rtol=0.15, atol=0.06)


def test_quantiles_of_many_distinct_values_are_close_at_the_default_limit():
    values = np.random.default_rng(4).normal(100, 30, 300_000).astype(np.float32)
    quantiles = numeric(values)["quantiles"]
    np.testing.assert_allclose(quantiles, np.quantile(values, np.linspace(0, 1, 101)), rtol=1e-3)
    assert (quantiles[0], quantiles[-1]) == (values.min(), values.max())


def test_distinct_quantiles_tell_apart_what_is_rare():
    """Of a number that is 0 in 95 rows of 100 the percentiles have five others, the distinct quantiles more."""
    values = np.zeros(20_000, np.float32)
    values[:1000] = np.arange(1000) + 1
    whole = numeric(np.random.default_rng(5).permutation(values))
    assert len(np.unique(whole["quantiles"])) <= 7
    distinct = whole["distinct_quantiles"]
    assert 45 <= len(distinct) <= 55
    assert (distinct[0], distinct[-1]) == (0.0, 1000.0)
    assert distinct == sorted(set(distinct))
    even = numeric(np.arange(5000, dtype=np.float32))["distinct_quantiles"]
    np.testing.assert_allclose(even, np.linspace(0, 4999, 101), atol=5)
    assert numeric(np.float32([2, 2, 7]))["distinct_quantiles"] == [2.0, 7.0]


def test_statistics_of_nothing():
    empty = merge([])
    assert empty.result() == {
        "kind": "numeric",
        "count": 0,
        "missing": 0,
        "mean": 0.0,
        "std": 0.0,
        "log1p_mean": 0.0,
        "log1p_std": 0.0,
        "min": None,
        "max": None,
        "quantiles": [],
        "distinct_quantiles": [],
    }
    missing = NumericStatistics()
    missing.add(np.full(3, np.nan, np.float32))
    assert missing.result()["missing"] == 3
