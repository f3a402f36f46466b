"""Disagreements counted by sorting are those counted by bits."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ranker.divergence import RequestBatch, long_lists, measure_requests
from ranker.divergence.pairs import as_pair

lists = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40)


@given(lists)
def test_counts_are_those_of_the_definition(scores):
    a, b = np.array(scores, float).T
    above = lambda values: values[:, None] > values[None, :]  # noqa: E731
    assert long_lists.disagreements(a, b) == int((above(a) ^ above(b)).sum())
    assert long_lists.ordered_pairs(a) == int(above(a).sum())


def test_every_measure_is_the_same_by_sorting_as_by_bits(monkeypatch):
    generator = np.random.default_rng(1)
    sizes = [2, 3, 30, 200]
    request = np.repeat(np.arange(len(sizes)), sizes)
    item = np.concatenate([np.arange(size) for size in sizes])
    scores = np.round(generator.random((3, len(item))), 2)  # with ties
    batch = RequestBatch.from_rows(request, item, scores)
    by_bits = measure_requests(batch)
    for module in ("ranked", "long_lists"):
        monkeypatch.setattr(f"ranker.divergence.{module}.BITS_UP_TO", 0)
    by_sorting = measure_requests(batch)
    assert as_pair([0.1, 0.2], [0.2, 0.1]).a.is_long
    for label, values in by_bits.values.items():
        np.testing.assert_array_equal(by_sorting.values[label], values, err_msg=label)


def test_a_request_with_very_many_candidates_is_measured():
    generator = np.random.default_rng(2)
    truth = generator.random(100_000)
    scores = [truth, np.clip(truth + 0.01 * generator.standard_normal(len(truth)), 0, 1)]
    batch = RequestBatch.from_rows(np.zeros(len(truth), int), np.arange(len(truth)), scores)
    means = measure_requests(batch).summarise().means
    # A sample of pairs estimates the same share: its standard error is 0.0002.
    first, second = generator.integers(0, len(truth), (2, 400_000))
    a, b = (np.sign(values[first] - values[second]) for values in scores)
    assert abs(means["pair_inversion"].value - float((a * b < 0).mean())) < 0.001
