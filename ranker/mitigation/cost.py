"""What a recipe costs: to store, to serve, to train."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from ranker.architecture import Architecture
from ranker.backend import tf
from ranker.combined import served_model
from ranker.inputs import Inputs
from ranker.mitigation.learned import Learned
from ranker.training.rows.examples import Examples


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


def cost(architecture: Architecture, learned: Learned, serving_milliseconds: float) -> Cost:
    """Counts a replica's cost, beside what `serving` has measured."""
    return Cost(
        parameters(learned), lookups(architecture.inputs, learned), learned.seconds, serving_milliseconds
    )


def serving(architecture: Architecture, learned: Learned, request: Examples, repeats: int = 25) -> float:
    """Measures how long the exported graph takes to score one request.

    Args:
        architecture: of every component.
        learned: the replica.
        request: the candidates of the request.
        repeats: how often it is scored.

    Returns:
        The median, in milliseconds, in this process.
    """
    model = served_model(architecture, learned.components, learned.shared)
    inputs = {"ids": request.ids, "dense": request.dense}
    score = tf.function(lambda encoded: model(encoded)).get_concrete_function(inputs)
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        score(inputs)
        seconds.append(time.perf_counter() - began)
    return 1000 * float(np.median(seconds))


def lookups(inputs: Inputs, learned: Learned) -> int:
    """Embedding rows read to score one candidate."""
    return inputs.id_width * (1 if learned.shared else len(learned.components))


def parameters(learned: Learned) -> int:
    """Numbers in the exported model; shared embeddings count once."""
    return sum(
        weight.size
        for i, weights in enumerate(learned.components)
        for name, weight in weights.items()
        if i == 0 or not (learned.shared and name.startswith("embedding/"))
    )
