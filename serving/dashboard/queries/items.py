"""Which items and which users see the most swaps, from a uniform sample of requests. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from ranker.divergence import Interval
from ranker.divergence.intervals import wilson
from serving.monitor.measurement.exemplars import RequestExemplar

_Seen = dict[str, dict[str, list[tuple[bool, float]]]]
"""Name -> request -> (differs, moved), one a set of versions."""


@dataclass(frozen=True)
class Swapped:
    """One item, or one value of a context feature.

    Attributes:
        name: the item's id, or `feature: value`.
        requests: it was in; below the minimum support nothing is listed.
        share: of requests on which replicas disagree about it, with its interval; see the function.
        moved: mean distance of its ranks between two replicas (items), or mean share of clicks lost (users).
    """

    name: str
    requests: int
    share: Interval
    moved: float


def swapped_items(exemplars: Iterable[RequestExemplar], k: int, support: int) -> list[Swapped]:
    """Items by the share of requests, of those with it in some replica's top k, in which it is not in everyone's.

    Args:
        exemplars: a uniform sample.
        k: how deep the top is.
        support: least number of requests.
    """
    seen: _Seen = {}
    for exemplar in exemplars:
        ranks = [{item: rank for rank, item in enumerate(items, 1)} for items in exemplar.items]
        tops = [set(items[:k]) for items in exemplar.items]
        if len(ranks) < 2:
            continue
        for item in set().union(*tops):
            places = [ranks_by_item[item] for ranks_by_item in ranks if item in ranks_by_item]
            distances = [abs(x - y) for x, y in combinations(places, 2)]
            missing = not all(item in top for top in tops)
            mark = (missing, sum(distances) / max(len(distances), 1))
            seen.setdefault(item, {}).setdefault(exemplar.request, []).append(mark)
    return _listed(seen, support)


def swapped_contexts(exemplars: Iterable[RequestExemplar], support: int) -> list[Swapped]:
    """Values of context features by the share of requests whose first item is not the same for all replicas."""
    seen: _Seen = {}
    for exemplar in exemplars:
        if len(exemplar.items) < 2 or not all(exemplar.items):
            continue
        differs = len({items[0] for items in exemplar.items}) > 1
        for feature, value in exemplar.context.items():
            seen.setdefault(f"{feature}: {value}", {}).setdefault(exemplar.request, []).append(
                (differs, exemplar.cost)
            )
    return _listed(seen, support)


def _listed(seen: _Seen, support: int) -> list[Swapped]:
    swapped = []
    for name, requests in seen.items():
        n = len(requests)
        if n < support:
            continue
        # the request is the sampling unit: seen under several sets of versions it still counts once
        shares = [sum(differs for differs, _ in marks) / len(marks) for marks in requests.values()]
        moved = [sum(moved for _, moved in marks) / len(marks) for marks in requests.values()]
        if sum(shares) > 0:
            swapped.append(Swapped(name, n, wilson(sum(shares), n), sum(moved) / n))
    # by the lower end: what is surely often, not what is rare and happened once
    return sorted(swapped, key=lambda entry: (-entry.share.low, -entry.requests, entry.name))


def total(exemplars: Sequence[RequestExemplar]) -> int:
    """How many different requests there are with two replicas' rankings or more."""
    return len({exemplar.request for exemplar in exemplars if len(exemplar.items) > 1})
