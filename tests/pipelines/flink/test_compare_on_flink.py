"""`CompareReplicas` on a real Flink cluster says what the comparison in memory says, whatever the shape of the log."""

import pickle
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest

from pipelines.compare import SCHEMA, CompareReplicas, compare_rows
from pipelines.runner import RunnerOptions

pytestmark = [
    pytest.mark.flink,
    pytest.mark.timeout(900),
    # Beam's artifact service and workers leave files and threads to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*subprocess.*is still running:ResourceWarning"),
]

MODELS = ("a", "b", "c")
PARTS = 12
HOT = 100_000


def rows_of(part: int) -> pa.Table:
    """The rows of one part: every model scores the candidates of its requests, a few it leaves out.

    The sizes of requests have a heavy tail, and part 0 has one of `HOT` candidates.
    """
    random = np.random.default_rng([20, part])
    sizes = 1 + (random.pareto(1.2, 400) * 3).clip(0, 3000).astype(int)
    sizes[0] = HOT if part == 0 else sizes[0]
    request = np.repeat([f"r{part}-{n}" for n in range(len(sizes))], sizes)
    item = np.concatenate([np.arange(size) for size in sizes])
    truth = random.normal(-1, 1, len(item))
    label = (random.random(len(item)) < 1 / (1 + np.exp(-truth))).astype(float)
    tables = []
    for model in MODELS:
        score = 1 / (1 + np.exp(-truth - random.normal(0, 0.2, len(item))))
        columns = {
            "request": request,
            "item": item,
            "model": [model] * len(item),
            "score": score,
            "label": label,
        }
        chosen = random.random(len(item)) > (0.01 if model == "c" else 0)
        tables.append(pa.table(columns).filter(pa.array(chosen)))
    table = pa.concat_tables(tables)
    return table.take(random.permutation(len(table)))


def write(result, path):
    Path(path).write_bytes(pickle.dumps(result))


def test_flink_and_memory_agree(flink_endpoint, tmp_path):
    options = RunnerOptions("FlinkRunner", workers=2, flags=(f"--job_endpoint={flink_endpoint}",))
    graph = options.pipeline()
    path = tmp_path / "comparison.pickle"
    _ = (
        graph
        | beam.Create(range(PARTS))
        | beam.Reshuffle()
        | beam.Map(rows_of)
        | CompareReplicas(MODELS)
        | beam.Map(write, str(path))
    )
    options.run(graph)
    measured = pickle.loads(path.read_bytes())
    whole = pa.concat_tables(rows_of(part) for part in range(PARTS)).select(SCHEMA.names)
    text = whole.set_column(1, "item", whole["item"].cast(pa.string()))
    memory = compare_rows(text.cast(SCHEMA), MODELS, 10)
    assert measured.rows == memory.rows
    assert measured.rows["a"] > measured.rows["c"] > HOT
    assert (measured.repeated, measured.contradicted) == (memory.repeated, memory.contradicted)
    assert measured.comparison.coverage == memory.comparison.coverage
    assert measured.comparison.pairs.keys() == memory.comparison.pairs.keys()
    for pair, statistics in memory.comparison.pairs.items():
        for label, statistic in statistics.items():
            on_flink = measured.comparison.pairs[pair][label]
            assert on_flink.n == statistic.n
            assert (on_flink.histogram.counts == statistic.histogram.counts).all()
            # Sums of the same numbers in another order.
            assert on_flink.value == pytest.approx(statistic.value, rel=1e-12, abs=1e-15), (pair, label)
    for model, means in memory.quality.items():
        for measure, (mean, weight) in means.items():
            assert measured.quality[model][measure] == pytest.approx((mean, weight), rel=1e-12), (
                model,
                measure,
            )
