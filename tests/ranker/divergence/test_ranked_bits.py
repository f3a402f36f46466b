"""A ranked replica: its order under ties and padding, and its comparisons as bits."""

import numpy as np
import pytest

from ranker.divergence.bits import count_bits, pack_bits, unit_words
from ranker.divergence.histogram import BUCKETS, bucket_edges, bucket_of
from ranker.divergence.ranked import Ranked, logit


def ragged(levels: int, columns: int = 70, k: int = 10) -> Ranked:
    """Forty requests of 2 to `columns` candidates; with few levels of scores most are tied."""
    rng = np.random.default_rng(levels)
    size = rng.integers(2, columns + 1, 40)
    present = np.arange(columns) < size[:, None]
    return Ranked(rng.integers(0, levels, (40, columns)) / levels * present, present, k)


@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_the_order_is_that_of_a_stable_sort_with_the_padding_last(levels: int) -> None:
    one = ragged(levels)
    keys = np.where(one.present, -one.scores, np.inf)
    assert (one.order == np.argsort(keys, axis=1, kind="stable")).all()
    assert (np.take_along_axis(one.rank, one.order.astype(int), axis=1) == np.arange(70)).all()


@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_bits_say_who_is_above_whom_and_who_is_unseen(levels: int) -> None:
    one = ragged(levels)
    both = one.present[:, :, None] & one.present[:, None, :]
    above = (one.scores[:, :, None] > one.scores[:, None, :]) & both
    low = (one.rank >= one.k) & one.present
    unseen = low[:, :, None] & low[:, None, :]
    words = unit_words(70)
    for bits, truth in ((one.above, above), (one.unseen, unseen)):
        read = ((bits[:, :, None, :] & words) != 0).any(axis=3)
        assert (read & one.present[:, :, None] == truth).all()
    assert (one.ordered_pairs == above.sum(axis=(1, 2))).all()


def test_packed_flags_are_sums_of_unit_words() -> None:
    flags = np.random.default_rng(0).random((5, 130)) < 0.5
    words = [unit_words(130)[row].sum(axis=0, dtype=np.uint64) for row in flags]
    assert (pack_bits(flags) == np.stack(words)).all()
    assert count_bits(pack_bits(flags)).tolist() == flags.sum(axis=1).tolist()


def test_buckets_start_at_their_edges_and_take_any_size() -> None:
    edges = bucket_edges()
    inside = np.sqrt(edges[1:-1] * edges[2:])
    assert bucket_of(inside).tolist() == list(range(1, BUCKETS - 1))
    assert bucket_of([0.0, 1e-300, edges[1] * 0.999, edges[-1] * 1.001, 1e300, -edges[-1]]).tolist() == [
        0,
        0,
        0,
        BUCKETS - 1,
        BUCKETS - 1,
        BUCKETS - 1,
    ]
    assert bucket_of(0.5).shape == ()


def test_logits_are_antisymmetric_to_rounding() -> None:
    p = np.random.default_rng(1).random(1000)
    np.testing.assert_allclose(logit(p), -logit(1 - p), atol=1e-12)
    np.testing.assert_allclose(logit(p), np.log(p) - np.log1p(-p), rtol=1e-12, atol=1e-14)
