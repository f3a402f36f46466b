"""The generated log: equal for equal seeds, true to its truth, and readable with the shipped configuration."""

import numpy as np
import pyarrow.parquet as pq
import pytest

import ranker.synthetic.__main__ as command
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/log", "0"], "requests must be >= 1. Received: 0"),
        (["{}/log", "many"], "argument requests: invalid int value: 'many'"),
        (["{}/log", "--rows=3"], "unrecognized arguments: --rows=3"),
        ([], "the following arguments are required: directory"),
    ],
)
def test_a_mistake_in_the_command_is_one_line(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        command.main([argument.format(tmp_path) for argument in arguments])
    assert capsys.readouterr().err.splitlines()[-1] == f"python -m ranker.synthetic: error: {message}"
    assert not list(tmp_path.iterdir())


def test_the_command_writes_a_log_where_it_can(tmp_path, capsys):
    assert command.main([str(tmp_path / "log"), "3"]) == 0
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == [
        "events.parquet",
        "items.csv",
        "users.csv",
    ]
    (tmp_path / "file").touch()
    assert command.main([str(tmp_path / "file" / "log"), "3"]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/file/log: cannot be written: Not a directory\n"
