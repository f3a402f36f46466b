"""One request's rankings laid side by side: who moved whom, and what it costs. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ranker.divergence import replica_regret

CONSENSUS = "consensus"


@dataclass(frozen=True)
class Placed:
    """One item in all rankings.

    Attributes:
        item: its id.
        rank: in the consensus order, from 1.
        mean: mean score of the replicas that make the consensus.
        ranks: replica -> rank, from 1.
        scores: replica -> score.
        gains: replica -> share of expected clicks that its place there gains; below 0 where it loses.
    """

    item: str
    rank: int
    mean: float
    ranks: Mapping[str, int]
    scores: Mapping[str, float]
    gains: Mapping[str, float]

    @property
    def moved(self) -> bool:
        """Whether any replica places it elsewhere than the consensus does."""
        return any(rank != self.rank for rank in self.ranks.values())


@dataclass(frozen=True)
class Swap:
    """Items that stand among themselves in another order than the consensus has them, and nobody else with them.

    Attributes:
        replica: in whose list.
        first, last: ranks that the swap takes up.
        items: in the replica's order.
        cost: share of expected clicks lost by it; a list's swaps add up to its regret.
    """

    replica: str
    first: int
    last: int
    items: tuple[str, ...]
    cost: float


@dataclass(frozen=True)
class SideBySide:
    """The rankings of one request.

    Attributes:
        replicas: who answered.
        items: in the consensus order.
        regret: replica -> share of expected clicks it loses against the consensus.
        odd: replicas that the consensus leaves out.
    """

    replicas: tuple[str, ...]
    items: tuple[Placed, ...]
    regret: Mapping[str, float]
    odd: tuple[str, ...] = ()


def side_by_side(
    replicas: Sequence[str],
    items: Sequence[Sequence[str]],
    scores: Sequence[Sequence[float]],
    odd: Collection[str] = (),
) -> SideBySide:
    """Lays rankings side by side; items that a replica did not score are left out.

    An odd replica would pull the consensus towards itself, and the healthy would seem to lose clicks. The consensus is
    therefore that of the others, as long as there are others.

    Args:
        replicas: M names.
        items: each replica's items, the best first.
        scores: in the order of `items`.
        odd: names of replicas that stand out.

    Example:
        >>> both = side_by_side(["a", "b"], [["x", "y"], ["y", "x"]], [[0.5, 0.3], [0.5, 0.4]])
        >>> [one.item for one in both.items], {name: round(lost, 4) for name, lost in both.regret.items()}
        (['x', 'y'], {'a': 0.0, 'b': 0.0263})
    """
    if not replicas:
        return SideBySide((), (), {})
    scores_by_item = [
        dict(zip(names, values, strict=True)) for names, values in zip(items, scores, strict=True)
    ]
    shared = set(scores_by_item[0]).intersection(*scores_by_item[1:])
    healthy = [score_of for name, score_of in zip(replicas, scores_by_item, strict=True) if name not in odd]
    healthy = healthy or scores_by_item
    left_out = tuple(name for name in replicas if name in odd) if len(healthy) < len(scores_by_item) else ()
    mean = {item: sum(scores[item] for scores in healthy) / len(healthy) for item in shared}
    order = sorted(shared, key=lambda item: (-mean[item], item))
    ranks = [
        {item: rank for rank, item in enumerate((item for item in names if item in shared), 1)}
        for names in items
    ]
    ideal = sum(_weight(rank) * mean[item] for rank, item in enumerate(order, 1))
    placed = tuple(
        Placed(
            item=item,
            rank=rank,
            mean=mean[item],
            ranks={name: rank_of[item] for name, rank_of in zip(replicas, ranks, strict=True)},
            scores={name: score_of[item] for name, score_of in zip(replicas, scores_by_item, strict=True)},
            gains={
                name: (_weight(rank_of[item]) - _weight(rank)) * mean[item] / ideal if ideal > 0 else 0.0
                for name, rank_of in zip(replicas, ranks, strict=True)
            },
        )
        for rank, item in enumerate(order, 1)
    )
    regret = {}
    for name, rank_of in zip(replicas, ranks, strict=True):
        # minus the rank orders as the replica did, ties and all
        places = [-float(rank_of[item]) for item in order]
        regret[name] = float(replica_regret(places, [mean[item] for item in order])) if order else 0.0
    return SideBySide(tuple(replicas), placed, regret, left_out)


def swaps(rankings: SideBySide) -> list[Swap]:
    """Each list's differences from the consensus, cut into parts that touch no rank in common; the costliest first.

    Example:
        >>> both = side_by_side(["a", "b"], [["x", "y"], ["y", "x"]], [[0.5, 0.3], [0.5, 0.4]])
        >>> [(swap.replica, swap.first, swap.last, swap.items) for swap in swaps(both)]
        [('b', 1, 2, ('y', 'x'))]
    """
    result = []
    for replica in rankings.replicas:
        part: list[Placed] = []
        furthest = 0
        for placed in rankings.items:
            part.append(placed)
            furthest = max(furthest, placed.ranks[replica])
            if furthest == placed.rank:  # so far both lists have the same items
                if len(part) > 1:
                    items = tuple(p.item for p in sorted(part, key=lambda p: p.ranks[replica]))
                    cost = -sum(p.gains[replica] for p in part)
                    result.append(Swap(replica, part[0].rank, placed.rank, items, max(cost, 0.0)))
                part = []
    return sorted(result, key=lambda swap: (-swap.cost, swap.first, swap.replica))


def _weight(rank: int) -> float:
    return 1 / math.log2(1 + rank)
