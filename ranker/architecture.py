"""The shape of the model as numbers: which weights there are, how large, and how they begin. No TensorFlow.

The Keras model that is served and the program that trains are both built from this list of weights, by name:

    embedding/<table>                              [size, dim]; a table is named after its first feature
    dense/<i>/{kernel,bias,scale,offset}           the tower over dense numbers
    cross/<i>/{kernel,bias}                        DCN-v2 cross layers
    hidden/<i>/{kernel,bias,scale,offset}          the tower; scale and offset are LayerNorm's, of RMSNorm scale alone
    output/{kernel,bias}                           the logit
    wide/kernel                                    from what enters the tower straight to the logit
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ranker.config import Model
from ranker.errors import UserError
from ranker.inputs import Inputs
from ranker.seeds import Seeds

Weights = dict[str, np.ndarray]
"""Weight name to float32 array."""

NORMALIZATION_EPSILON = 1e-3
"""Added to the variance (LayerNorm) or the mean square (RMSNorm); Keras' default for LayerNorm."""


@dataclass(frozen=True)
class Architecture:
    """The model's layers over given inputs.

    Attributes:
        inputs: the plan of the input columns.
        model: the model's configuration.
        dense_sizes: outputs of the dense tower's layers. With the `dot` interaction it ends with the
            embedding dimension, so that its output takes part in the products.
    """

    inputs: Inputs
    model: Model
    dense_sizes: tuple[int, ...]

    @property
    def dense_output(self) -> int:
        """Numbers that leave the dense tower (or the raw dense numbers without one)."""
        return self.dense_sizes[-1] if self.dense_sizes else self.inputs.expanded_width

    @property
    def vectors(self) -> int:
        """Vectors that take part in the dot interaction."""
        return len(self.inputs.embedded) + bool(self.inputs.dense_width)

    @property
    def tower_input(self) -> int:
        """Width of what enters the first hidden layer."""
        width = self.dense_output
        if self.passes_embeddings:
            width += sum(column.embedding_dim for column in self.inputs.embedded)
        if self.model.interaction == "dot":
            width += self.vectors * (self.vectors - 1) // 2
        return width

    @property
    def passes_embeddings(self) -> bool:
        """Whether the embeddings themselves enter the first hidden layer.

        With `dot` the dense tower's output stands there instead. Without numbers there is none, and products of embeddings
        that begin near 0 alone have next to no gradient: the model would not train.
        """
        return self.model.interaction != "dot" or not self.inputs.dense_width

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight's shape, embeddings first, in the order of the computation."""
        shapes: dict[str, tuple[int, ...]] = {
            f"embedding/{c.table}": (c.size, c.embedding_dim) for c in self.inputs.embedded
        }
        shapes |= self._tower("dense", self.inputs.expanded_width, self.dense_sizes)
        if self.model.interaction == "cross":
            width = self.tower_input
            for i in range(self.model.cross_layers):
                shapes |= {f"cross/{i}/kernel": (width, width), f"cross/{i}/bias": (width,)}
        shapes |= self._tower("hidden", self.tower_input, self.model.hidden)
        shapes |= {"output/kernel": (self.model.hidden[-1], 1), "output/bias": (1,)}
        return shapes | ({"wide/kernel": (self.tower_input, 1)} if self.model.wide else {})

    def initialise(self, seeds: Seeds) -> Weights:
        """Initial weights: embeddings normal(0, embedding_stddev), kernels Glorot uniform, the rest 0 or 1."""
        generator = seeds.initialisation()
        weights = {}
        for name, shape in self.shapes().items():
            if name.startswith("embedding/"):
                value = self.model.embedding_stddev * generator.standard_normal(shape, dtype=np.float32)
            elif name.endswith("/kernel"):
                limit = np.sqrt(6.0 / sum(shape))
                value = generator.uniform(-limit, limit, shape)
            else:
                value = np.ones(shape) if name.endswith("/scale") else np.zeros(shape)
            weights[name] = np.asarray(value, np.float32)
        return weights

    def _tower(self, name: str, width: int, sizes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for i, size in enumerate(sizes):
            shapes |= {f"{name}/{i}/kernel": (width, size), f"{name}/{i}/bias": (size,)}
            if self.model.normalization != "none":
                shapes[f"{name}/{i}/scale"] = (size,)
            if self.model.normalization == "layer":
                shapes[f"{name}/{i}/offset"] = (size,)
            width = size
        return shapes


def design(inputs: Inputs, model: Model) -> Architecture:
    """Lays the model out over its inputs.

    Raises:
        UserError: the `dot` interaction with embeddings of different lengths, or with fewer than two vectors.
    """
    sizes = model.dense_hidden if inputs.dense_width else ()
    if model.interaction == "dot":
        dims = {column.embedding_dim for column in inputs.embedded}
        if len(dims) > 1:
            raise UserError(
                f"model.interaction 'dot' needs embeddings of one length. Received: {sorted(dims)}"
            )
        dim = next(iter(dims), model.embedding_dim)
        if inputs.dense_width and (not sizes or sizes[-1] != dim):
            sizes = (*sizes, dim)
    architecture = Architecture(inputs, model, sizes)
    if model.interaction == "dot" and architecture.vectors < 2:
        raise UserError("model.interaction 'dot' needs at least two embedded features, or one and a number")
    return architecture
