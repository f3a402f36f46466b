"""The reservoir: every call as likely as any other, bounded memory, exact counts, any number of threads."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest
from scipy import stats

from serving.monitor.requests.reservoir import MirroredCall, Reservoir

# A correct sampler fails a test at this level once in a million seeds, and the seeds are fixed.
ALPHA = 1e-6


def fill(reservoir, sizes):
    for number, size in enumerate(sizes):
        reservoir.offer(MirroredCall(bytes(size), str(number)))


def draws(trials, capacity, sizes, max_bytes=1 << 20):
    """How often each call is in the sample."""
    generator = random.Random(11)
    counts = Counter()
    for _ in range(trials):
        reservoir = Reservoir(capacity, max_bytes=max_bytes, generator=generator)
        fill(reservoir, sizes)
        counts.update(int(call.request_id) for call in reservoir.take().calls)
    return [counts[number] for number in range(len(sizes))]


@pytest.mark.parametrize("calls", [11, 50])
def test_every_call_is_as_likely(calls):
    counts = draws(4000, 10, [1] * calls)
    assert sum(counts) == 4000 * 10
    # Counts without replacement vary less than a multinomial's: the chi-square test is the stricter for it.
    assert stats.chisquare(counts).pvalue > ALPHA
    first, last = sum(counts[: calls // 2]), sum(counts[-(calls // 2) :])
    assert stats.binomtest(first, first + last, 0.5).pvalue > ALPHA


def test_a_sample_that_memory_cuts_is_uniform_still():
    # 40 calls of 100 bytes in a room of 1,250: about 12 are left of a capacity of 20
    counts = draws(4000, 20, [100] * 40, max_bytes=1250)
    assert 4000 * 11 <= sum(counts) <= 4000 * 12
    assert stats.chisquare(counts).pvalue > ALPHA


def test_pairs_are_as_likely_too():
    generator = random.Random(3)
    pairs = Counter()
    for _ in range(6000):
        reservoir = Reservoir(2, generator=generator)
        fill(reservoir, [1] * 6)
        pairs[frozenset(call.request_id for call in reservoir.take().calls)] += 1
    assert len(pairs) == 15
    assert stats.chisquare(list(pairs.values())).pvalue > ALPHA


def test_few_calls_are_all_kept_and_taking_begins_anew():
    reservoir = Reservoir(10)
    fill(reservoir, [1] * 4)
    sample = reservoir.take()
    assert ([call.request_id for call in sample.calls], sample.seen, sample.dropped) == (list("0123"), 4, 0)
    sample = reservoir.take()
    assert (sample.calls, sample.seen, sample.dropped) == ((), 0, 0)


def test_memory_is_bounded_whatever_arrives():
    generator = random.Random(1)
    reservoir = Reservoir(1000, max_bytes=10_000, generator=generator)
    for number in range(20_000):
        size = generator.choice([0, 10, 1000, 1240, 9_999, 50_000])
        reservoir.offer(MirroredCall(bytes(size), str(number)))
    sample = reservoir.take()
    assert sample.seen == 20_000
    assert sum(len(call.body) + len(call.request_id) for call in sample.calls) <= 10_000
    assert all(len(call.body) <= 1250 for call in sample.calls)
    assert len(sample.calls) >= 8  # of the largest that are kept eight have room
    assert sample.dropped >= 20_000 / 6 * 2 * 0.9  # a third of the sizes is too large at all times


def test_a_huge_call_costs_no_other():
    reservoir = Reservoir(10, max_bytes=1000)
    fill(reservoir, [10] * 5 + [126])
    sample = reservoir.take()
    assert len(sample.calls) == 5
    assert (sample.seen, sample.dropped) == (6, 1)


def test_threads_lose_no_count():
    reservoir = Reservoir(50)
    samples = []

    def offer():
        for number in range(5000):
            reservoir.offer(MirroredCall(b"x", str(number)))

    threads = [threading.Thread(target=offer) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        samples.append(reservoir.take())
    samples.append(reservoir.take())
    assert sum(sample.seen for sample in samples) == 20_000
    assert all(len(sample.calls) == min(sample.seen, 50) for sample in samples)
