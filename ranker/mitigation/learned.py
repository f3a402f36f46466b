"""What comes of training one replica by a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ranker.architecture import Architecture, Weights
from ranker.training import predict as single
from ranker.training.examples import Examples


@dataclass(frozen=True)
class Learned:
    """A trained replica.

    Attributes:
        components: the weights of each model whose mean prediction is the replica's; one for most recipes.
        loss: the mean loss at the end, over the components.
        steps: of the training.
        seconds: training time that this replica took: of a stack its share.
        shared: components look up the same embeddings.
    """

    components: list[Weights]
    loss: float
    steps: int
    seconds: float
    shared: bool = False


def predict(architecture: Architecture, components: Sequence[Weights], examples: Examples) -> np.ndarray:
    """The replica's probability for every row: the mean over its components, float32 [rows]."""
    each = [single.predict(architecture, weights, examples) for weights in components]
    return np.stack(each).mean(axis=0, dtype=np.float64).astype(np.float32)
