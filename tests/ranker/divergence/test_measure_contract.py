"""One contract that every measure of two models keeps, and all of them against plain Python."""

import importlib.util
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.divergence import (
    CATALOGUE,
    RequestBatch,
    Settings,
    bias,
    compare,
    definition,
    flip_rate,
    measure_requests,
    med_dcg,
    merge,
    pd_abs,
    set_churn,
    top1_swap,
)
from ranker.errors import UserError

_spec = importlib.util.spec_from_file_location(
    "divergence_reference", Path(__file__).with_name("reference.py")
)
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

TWO_MODELS = [measure for measure in CATALOGUE.values() if measure.family != "quality"]
SWAPS = [measure for measure in TWO_MODELS if measure.family == "swap"]
every_measure = pytest.mark.parametrize("measure", TWO_MODELS, ids=lambda measure: measure.name)
every_swap = pytest.mark.parametrize("measure", SWAPS, ids=lambda measure: measure.name)

# coarse scores, so that ties are common
scores = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=2, max_size=70).map(
    lambda rows: np.array(rows, dtype=float).T / 12
)


def best(measure):
    """The value of two identical lists."""
    return 1.0 if measure.name == "rbo_ext" else 0.0


def random_rows(seed, replicas=3, requests=60, largest=90):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, largest, requests)
    request = np.repeat(rng.permutation(requests), sizes)
    item = np.concatenate([rng.choice(500, size, replace=False) for size in sizes])
    truth = rng.normal(-1, 1, len(item))
    p = 1 / (1 + np.exp(-(truth + rng.normal(0, 0.4, (replicas, len(item))))))
    shuffled = rng.permutation(len(item))
    return request[shuffled], item[shuffled], np.round(p, 2)[:, shuffled]


@every_measure
@settings(max_examples=40, deadline=None)
@given(pair=scores)
def test_range_symmetry_and_identical_lists(measure, pair):
    a, b = pair
    value = measure.function(a, b)
    low, high = measure.bounds
    assert low - 1e-12 <= value <= high + 1e-12
    mirrored = measure.function(b, a)
    assert mirrored == pytest.approx(value if measure.symmetric else -value, abs=1e-12)
    if measure.name != "tie_share":
        assert measure.function(a, a) == pytest.approx(best(measure), abs=1e-12)


@every_swap
@settings(max_examples=40, deadline=None)
@given(pair=scores, seed=st.integers(0, 1000))
def test_swaps_depend_on_order_and_items_alone(measure, pair, seed):
    a, b = pair
    value = measure.function(a, b)
    assert measure.function(np.exp(3 * a), np.exp(3 * b)) == pytest.approx(value, abs=1e-12)
    moved = np.random.default_rng(seed).permutation(len(a))  # other columns, same items
    assert measure.function(a[moved], b[moved], items=moved) == pytest.approx(value, abs=1e-12)
    renamed = [f"item {i:03d}" for i in range(len(a))]  # other names in the same order
    assert measure.function(a, b, items=renamed) == pytest.approx(value, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(2, 40), k=st.integers(1, 15))
def test_med_dcg_obeys_the_triangle_inequality(seed, size, k):
    a, b, c = np.random.default_rng(seed).random((3, size))
    assert med_dcg(a, c, k=k) <= med_dcg(a, b, k=k) + med_dcg(b, c, k=k) + 1e-12


@every_measure
def test_empty_and_single_input(measure):
    assert np.isnan(measure.function([], []))
    single = measure.function([0.2], [0.3])
    assert np.isnan(single) if measure.at_least == 2 else np.isfinite(single)
    assert measure.function(np.zeros((0, 5)), np.zeros((0, 5))).shape == (0,)


