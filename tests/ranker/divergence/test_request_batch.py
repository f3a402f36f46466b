"""Answers that are wrong are counted and leave the pairs; nothing leaves in silence."""

import numpy as np
import pytest

from ranker.divergence import RequestBatch, compare, measure_requests
from ranker.errors import UserError

NAN = float("nan")


def test_rows_in_any_order_give_the_same_batch():
    request, item = np.array(["u2", "u1", "u2", "u1"]), np.array([3, 9, 1, 4])
    scores = np.array([[0.3, 0.9, 0.1, 0.4]])
    batch = RequestBatch.from_rows(request, item, scores)
    assert batch.requests.tolist() == ["u1", "u2"]
    assert batch.items.tolist() == [4, 9, 1, 3]
    assert batch.scores.tolist() == [[0.4, 0.9, 0.1, 0.3]]
    assert batch.rows.tolist() == [3, 1, 2, 0]
    assert batch.sizes.tolist() == [2, 2]


def test_invalid_scores_are_counted_and_their_requests_leave_the_pairs_of_that_replica():
    scores = [[0.1, 0.2, 0.3, 0.4], [0.1, NAN, 0.3, 1.5], [0.1, 0.2, -0.1, np.inf]]
    batch = RequestBatch.from_rows([1, 1, 2, 3], [1, 2, 1, 1], scores, replicas=["a", "b", "c"])
    assert batch.invalid_score.tolist() == [0, 2, 2]
    assert batch.valid.tolist() == [[True, True, True], [False, True, False], [True, False, False]]
    coverage = compare(batch).coverage
    assert coverage.requests == 3
    assert coverage.invalid_score == {"a": 0, "b": 2, "c": 2}
    assert coverage.paired == {("a", "b"): 1, ("a", "c"): 1, ("b", "c"): 0}
    assert (coverage.paired["a", "b"], coverage.requests) == (1, 3)


def test_a_replica_that_did_not_answer_is_no_mismatch_but_lowers_the_paired_coverage():
    answered = [[True] * 4, [True, True, False, False], [True, False, True, True]]
    scores = np.where(answered, 0.5, NAN)
    batch = RequestBatch.from_rows([1, 1, 2, 2], [1, 2, 1, 2], scores, answered=answered)
    assert batch.answered.tolist() == [[True, True], [True, False], [True, True]]
    assert batch.coverage_mismatch.tolist() == [0, 0, 1]
    assert batch.invalid_score.tolist() == [0, 0, 0]
    assert compare(batch).coverage.paired == {("0", "1"): 1, ("0", "2"): 1, ("1", "2"): 0}


def test_duplicated_candidates_are_a_mismatch():
    batch = RequestBatch.from_rows([1, 1, 2], [7, 7, 7], [[0.1, 0.2, 0.3]] * 2)
    assert batch.coverage_mismatch.tolist() == [1, 1]
    assert batch.valid.tolist() == [[False, True]] * 2


