"""The example requests that the monitor keeps, as the pages need them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from serving.monitor.measurement.exemplars import UNIFORM, RequestExemplar, read_exemplars
from serving.monitor.store.selection import Selection

_MOST = 400


def kept_requests(directory: Path | None, selection: Selection) -> tuple[RequestExemplar, ...]:
    """Kept requests, the costliest of the newest hour first; each request once an hour.

    Args:
        directory: where the monitor keeps them; None or missing: there are none.
        selection: stream and range.
    """
    if directory is None or not directory.is_dir():
        return ()
    exemplars = read_exemplars(directory, selection.stream, selection.start, selection.end, limit=_MOST)
    once: dict[tuple[int, str], RequestExemplar] = {}
    for exemplar in sorted(
        exemplars, key=lambda exemplar: (-(exemplar.time // 3600), -exemplar.cost, exemplar.request)
    ):
        once.setdefault((exemplar.time // 3600, exemplar.request), exemplar)
    return tuple(once.values())


def uniform_sample(directory: Path | None, selection: Selection) -> tuple[RequestExemplar, ...]:
    """The kept requests that stand for all: drawn uniformly, each once a set of versions."""
    if directory is None or not directory.is_dir():
        return ()
    once: dict[tuple[str, tuple[int, ...]], RequestExemplar] = {}
    for exemplar in read_exemplars(directory, selection.stream, selection.start, selection.end, limit=2000):
        if exemplar.why == UNIFORM:
            once.setdefault((exemplar.request, exemplar.versions), exemplar)
    return tuple(once.values())


def most_apart(
    exemplars: Sequence[RequestExemplar], a: str, b: str, limit: int = 12
) -> list[tuple[RequestExemplar, int]]:
    """Requests on which two replicas' tops differ, with the first rank at which they do, the earliest first."""
    entries = []
    newest = {
        exemplar.request: exemplar for exemplar in sorted(exemplars, key=lambda exemplar: exemplar.time)
    }
    for exemplar in newest.values():
        if a in exemplar.replicas and b in exemplar.replicas:
            a_items, b_items = (exemplar.items[exemplar.replicas.index(name)] for name in (a, b))
            rank = next(
                (r for r, pair in enumerate(zip(a_items, b_items, strict=False), 1) if pair[0] != pair[1]), 0
            )
            if rank:
                entries.append((exemplar, rank))
    return sorted(entries, key=lambda entry: (entry[1], -entry[0].cost, entry[0].request))[:limit]
