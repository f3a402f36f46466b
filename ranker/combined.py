"""Several components served as one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ranker.architecture import Architecture, Weights
from ranker.backend import tf
from ranker.model import RankingModel


class Combined(tf.Module):
    """The mean prediction of components.

    Args:
        architecture: of every component.
        components: their weights.
        shared: all look up the first's embeddings, which are then stored once.
    """

    def __init__(self, architecture: Architecture, components: Sequence[Weights], shared: bool):
        super().__init__(name="combined")
        self.models: list[RankingModel] = []
        for weights in components:
            model = RankingModel(architecture)
            model.assign(weights)
            if shared and self.models:
                model.embeddings = self.models[0].embeddings
            self.models.append(model)

    def __call__(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The probability of the label, float32 [batch, 1]; arguments as `RankingModel.call`."""
        return tf.add_n([model(inputs) for model in self.models]) / len(self.models)

    def assign(self, components: Sequence[Weights]) -> None:
        """Sets the weights of all components; shared embeddings are the first's."""
        for model, weights in reversed(list(zip(self.models, components, strict=True))):
            model.assign(weights)

    def named_variables(self) -> dict[str, tf.Variable]:
        """`<component>/<name>` to variable; embeddings that components share are the first's alone."""
        named = {
            f"{i}/{name}": variable
            for i, model in enumerate(self.models)
            for name, variable in model.named_variables().items()
        }
        return {name: v for name, v in named.items() if not any(v is w for n, w in named.items() if n < name)}


def served_model(
    architecture: Architecture, components: Sequence[Weights], shared: bool
) -> RankingModel | Combined:
    """The model of a replica: the plain one for a single component."""
    if len(components) > 1:
        return Combined(architecture, components, shared)
    model = RankingModel(architecture)
    model.assign(components[0])
    return model
