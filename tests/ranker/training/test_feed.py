"""Rows in segments are the rows in memory: same parts of the order, same bytes after training."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.architecture import design
from ranker.config import Training
from ranker.errors import UserError
from ranker.inputs import plan
from ranker.layout import shard_paths
from ranker.seeds import derive
from ranker.training.rows import feed
from ranker.training.rows.examples import Examples, blocks, read
from ranker.training.rows.order import windowed_order
from ranker.training.step.program import Program
from ranker.training.trainer import train


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 120), st.integers(0, 9), st.tuples(st.integers(0), st.integers(0)))
def test_a_part_of_an_order_is_the_order_s_part(rows, window, seed, places):
    start, stop = sorted(place % (rows + 1) for place in places)
    whole = windowed_order(rows, window, np.random.default_rng(seed))
    part = windowed_order(rows, window, np.random.default_rng(seed), start, stop)
    np.testing.assert_array_equal(part, whole[start:stop])


def numbered(rows, block):
    """Blocks of rows that carry their base position."""
    for start in range(0, rows, block):
        position = np.arange(start, min(start + block, rows))
        yield {
            "ids": position[:, None].astype(np.int32),
            "dense": np.zeros((len(position), 0), np.float32),
            "label": (position % 2).astype(np.float32),
            "weight": np.ones(len(position), np.float32),
        }


@settings(deadline=None)
@given(
    rows=st.integers(1, 200),
    block=st.integers(1, 50),
    segment=st.integers(1, 90),
    window=st.integers(1, 40),
    unit=st.integers(1, 20),
    begin=st.integers(0, 199),
    permuted=st.integers(1, 60),
)
def test_segments_hold_every_row_that_a_place_may_need(rows, block, segment, window, unit, begin, permuted):
    stream = feed.Stream(lambda: numbered(rows, block), rows, segment)
    begin = begin % rows
    places, sizes = [], set()
    for part in stream.parts(2, window, unit, 0, begin, permuted):
        ids = part.examples.ids.numpy()[:, 0]
        low = max(0, part.start - window) // permuted * permuted
        high = min(rows, -(-(part.stop + window) // permuted) * permuted)
        np.testing.assert_array_equal(ids[low - part.first : high - part.first], np.arange(low, high))
        places += [(part.epoch, place) for place in range(part.start, part.stop)]
        sizes.add(len(ids))
        assert part.start in (0, begin) or part.start % unit == 0
    assert places == [(0, p) for p in range(begin, rows)] + [(1, p) for p in range(rows)]
    assert len(sizes) == 1


def test_parts_of_rows_in_memory_are_all_places_of_every_epoch(monkeypatch):
    monkeypatch.setattr(feed, "_PART_ROWS", 40)
    examples = Examples(**{name: np.asarray(v) for name, v in next(numbered(100, 100)).items()})
    parts = list(feed.Memory(examples).parts(2, 5, 16, 0, 32))
    assert [(part.epoch, part.start, part.stop) for part in parts] == [
        (0, 32, 48),
        (0, 48, 96),
        (0, 96, 100),
        (1, 0, 48),
        (1, 48, 96),
        (1, 96, 100),
    ]
    # An order of a window that is not far smaller is had at once.
    assert [part.stop for part in feed.Memory(examples).parts(1, 6, 16)] == [100]


@pytest.mark.parametrize("expected", [0, 30, 600, 1000])
def test_the_expected_count_of_rows_changes_nothing(expected, tiny_inputs, prepared):
    paths = shard_paths(prepared, "train")
    rows = list(blocks(paths, tiny_inputs, False))
    examples = read(paths, tiny_inputs, False, expected)
    for name in ("ids", "dense", "label", "weight"):
        whole = np.concatenate([block[name] for block in rows])
        np.testing.assert_array_equal(getattr(examples, name).numpy(), whole)


@pytest.mark.parametrize("said", [90, 110])
def test_another_count_than_said_is_an_error(said):
    stream = feed.Stream(lambda: numbered(100, 16), said, 32)
    with pytest.raises(UserError, match=r"rows, but the statistics speak of .*run `ranker prepare` again"):
        list(stream.parts(1, 4, 8))


@pytest.fixture(scope="module")
def tiny_inputs(tiny, prepared):
    return plan(tiny, prepared)


@pytest.mark.parametrize("resume", [False, True])
def test_training_from_segments_gives_the_same_bytes(
    resume, tiny, tiny_inputs, prepared, tmp_path, monkeypatch
):
    monkeypatch.setattr("ranker.training.trainer._STEPS_A_CALL", 2)
    monkeypatch.setattr("ranker.training.trainer._REPORT_SECONDS", 0.0)
    paths = shard_paths(prepared, "train")
    memory = read(paths, tiny_inputs, weighted=False)
    stream = feed.Stream(lambda: blocks(paths, tiny_inputs, False), len(memory.label), 130)
    monkeypatch.setattr("ranker.training.rows.order.EPOCH_BLOCK", 50)
    training = Training(batch_size=32, shuffle_window=64, epochs=2, reshuffle=True, checkpoint_minutes=1e-9)
    seeds = [derive(5, replica, ["shuffle"]) for replica in range(2)]
    architecture = design(tiny_inputs, tiny.model)

    def program():
        return Program(architecture, training, [architecture.initialise(s) for s in seeds])

    class KilledError(Exception):
        pass

    def kill(progress):
        if progress.step >= 23:
            raise KilledError

    expected = train(program(), memory, training, seeds).weights
    if resume:
        with pytest.raises(KilledError):
            train(program(), stream, training, seeds, tmp_path / "checkpoint.npz", kill)
    got = train(program(), stream, training, seeds, tmp_path / "checkpoint.npz").weights
    for one, other in zip(expected, got, strict=True):
        assert all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_rows_beyond_memory_need_a_window_that_fits(prepared, tiny_inputs):
    paths = shard_paths(prepared, "train")
    for window in ("full", 200):
        training = Training(epochs=1, shuffle_window=window, segment_rows=100)
        with pytest.raises(UserError, match=r"training.shuffle_window .* training.segment_rows"):
            feed.of_shards(paths, tiny_inputs, False, rows=600, training=training)
    small = feed.of_shards(
        paths, tiny_inputs, False, rows=600, training=Training(epochs=1, shuffle_window="full")
    )
    assert isinstance(small, feed.Memory)
    assert isinstance(small.parts(1, 600, 32).__next__().examples, Examples)
