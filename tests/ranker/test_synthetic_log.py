"""The generated log: equal for equal seeds, true to its truth, and readable with the shipped configuration."""

import numpy as np
import pyarrow.parquet as pq

from ranker.config import load
from ranker.synthetic import CONFIGURATION, generate, write


def test_clicks_follow_the_truth():
    log = generate(2000, seed=1)
    truth, clicked = log.events["truth"], log.events["clicked"]
    assert 0.1 < clicked.mean() < 0.5
    for low, high in [(0.0, 0.1), (0.2, 0.4), (0.6, 1.0)]:
        inside = (truth >= low) & (truth < high)
        deviation = np.sqrt(truth[inside].mean() / inside.sum())
        assert abs(clicked[inside].mean() - truth[inside].mean()) < 4 * deviation


def test_equal_seeds_equal_logs_and_requests_hold_distinct_items():
    first, second, other = generate(50, seed=1), generate(50, seed=1), generate(50, seed=2)
    assert all(np.array_equal(first.events[c], second.events[c]) for c in first.events)
    assert not np.array_equal(first.events["clicked"], other.events["clicked"])
    shown = first.events["item_id"].reshape(50, 20)
    assert all(len(set(row)) == 20 for row in shown)
    assert np.all(np.diff(first.events["time"]) >= 0)


def test_files_have_the_columns_the_configuration_names(tmp_path):
    write(generate(30), tmp_path)
    experiment = load(CONFIGURATION, [f"data.root={tmp_path}"])
    columns = set(pq.read_schema(tmp_path / experiment.data.events.path).names)
    for table in experiment.data.tables.values():
        header = (tmp_path / table.path).read_text().splitlines()[0].split(",")
        assert table.key in header
        columns |= set(header)
    assert set(experiment.features) <= columns
    assert "truth" not in experiment.features