@every_measure
def test_several_requests_at_once_are_each_of_them(measure):
    a, b = np.random.default_rng(3).integers(0, 8, (2, 6, 17)) / 8
    rows = [measure.function(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(measure.function(a, b), rows, atol=1e-12)


@every_measure
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_number_is_an_error(measure, bad):
    with pytest.raises(UserError, match=r"Received: .* at "):
        measure.function([0.1, bad], [0.1, 0.2])
    with pytest.raises(UserError, match="same candidates"):
        measure.function([0.1, 0.2, 0.3], [0.1, 0.2])


@pytest.mark.parametrize("measure", [x for x in TWO_MODELS if x.family == "prediction"], ids=lambda x: x.name)
def test_prediction_difference_takes_probabilities_only(measure):
    for bad in (-0.01, 1.01):
        with pytest.raises(UserError, match=r"probabilities in \[0, 1\]"):
            measure.function([0.1, bad], [0.1, 0.2])


@pytest.mark.parametrize(
    "call",
    [
        lambda: set_churn([1.0], [1.0], k=0),
        lambda: set_churn([1.0], [1.0], k=2.5),
        lambda: top1_swap([0.1, 0.2], [0.1, 0.2], items=[7, 7]),
        lambda: top1_swap([0.1, 0.2], [0.1, 0.2], items=[7]),
        lambda: top1_swap([0.1, 0.2], None),
        lambda: top1_swap(["x"], ["y"]),
        lambda: pd_abs(np.zeros((2, 2, 2)), np.zeros((2, 2, 2))),
        lambda: flip_rate([0.1], [0.2], threshold=1.5),
        lambda: Settings(k=0),
        lambda: Settings(thresholds=(2.0,)),
        lambda: definition("churn@10"),
    ],
)
def test_wrong_arguments_say_what_was_received(call):
    with pytest.raises(UserError, match="Received: "):
        call()


@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_every_measure_of_every_pair_equals_plain_python(k):
    request, item, p = random_rows(seed=k)
    batch = RequestBatch.from_rows(request, item, p, replicas=["x", "y", "z"])
    measured = measure_requests(batch, Settings(k=k))
    result = measured.summarise()
    for index, (i, j) in enumerate(combinations(range(3), 2)):
        sums = {}
        for n, name in enumerate(batch.requests):
            rows = np.flatnonzero(request == name)
            expected = reference.measures(
                p[i, rows].tolist(),
                p[j, rows].tolist(),
                item[rows].tolist(),
                p[:, rows].mean(axis=0).tolist(),
                k,
            )
            for label, values in measured.values.items():
                if label not in expected:
                    assert np.isnan(values[index, n]), (label, "one candidate has no order")
                    continue
                value, weight = expected[label]
                assert values[index, n] == pytest.approx(value, abs=1e-9), (label, name)
                total, weights = sums.get(label, (0.0, 0.0))
                sums[label] = total + value * weight, weights + weight
        for label, (total, weights) in sums.items():
            pair = result.pairs["xyz"[i], "xyz"[j]][label]
            assert pair.value == pytest.approx(total / weights, abs=1e-9), label
    assert set(sums) == set(measured.values)


def test_one_request_of_a_batch_equals_the_single_pair_function():
    request, item, p = random_rows(seed=8, replicas=2)
    measured = measure_requests(RequestBatch.from_rows(request, item, p))
    for n, name in enumerate(measured.batch.requests[:10]):
        rows = request == name
        for label, (definition_of_label, _) in measured.settings.measures.items():
            value = definition_of_label.function(
                p[0, rows], p[1, rows], **({"items": item[rows]} if definition_of_label.at_least == 2 else {})
            )
            np.testing.assert_allclose(measured.values[label][0, n], value, atol=1e-12, err_msg=label)


def test_streaming_merge_equals_one_shot_in_any_order():
    request, item, p = random_rows(seed=5, replicas=4)
    batch = RequestBatch.from_rows(request, item, p)
    whole = compare(batch)
    parts = [compare(batch.take(np.arange(len(batch)) % 3 == part)) for part in range(3)]
    for merged in (merge(parts), merge(parts[::-1]), parts[0].merge(parts[1].merge(parts[2]))):
        assert merged.coverage == whole.coverage
        for expected, actual in ((whole.pairs, merged.pairs), (whole.replicas, merged.replicas)):
            for name, statistics in expected.items():
                for label, statistic in statistics.items():
                    merged_statistic = actual[name][label]
                    assert merged_statistic.n == statistic.n
                    np.testing.assert_array_equal(
                        merged_statistic.histogram.counts, statistic.histogram.counts
                    )
                    np.testing.assert_allclose(merged_statistic.interval(), statistic.interval(), atol=1e-9)
    np.testing.assert_allclose(merge(parts).matrix("rpd_sym"), whole.matrix("rpd_sym"), atol=1e-12)


def test_chunks_of_requests_do_not_change_the_result():
    request, item, p = random_rows(seed=6)
    batch = RequestBatch.from_rows(request, item, p)
    whole = compare(batch).summary()
    for label, row in compare(batch, chunk=7).summary().items():
        assert row == pytest.approx(whole[label], abs=1e-9), label


def test_bias_is_signed_by_pair_and_by_replica():
    a, b, c = [0.3, 0.3], [0.2, 0.2], [0.2, 0.2]
    result = compare(RequestBatch.from_rows([1, 1], [1, 2], [a, b, c], replicas=["a", "b", "c"]))
    assert result.pairs["a", "b"]["bias"].value == pytest.approx(bias(a, b)) == pytest.approx(0.4)
    assert result.matrix("bias")[1, 0] == pytest.approx(-0.4)
    assert result.replicas["a"]["bias"].value == pytest.approx(0.4)
    assert result.replicas["b"]["bias"].value < 0
    assert abs(result.overall["bias"].value) == pytest.approx(0.4)


def test_every_definition_explains_itself():
    for name, measure in CATALOGUE.items():
        assert measure.name == name
        assert measure.title.endswith("."), name
        assert "=" in measure.formula or name == "consensus_regret", name
        assert measure.range.startswith(("[", "0 or 1")), name
        assert measure.source, name
        assert definition(name.replace("@k", "@7").replace("@t", "@0.25")) is measure
