"""Requests to look at: where the replicas of an arm disagree at the highest cost, with each one's list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ranker.divergence import RequestMeasures

COUNT = 3
DEPTH = 5


@dataclass(frozen=True)
class CostlyRequest:
    """One request with another first item in some replica.

    Attributes:
        request: its id.
        candidates: how many items were ranked.
        regret: consensus_regret, the mean over pairs.
        lists: replica -> its first items, each with its probability.
    """

    request: str
    candidates: int
    regret: float
    lists: dict[str, list[tuple[str, float]]]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> CostlyRequest:
        """The inverse of `as_dict`."""
        lists = {replica: [(item, score) for item, score in top] for replica, top in data["lists"].items()}
        return CostlyRequest(data["request"], data["candidates"], data["regret"], lists)


def costliest(exemplars: Sequence[CostlyRequest]) -> list[CostlyRequest]:
    """The `COUNT` of them with the highest regret."""
    return sorted(exemplars, key=lambda e: (-e.regret, e.request))[:COUNT]


def costliest_requests(measured: RequestMeasures, requests: pa.Array, items: pa.Array) -> list[CostlyRequest]:
    """The costliest requests of an arm.

    Args:
        measured: the arm's replicas, measured; its requests and items are integers.
        requests: text of the requests.
        items: text of the items.
    """
    if not measured.pairs:
        return []
    batch = measured.batch
    cost = np.where(measured.request_mean("top1_swap") > 0, measured.request_mean("consensus_regret"), 0.0)
    costly = []
    for at in np.argsort(-cost, kind="stable")[:COUNT]:
        if cost[at] > 0:
            rows = slice(batch.offsets[at], batch.offsets[at + 1])
            lists = {
                replica: [(items[int(batch.items[rows][i])].as_py(), float(scores[i])) for i in _top(scores)]
                for replica, scores in zip(batch.replicas, batch.scores[:, rows], strict=True)
            }
            name = requests[int(batch.requests[at])].as_py()
            costly.append(CostlyRequest(name, int(batch.sizes[at]), float(cost[at]), lists))
    return costly


def _top(scores: np.ndarray) -> np.ndarray:
    return np.argsort(-scores, kind="stable")[:DEPTH]  # rows stand by item id: that breaks ties
