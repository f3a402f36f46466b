"""The requests the monitor keeps whole, as pages need them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ranker.divergence import NearTies, RequestBatch, near_ties
from serving.monitor.exemplars import UNIFORM, Exemplar, read_exemplars

_MOST = 400


def kept_requests(
    directory: Path | None, stream: str, start: float, end: float, *, request: str | None = None
) -> tuple[Exemplar, ...]:
    """Kept requests, the costliest of the newest hour first; each request once an hour.

    Args:
        directory: where the monitor keeps them; None or missing: there are none.
        stream: `probe` or `live`.
        start: seconds since 1970.
        end: not included.
        request: that one alone.
    """
    if directory is None or not directory.is_dir():
        return ()
    found = read_exemplars(directory, stream, start, end, request=request, limit=_MOST)
    once: dict[tuple[int, str], Exemplar] = {}
    for one in sorted(found, key=lambda one: (-(one.time // 3600), -one.cost, one.request)):
        once.setdefault((one.time // 3600, one.request), one)
    return tuple(once.values())


def uniform_sample(directory: Path | None, stream: str, start: float, end: float) -> tuple[Exemplar, ...]:
    """The kept requests that stand for all: drawn uniformly, each once a set of versions."""
    if directory is None or not directory.is_dir():
        return ()
    once: dict[tuple[str, tuple[int, ...]], Exemplar] = {}
    for one in read_exemplars(directory, stream, start, end, limit=2000):
        if one.why == UNIFORM:
            once.setdefault((one.request, one.versions), one)
    return tuple(once.values())


def gaps_of(kept: Iterable[Exemplar], a: str, b: str, sigma: float) -> NearTies | None:
    """Inversions between two replicas by gap, over kept requests that both answered; None if there are none."""
    rows: list[tuple[str, str, float, float]] = []
    for place, one in enumerate(kept):
        scores = scores_by_item(one)
        if a in scores and b in scores:
            shared = sorted(scores[a].keys() & scores[b].keys())
            rows += [(f"{place:06d}", item, scores[a][item], scores[b][item]) for item in shared]
    if not rows or not sigma > 0:
        return None
    requests, items, left, right = zip(*rows, strict=True)
    codes = np.unique(items, return_inverse=True)[1]
    batch = RequestBatch.from_rows(requests, codes, [left, right], replicas=[a, b])
    return near_ties(batch, a, b, sigma)


def scores_by_item(one: Exemplar) -> dict[str, dict[str, float]]:
    """Replica -> item -> score."""
    return {
        replica: dict(zip(items, scores, strict=True))
        for replica, items, scores in zip(one.replicas, one.items, one.scores, strict=True)
    }


def most_apart(kept: Sequence[Exemplar], a: str, b: str, limit: int = 12) -> list[tuple[Exemplar, int]]:
    """Requests on which two replicas' tops differ, with the first rank at which they do, the earliest first."""
    found = []
    newest = {one.request: one for one in sorted(kept, key=lambda one: one.time)}
    for one in newest.values():
        if a in one.replicas and b in one.replicas:
            left, right = (one.items[one.replicas.index(name)] for name in (a, b))
            rank = next(
                (r for r, pair in enumerate(zip(left, right, strict=False), 1) if pair[0] != pair[1]), 0
            )
            if rank:
                found.append((one, rank))
    return sorted(found, key=lambda entry: (entry[1], -entry[0].cost, entry[0].request))[:limit]
