"""The result of training one replica by a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ranker.architecture import Architecture, Weights
from ranker.training import predict as single
from ranker.training.rows.examples import Examples
from ranker.training.trainer import Trained


@dataclass(frozen=True)
class Learned:
    """A trained replica.

    Attributes:
        components: the weights of each model whose mean prediction is the replica's; one for most recipes.
        loss: the mean loss at the end, over the components.
        steps: of the training.
        seconds: training time that this replica took: of a stack its share.
        shared: components look up the same embeddings.
        curve: the mean loss of each epoch, over the components.
        failure: what is not finite, a clause; empty where all is well.
    """

    components: list[Weights]
    loss: float
    steps: int
    seconds: float
    shared: bool = False
    curve: tuple[float, ...] = ()
    failure: str = ""


def split_towers(
    trained: Trained, replicas: int, more_seconds: float = 0.0, shared: bool = False
) -> list[Learned]:
    """Splits the towers of a training into replicas of equally many towers.

    Args:
        trained: the towers, replica after replica.
        replicas: how many.
        more_seconds: training time of all their teachers together.
        shared: a replica's towers have one set of embeddings.
    """
    size = len(trained.weights) // replicas
    return [
        Learned(
            components=trained.weights[i * size : (i + 1) * size],
            loss=float(np.mean(trained.loss[i * size : (i + 1) * size])),
            steps=trained.steps,
            seconds=(trained.seconds + more_seconds) / replicas,
            shared=shared,
            curve=tuple(trained.curve[:, i * size : (i + 1) * size].mean(axis=1).tolist()),
            failure=next((failure for failure in trained.failures[i * size : (i + 1) * size] if failure), ""),
        )
        for i in range(replicas)
    ]


def predict(architecture: Architecture, components: Sequence[Weights], examples: Examples) -> np.ndarray:
    """The replica's probability for every row: the mean over its components, float32 [rows]."""
    each = [single.predict(architecture, weights, examples) for weights in components]
    return np.stack(each).mean(axis=0, dtype=np.float64).astype(np.float32)
