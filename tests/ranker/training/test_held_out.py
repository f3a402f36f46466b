"""The training rows that pilots hold out."""

import numpy as np
import pytest

from ranker.config import build
from ranker.errors import UserError
from ranker.inputs import plan
from ranker.layout import shard_paths
from ranker.training import held_out
from ranker.training.held_out import held_out_rows, hold_out, holds_out_requests
from ranker.training.rows.examples import Examples
from ranker.training.rows.feed import Stream, of_shards
from tests.ranker.conftest import ROWS, tiny_tree

AUTO = {"epochs": "auto", "batch_size": 64}


def experiment(**changes):
    tree = tiny_tree() | {"training": AUTO, "arms": {"smelu": {}}, "replicas": {"count": 1}}
    tree["data"] = tree["data"] | {"split": {"by": "hash", "of": ["user", "item"]}}
    return build(tree | changes, "test")


def _memory(experiment, run, inputs):
    return of_shards(shard_paths(run, "train"), inputs, False, ROWS, experiment.training)


def test_held_out_rows_are_a_hash_of_places_or_of_whole_requests(prepared, tiny, monkeypatch):
    by_row = experiment()
    first = hold_out(by_row, prepared, 10_000)
    np.testing.assert_array_equal(first, hold_out(by_row, prepared, 10_000))
    # 10,000 draws with probability 0.1: five standard deviations are 0.015.
    assert first.shape == (4, 10_000)
    np.testing.assert_allclose(first.mean(axis=1), 0.1, atol=0.015)
    assert first.sum(axis=0).max() == 1
    assert first[:, :300].any(axis=1).all()
    assert first[:, -300:].any(axis=1).all()
    assert [len(hold_out(by_row, prepared, rows)) for rows in (15_000, 25_000, 40_000)] == [3, 2, 1]
    split = {"by": "hash", "of": "user"}
    users = experiment(data=by_row.model_dump(mode="json")["data"] | {"split": split}).data
    assert holds_out_requests(users.split, users.request, prepared)
    assert not holds_out_requests(by_row.data.split, by_row.data.request, prepared)
    by_column = {"by": "column", "of": "part", "train": ["train"], "eval": ["eval"]}
    columns = experiment(data=by_row.model_dump(mode="json")["data"] | {"split": by_column}).data
    requests = {"train": np.array([1, 1, 2, 3]), "eval": np.array([4, 4, 3])}
    monkeypatch.setattr(held_out, "request_hashes", lambda run, split: requests[split])
    assert holds_out_requests(columns.split, columns.request, prepared)
    requests["eval"] = np.array([1, 2, 4])
    assert not holds_out_requests(columns.split, columns.request, prepared)
    with pytest.raises(UserError, match=r"'auto' needs more than the 1 training rows"):
        hold_out(by_row, prepared, 1)


def test_held_out_rows_take_no_part():
    """With every row of a batch held out, a step changes nothing; its loss is 0, not a number divided by 0."""
    rows = Examples(
        ids=np.zeros((4, 1), np.int32),
        dense=np.zeros((4, 0), np.float32),
        label=np.ones(4, np.float32),
        weight=np.ones(4, np.float32),
    )
    taken = rows.take(np.array([-1, -1, 2, -1]))
    assert taken["share"].numpy().tolist() == [0, 0, 1, 0]
    assert rows.take(np.array([-1, -1]))["share"].numpy().tolist() == [0, 0]


def test_held_out_rows_from_memory_are_those_of_the_shards(prepared):
    """The second reading, for columns that a served model does not have, gives the same rows where there are none."""
    own = experiment(training=AUTO)
    inputs = plan(own, prepared)
    assert all(column.is_served for column in inputs.stored)
    memory = _memory(own, prepared, inputs)
    chosen = np.random.default_rng(0).random((2, memory.rows)) < 0.3
    fast = held_out_rows(prepared, own, inputs, chosen, memory)
    slow = held_out_rows(prepared, own, inputs, chosen, Stream(lambda: iter(()), memory.rows, 256))
    for first, second in zip(fast, slow, strict=True):
        for column in ("ids", "dense", "label", "weight"):
            np.testing.assert_array_equal(getattr(first, column), getattr(second, column))