def test_answers_of_each_replica_are_aligned_by_request_and_item():
    answers = {
        "a": (["r", "r", "s"], [1, 2, 1], [0.1, 0.2, 0.3]),
        "b": (["s", "r", "r"], [1, 2, 1], [0.6, 0.5, 0.4]),
        "c": (["r", "r", "r", "s"], [1, 2, 2, 1], [0.1, 0.2, 0.2, NAN]),
        "d": (["r"], [1], [0.1]),
    }
    batch = RequestBatch.from_answers(answers)
    assert batch.scores[:2].tolist() == [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    assert batch.coverage_mismatch.tolist() == [0, 0, 1, 1]
    assert batch.invalid_score.tolist() == [0, 0, 1, 0]
    assert batch.answered.tolist() == [[True, True]] * 3 + [[True, False]]
    assert batch.valid.tolist() == [[True, True]] * 2 + [[False, False]] * 2


def test_a_candidate_that_nobody_scored_is_missed_when_we_say_what_was_asked():
    answers = {"a": ([1], [5], [0.1]), "b": ([1], [5], [0.2])}
    batch = RequestBatch.from_answers(answers, requested=([1, 1, 2], [5, 6, 5]))
    assert batch.coverage_mismatch.tolist() == [1, 1]
    assert batch.answered.tolist() == [[True, False]] * 2


def test_aligned_rows_and_separate_answers_measure_the_same():
    rng = np.random.default_rng(1)
    request, item = np.repeat(np.arange(20), 5), np.tile(np.arange(5), 20)
    scores = rng.random((2, 100))
    moved = rng.permutation(100)
    aligned = compare(RequestBatch.from_rows(request, item, scores, replicas=["a", "b"]))
    apart = {"a": (request, item, scores[0]), "b": (request[moved], item[moved], scores[1][moved])}
    assert compare(RequestBatch.from_answers(apart)).summary() == aligned.summary()


def test_one_candidate_has_prediction_difference_and_no_swaps():
    result = compare(RequestBatch.from_rows([1, 2, 2], [1, 1, 2], [[0.1, 0.2, 0.3], [0.2, 0.2, 0.3]]))
    assert result.overall["pd_abs"].n == 2
    assert result.overall["top1_swap"].n == 1


def test_nothing_at_all_has_no_value():
    result = compare(RequestBatch.from_rows([], [], np.zeros((2, 0))))
    assert result.coverage.requests == 0
    assert result.overall["top1_swap"].n == 0
    assert all(np.isnan(row["value"]) and np.isnan(row["low"]) for row in result.summary().values())


def test_one_replica_has_no_pairs():
    result = compare(RequestBatch.from_rows([1, 1], [1, 2], [[0.1, 0.2]]))
    assert result.pairs == {}
    assert result.overall["rpd_sym"].n == 0


def test_slices_by_request_and_by_item():
    rng = np.random.default_rng(2)
    request, item = np.repeat(np.arange(30), 8), np.tile(np.arange(8), 30)
    scores = rng.random((3, 240))
    batch = RequestBatch.from_rows(request, item, scores)
    even = np.arange(30) % 2 == 0
    sliced = measure_requests(batch).summarise(even)
    rows = np.isin(request, np.flatnonzero(even))
    apart = RequestBatch.from_rows(request[rows], item[rows], scores[:, rows])
    for other in (compare(batch.take(even)), compare(apart)):
        for label, row in other.summary().items():
            assert row == pytest.approx(sliced.summary()[label]), label
    few = item < 3
    direct = compare(RequestBatch.from_rows(request[few], item[few], scores[:, few])).summary()
    assert compare(batch.take_rows(batch.items < 3)).summary() == direct


def test_selecting_replicas():
    batch = RequestBatch.from_rows(
        [1, 1], [1, 2], [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], replicas=["a", "b", "c"]
    )
    chosen = batch.select(["c", "a"])
    assert chosen.replicas == ("c", "a")
    assert chosen.scores.tolist() == [[0.5, 0.6], [0.1, 0.2]]
    with pytest.raises(UserError, match="Received: 'z'"):
        batch.select(["z"])


def test_blocks_cover_every_request_once_and_bound_the_item_pairs():
    sizes = np.random.default_rng(0).integers(1, 300, 200)
    request = np.repeat(np.arange(200), sizes)
    item = np.concatenate([np.arange(size) for size in sizes])
    batch = RequestBatch.from_rows(request, item, np.full((1, len(item)), 0.5))
    blocks = list(batch.blocks(cells=200_000))
    assert sorted(np.concatenate(blocks).tolist()) == list(range(200))
    for block in blocks:
        largest = sizes[block].max()
        assert len(block) * largest * (-(-largest // 64) * 64) <= 200_000 or len(block) == 1


@pytest.mark.parametrize(
    "build",
    [
        lambda: RequestBatch.from_rows([1], [1, 2], [[0.1, 0.2]]),
        lambda: RequestBatch.from_rows([1, 1], [1, 2], [[0.1]]),
        lambda: RequestBatch.from_rows([1], [1], [[0.1]], replicas=["a", "b"]),
        lambda: RequestBatch.from_rows([1], [1], [[0.1], [0.2]], replicas=["a", "a"]),
        lambda: RequestBatch.from_rows([1], [1], [[0.1]], answered=[[True, True]]),
        lambda: RequestBatch.from_answers({}),
        lambda: RequestBatch.from_answers({"a": ([1], [1], [0.1, 0.2])}),
    ],
)
def test_wrong_shapes_say_what_was_received(build):
    with pytest.raises(UserError, match="Received: "):
        build()
