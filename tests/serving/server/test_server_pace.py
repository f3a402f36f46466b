"""How the server learns which runs are quick."""

import pytest

from serving.server.pace import QUICK_SECONDS, Pace


def test_an_unknown_size_is_not_quick_and_one_run_tells():
    pace = Pace()
    assert not pace.is_quick(100)
    pace.took(100, QUICK_SECONDS / 2)
    assert pace.is_quick(100)
    assert pace.is_quick(127)
    assert not pace.is_quick(128)


@pytest.mark.parametrize("size", [1, 1000, 10**6])
def test_one_slow_run_passes_and_a_slower_model_is_noticed(size):
    pace = Pace()
    for _ in range(20):
        pace.took(size, QUICK_SECONDS / 4)
    pace.took(size, QUICK_SECONDS * 2)
    assert pace.is_quick(size)
    for _ in range(20):
        pace.took(size, QUICK_SECONDS * 2)
    assert not pace.is_quick(size)
