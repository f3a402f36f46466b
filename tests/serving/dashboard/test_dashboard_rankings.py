"""Rankings side by side: what a list loses, and by which swaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.divergence import consensus, replica_regret
from serving.dashboard.figures.bump import bump_chart
from serving.dashboard.figures.style import LIGHT
from serving.dashboard.queries.items import swapped_contexts, swapped_items
from serving.dashboard.queries.kept import most_apart
from serving.dashboard.queries.rankings import SideBySide, side_by_side, swaps
from serving.monitor.measurement.exemplars import RequestExemplar

SCORES = st.integers(2, 9).flatmap(
    lambda size: st.lists(
        st.lists(st.integers(1, 99).map(lambda n: n / 100), min_size=size, max_size=size),
        min_size=2,
        max_size=5,
    )
)


def laid(scores: list[list[float]]) -> SideBySide:
    names = [f"item-{place}" for place in range(len(scores[0]))]
    orders = [
        sorted(range(len(names)), key=lambda place: (-replica_scores[place], names[place]))
        for replica_scores in scores
    ]
    return side_by_side(
        [f"r{m}" for m in range(len(scores))],
        [[names[place] for place in order] for order in orders],
        [
            [replica_scores[place] for place in order]
            for order, replica_scores in zip(orders, scores, strict=True)
        ],
    )


@settings(deadline=None)
@given(SCORES)
def test_swaps_add_up_to_the_regret_that_is_measured(scores: list[list[float]]) -> None:
    rankings = laid(scores)
    mean = consensus(scores)
    parts = swaps(rankings)
    for m, replica_scores in enumerate(scores):
        expected = float(replica_regret(replica_scores, mean))
        assert rankings.regret[f"r{m}"] == pytest.approx(expected, abs=1e-12)
        assert sum(part.cost for part in parts if part.replica == f"r{m}") == pytest.approx(
            expected, abs=1e-12
        )


@settings(deadline=None)
@given(SCORES)
def test_swaps_hold_every_moved_item_once_and_no_other(scores: list[list[float]]) -> None:
    rankings = laid(scores)
    for replica in rankings.replicas:
        replica_swaps = [part for part in swaps(rankings) if part.replica == replica]
        ranks = sorted(rank for part in replica_swaps for rank in range(part.first, part.last + 1))
        assert len(ranks) == len(set(ranks))
        moved = {placed.item for placed in rankings.items if placed.ranks[replica] != placed.rank}
        assert moved <= {item for part in replica_swaps for item in part.items}


def test_items_that_one_replica_did_not_score_are_left_out() -> None:
    rankings = side_by_side(["a", "b"], [["x", "y", "z"], ["z", "x"]], [[0.9, 0.5, 0.1], [0.8, 0.2]])
    assert [placed.item for placed in rankings.items] == ["x", "z"]


def test_the_chart_shows_tags_as_text_and_cuts_long_names() -> None:
    hostile = ["<b>x</b>", "y" * 10_000]
    figure = bump_chart(
        side_by_side(["a", "b"], [hostile, hostile[::-1]], [[0.9, 0.5], [0.8, 0.2]]), LIGHT, k=10
    )
    assert "<b>x" not in str(figure)
    assert "&lt;b&gt;x" in str(figure)
    assert len(str(figure)) < 10_000


def exemplar(
    request: str, a: list[str], b: list[str], user: str = "u", versions: tuple[int, int] = (1, 1)
) -> RequestExemplar:
    scores = tuple(np.linspace(0.9, 0.1, len(a)).tolist())
    return RequestExemplar(
        time=0,
        stream="probe",
        level="L3",
        why="uniform",
        request=request,
        cost=0.01,
        replicas=("a", "b"),
        versions=versions,
        items=(tuple(a), tuple(b)),
        scores=(scores, scores),
        context={"user": user},
    )


def test_a_request_counts_once_whatever_versions_answered_it() -> None:
    again = [exemplar("q1", ["x", "y"], ["y", "x"], versions=(v, v)) for v in range(5)]
    assert swapped_items(again, k=1, support=2) == []
    swapped = swapped_items([*again, exemplar("q2", ["x", "y"], ["x", "y"])], k=1, support=2)
    assert [(entry.name, entry.requests, entry.share.value) for entry in swapped] == [("x", 2, 0.5)]
    (user,) = swapped_contexts([*again, exemplar("q2", ["x", "y"], ["x", "y"])], support=2)
    assert (user.name, user.share.value) == ("user: u", 0.5)


def test_requests_on_which_a_pair_parts_first() -> None:
    some = [
        exemplar("q1", ["x", "y", "z"], ["x", "z", "y"]),
        exemplar("q2", ["x", "y"], ["y", "x"]),
        exemplar("q3", ["x"], ["x"]),
    ]
    assert [(entry.request, rank) for entry, rank in most_apart(some, "a", "b")] == [("q2", 1), ("q1", 2)]
    assert most_apart(some, "a", "c") == []


@settings(deadline=None)
@given(SCORES, st.integers(0, 4))
def test_an_odd_replica_does_not_pull_the_consensus_whatever_it_says(
    scores: list[list[float]], place: int
) -> None:
    place %= len(scores)
    healthy = scores[:place] + scores[place + 1 :]
    names = [f"item-{i}" for i in range(len(scores[0]))]
    rankings = side_by_side(
        [f"r{m}" for m in range(len(scores))], [names] * len(scores), scores, odd=[f"r{place}"]
    )
    expected = consensus(healthy)
    assert rankings.odd == (f"r{place}",)
    for item in rankings.items:
        assert item.mean == pytest.approx(float(expected[names.index(item.item)]))


def test_the_healthy_are_not_blamed_beside_an_odd_replica() -> None:
    items = [["x", "y"], ["x", "y"], ["y", "x"]]
    scores = [[0.5, 0.4], [0.5, 0.4], [0.9, 0.1]]
    blamed = side_by_side(["a", "b", "odd"], items, scores).regret
    fair = side_by_side(["a", "b", "odd"], items, scores, odd=["odd"]).regret
    assert blamed["a"] > 0
    assert (fair["a"], fair["b"]) == (0, 0)
    assert fair["odd"] > 0


def test_where_all_are_odd_the_consensus_is_that_of_all() -> None:
    rankings = side_by_side(["a", "b"], [["x", "y"], ["x", "y"]], [[0.5, 0.3], [0.5, 0.4]], odd=["a", "b"])
    assert rankings.odd == ()
    assert len(rankings.items) == 2
