"""What a recipe costs: to store, to serve, to train."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ranker.architecture import Architecture
from ranker.mitigation.learned import Learned, predict
from ranker.training.examples import Examples


@dataclass(frozen=True)
class Cost:
    """The cost of one replica.

    Attributes:
        parameters: numbers in the exported model.
        lookups: embedding rows read to score one candidate.
        training_seconds: of training it, teachers included; of a stack its share.
        serving_milliseconds: median time to score a request's candidates in this process.
    """

    parameters: int
    lookups: int
    training_seconds: float
    serving_milliseconds: float


def cost(architecture: Architecture, learned: Learned, request: Examples, repeats: int = 15) -> Cost:
    """Counts and measures a replica's cost.

    Args:
        architecture: of every component.
        learned: the replica.
        request: the candidates of one request.
        repeats: how often the request is scored.
    """
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        predict(architecture, learned.components, request)
        seconds.append(time.perf_counter() - began)
    return Cost(
        parameters(learned),
        architecture.inputs.id_width * (1 if learned.shared else len(learned.components)),
        learned.seconds,
        1000 * float(np.median(seconds)),
    )


def parameters(learned: Learned) -> int:
    """Numbers in the exported model; shared embeddings count once."""
    return sum(
        weight.size
        for i, weights in enumerate(learned.components)
        for name, weight in weights.items()
        if i == 0 or not (learned.shared and name.startswith("embedding/"))
    )


def mean(costs: Sequence[Cost]) -> Cost:
    """The mean over replicas."""
    count = len(costs)
    return Cost(
        costs[0].parameters,
        costs[0].lookups,
        sum(c.training_seconds for c in costs) / count,
        sum(c.serving_milliseconds for c in costs) / count,
    )
