"""Seeds are explicit and apart; an order is a permutation that keeps its window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.config import Optimizer, Training
from ranker.seeds import derive
from ranker.training.rows.order import epoch_rows, windowed_order
from ranker.training.step.averaging import coefficients
from ranker.training.step.schedule import schedule


def test_only_what_varies_differs_between_replicas():
    for vary, same in [(["shuffle"], "init"), (["init"], "shuffle")]:
        seeds = [derive(3, replica, vary) for replica in range(8)]
        assert len({getattr(s, same) for s in seeds}) == 1
        assert len({getattr(s, vary[0]) for s in seeds}) == 8
    assert len({derive(3, replica, []) for replica in range(8)}) == 1
    assert derive(3, 0, ["init", "shuffle"]) != derive(4, 0, ["init", "shuffle"])


def test_a_source_that_varies_leaves_the_other_as_it_was():
    assert derive(3, 2, ["init"]).init == derive(3, 2, ["init", "shuffle"]).init


@given(st.integers(0, 400), st.integers(1, 500), st.integers(0, 5))
def test_no_row_leaves_its_window(rows, window, seed):
    order = windowed_order(rows, window, np.random.default_rng(seed))
    assert sorted(order) == list(range(rows))
    if window < rows:
        assert np.all(np.abs(order - np.arange(rows)) < window)


@given(st.integers(1, 400), st.integers(1, 500), st.integers(0, 9), st.integers(0, 400))
def test_an_epoch_permutes_the_base_order_within_blocks(rows, block, epoch, start):
    order = epoch_rows(np.arange(rows), epoch, rows, block)
    assert sorted(order) == list(range(rows))
    np.testing.assert_array_equal(order // block, np.arange(rows) // block)
    np.testing.assert_array_equal(
        order[start:], epoch_rows(np.arange(start, max(start, rows)), epoch, rows, block)
    )


def test_epochs_have_orders_of_their_own_and_the_first_has_the_files():
    orders = [epoch_rows(np.arange(1000), epoch, 1000, 700) for epoch in range(4)]
    np.testing.assert_array_equal(orders[0], np.arange(1000))
    assert all((orders[a] == orders[b]).mean() < 0.05 for a in range(4) for b in range(a))


def test_windows_mix_and_full_is_uniform():
    order = windowed_order(10_000, 256, np.random.default_rng(0))
    assert 40 < np.abs(order - np.arange(10_000)).mean() < 128
    full = windowed_order(10_000, "full", np.random.default_rng(0))
    assert np.abs(full - np.arange(10_000)).mean() == pytest.approx(10_000 / 3, rel=0.05)


@given(st.integers(1, 30), st.floats(0, 1), st.integers(0, 3))
def test_coefficients_give_the_mean_of_the_last_iterates(steps, share, seed):
    updates = np.random.default_rng(seed).normal(size=steps)
    iterates = np.cumsum(updates)
    last = round(share * steps)
    expected = iterates[-last:].mean() if last else iterates[-1]
    got = iterates[-1] - coefficients(Training(average_last=share), steps) @ updates
    assert got == pytest.approx(expected, abs=1e-5)


@given(st.integers(1, 30), st.floats(0.01, 0.99), st.integers(0, 3))
def test_coefficients_give_the_exponential_average(steps, decay, seed):
    updates = np.random.default_rng(seed).normal(size=steps)
    iterates = np.cumsum(updates)
    average = 0.0
    for iterate in iterates:
        average = decay * average + (1 - decay) * iterate
    got = iterates[-1] - coefficients(Training(ema=decay), steps) @ updates
    assert got == pytest.approx(average, abs=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ({}, [1, 1, 1, 1, 1]),
        ({"decay": "linear"}, [1, 0.8, 0.6, 0.4, 0.2]),
        ({"decay": "linear", "final": 0.5}, [1, 0.9, 0.8, 0.7, 0.6]),
        ({"decay": "cosine"}, [1, 0.9045, 0.6545, 0.3455, 0.0955]),
        ({"decay": "exponential", "final": 0.01}, [1, 0.3981, 0.1585, 0.0631, 0.0251]),
        ({"warmup": 0.4}, [0.5, 1, 1, 1, 1]),
        ({"warmup": 0.4, "decay": "linear"}, [0.5, 1, 1, 2 / 3, 1 / 3]),
    ],
)
def test_learning_rates_by_hand(optimizer, expected):
    training = Training(epochs=1, optimizer=Optimizer(learning_rate=1.0, **optimizer))
    np.testing.assert_allclose(schedule(training, 5).rate, expected, atol=1e-4)


def test_an_exponential_decay_needs_an_end():
    with pytest.raises(ValueError, match=r"final must be > 0 for the exponential decay"):
        Optimizer(decay="exponential")
