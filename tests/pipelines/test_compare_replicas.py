"""`CompareReplicas` in a pipeline against the comparison in memory."""

import itertools
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from apache_beam.testing.util import assert_that

from pipelines.compare import SCHEMA, CompareReplicas, DivideByRequest, compare_rows
from pipelines.runner import RunnerOptions
from ranker.divergence import RequestBatch, compare
from ranker.errors import UserError
from ranker.scored.align import ModelScores

MODELS = ("a", "b", "c")


class Row(NamedTuple):
    """A logged prediction."""

    request: int
    item: int
    model: str
    score: float
    label: float


def rows(requests=200, hot=3000, seed=1):
    """Requests of 2 to 12 candidates, and one with very many."""
    generator = np.random.default_rng(seed)
    sizes = np.append(generator.integers(2, 13, requests), hot)
    request = np.repeat(np.arange(len(sizes)), sizes)
    item = np.concatenate([np.arange(size) for size in sizes])
    truth = generator.normal(-1, 1, len(item))
    label = (generator.random(len(item)) < 1 / (1 + np.exp(-truth))).astype(float)
    scores = {m: 1 / (1 + np.exp(-truth - generator.normal(0, 0.2, len(item)))) for m in MODELS}
    return request, item, scores, label


def tables(parts=7):
    request, item, scores, label = rows()
    table = pa.concat_tables(
        pa.table(
            {
                "request": request,
                "item": item,
                "model": np.full(len(item), model),
                "score": scores[model],
                "label": label,
            }
        )
        for model in MODELS
    )
    table = table.take(np.random.default_rng(2).permutation(len(table)))
    bounds = np.linspace(0, len(table), parts + 1).astype(int)
    return [table.slice(start, stop - start) for start, stop in itertools.pairwise(bounds)]


def run(elements, check, **options):
    settings = RunnerOptions()
    graph = settings.pipeline()
    result = graph | beam.Create(elements) | CompareReplicas(MODELS, **options)
    assert_that(result, check)
    settings.run(graph)


def expected():
    request, item, scores, _ = rows()
    # Ties break by the item's text, as in the pipeline.
    batch = RequestBatch.from_rows(request, item.astype(str), [scores[m] for m in MODELS], replicas=MODELS)
    return compare(batch)


def is_expected(results):
    (result,) = results
    local = expected()
    assert result.comparison.coverage.paired == local.coverage.paired
    assert result.comparison.coverage.answered == local.coverage.answered
    for pair, statistics in local.pairs.items():
        for label, statistic in statistics.items():
            measured = result.comparison.pairs[pair][label]
            assert measured.n == statistic.n
            # Sums of the same numbers in another order.
            assert measured.value == pytest.approx(statistic.value, rel=1e-12, abs=1e-15)
            assert (measured.histogram.counts == statistic.histogram.counts).all()
    assert set(result.quality["a"]) == {"logloss", "gauc", "ndcg@10", "ranking_loss"}
    assert set(result.rows.values()) == {len(rows()[0])}


def test_arrow_batches_give_what_memory_gives():
    run(tables(), is_expected)


def test_single_rows_and_few_shards_give_the_same():
    elements = [Row(*row.values()) for table in tables() for row in table.to_pylist()]
    run(
        elements[: len(elements) // 2] + [row._asdict() for row in elements[len(elements) // 2 :]],
        is_expected,
        shards=2,
    )


def test_labels_from_a_log_of_their_own_and_scores_as_prediction_logs_give_them():
    request, item, scores, label = rows()
    text = [pa.chunked_array([pa.array(ids.astype(str))]) for ids in (request, item)]
    logged = [ModelScores(model, *text, scores[model]) for model in MODELS]
    # Clicks alone, with an impression of each item and a click on an item that nobody scored.
    clicked = label == 1
    labels = [
        pa.table({"request": request, "item": item, "label": np.zeros(len(item))}),
        {"request": 0, "item": 10**6, "label": 1.0},
        *(
            {"request": r, "item": i, "label": 1.0}
            for r, i in zip(request[clicked], item[clicked], strict=True)
        ),
    ]
    whole = pa.concat_tables(tables()).cast(SCHEMA)
    quality = compare_rows(whole, MODELS, 10).quality

    def has_labels(results):
        is_expected(results)
        for model, means in quality.items():
            for measure, (mean, weight) in means.items():
                # Sums of the same numbers in another order.
                assert results[0].quality[model][measure] == pytest.approx((mean, weight), rel=1e-12)

    run([*labels, *logged], has_labels)


def test_a_request_of_a_hundred_thousand_candidates_and_a_skewed_log():
    """Hot requests fall on workers as their hashes say; no shard has more than its largest request and a fair share."""
    generator = np.random.default_rng(5)
    sizes = np.concatenate([[100_000], 1 + (generator.pareto(1.0, 3000) * 3).clip(0, 5000).astype(int)])
    request, item = np.repeat(np.arange(len(sizes)), sizes), np.concatenate([np.arange(s) for s in sizes])
    table = pa.concat_tables(
        pa.table(
            {
                "request": request,
                "item": item,
                "model": [model] * len(item),
                "score": generator.random(len(item)),
                "label": (item % 3 == 0).astype(float),
            }
        )
        for model in ("a", "b")
    )
    divided = DivideByRequest(("a", "b"), 256)
    shard_rows = {}
    for shard, batch in divided.process(table, None):
        shard_rows[shard] = shard_rows.get(shard, 0) + pa.ipc.open_stream(batch).read_all().num_rows
    largest = sorted(shard_rows.values())
    assert largest[-1] >= 200_000
    assert largest[-2] <= 3 * 2 * 5000 + 8 * (sum(largest[:-1]) / 256)
    hot = [
        pc.filter(rows_of_shard, pc.equal(rows_of_shard["request"], "0"))
        for _, batch in divided.process(table, None)
        for rows_of_shard in [pa.ipc.open_stream(batch).read_all()]
    ]
    measured = compare_rows(pa.concat_tables(hot), ("a", "b"), 10)
    assert measured.rows == {"a": 100_000, "b": 100_000}
    # No measure of quality goes through the pairs of candidates one by one: 2.2e9 of them here.
    assert measured.quality["a"]["gauc"][0] == pytest.approx(0.5, abs=0.02)
    assert 0.7 < measured.quality["a"]["ranking_loss"][0] < 1.7
    # Two orders that know nothing of each other; the deviation of the share is 0.001.
    assert measured.comparison.pairs["a", "b"]["pair_inversion"].value == pytest.approx(0.5, abs=0.01)


def test_nothing_gives_the_empty_comparison():
    def is_empty(results):
        (result,) = results
        assert not result.comparison.pairs

    run([], is_empty)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": ["a"]}, "at least two distinct names. Received: a"),
        ({"models": ["a", "a"]}, "at least two distinct names"),
        ({"models": ["a", "b"], "shards": 0}, "`shards` must be >= 1. Received: 0"),
    ],
)
def test_mistakes_of_the_call(arguments, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        CompareReplicas(**arguments)


def test_a_row_of_another_model_ends_the_run_with_its_name():
    stranger = pa.table({"request": ["r"], "item": ["i"], "model": ["z"], "score": [0.5]})
    with pytest.raises(Exception, match=r"a row's model must be one of a, b, c\. Received: 'z'"):
        run([stranger], is_expected)
