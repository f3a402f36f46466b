"""Which replica answers a caller: in turn, or by a key that always leads to the same one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from serving.gateway.sampling import fraction


class Router:
    """Orders replicas for one call: the one to ask first, then those to ask if it is not there.

    Args:
      names: the replicas.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._turn = itertools.count()

    def order(self, key: str | None, healthy: set[str]) -> list[str]:
        """Returns all replicas, healthy ones first.

        Without a key each call starts one place further. With one the order is by a hash of key and
        replica, so that a replica that leaves moves only its own keys.
        """
        if key is None:
            # Turns are taken among the healthy, or one replica's absence would double its neighbour's share.
            turn = next(self._turn)
            well = [name for name in self._names if name in healthy]
            ill = [name for name in self._names if name not in healthy]
            return [*_rotated(well, turn), *_rotated(ill, turn)]
        by_key = sorted(self._names, key=lambda name: fraction(f"{key}\x1f{name}", "route"))
        return sorted(by_key, key=lambda name: name not in healthy)


def _rotated(names: list[str], turn: int) -> list[str]:
    start = turn % len(names) if names else 0
    return names[start:] + names[:start]
