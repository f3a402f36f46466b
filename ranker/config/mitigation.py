"""`mitigation`: what else than a smooth activation makes replicas agree, and what SmeLU is compared with.

Each is a recipe of one arm and exports ordinary replicas. Averaged weights are not here: they cost nothing when
serving, and stand in `training`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ranker.config.base import Section

_Components = Annotated[int, Field(ge=2, le=64)]


class Ensemble(Section):
    """`components` models of different initialisation; the prediction is the mean of theirs."""

    name: Literal["ensemble"]
    components: _Components = 3


class SelfEnsemble(Section):
    """`components` towers over the same embeddings, decorrelated by a loss (anti-distillation, arXiv 2010.09923).

    `decorrelation` is the loss's strength: it multiplies the mean squared correlation, over the batch, of two
    components' log-odds. 0 leaves them to their initialisations.
    """

    name: Literal["self_ensemble"]
    components: _Components = 3
    decorrelation: Annotated[float, Field(ge=0)] = 0.1


class Codistillation(Section):
    """The arm's replicas learn together, each pulled to the mean of the others (arXiv 1804.03235).

    `weight` multiplies the cross-entropy to that mean, once the share `burn_in` of the training is over. Every
    replica computes its predictions on the batches of all: R replicas cost R times a training each.
    """

    name: Literal["codistillation"]
    weight: Annotated[float, Field(gt=0)] = 1.0
    burn_in: Annotated[float, Field(ge=0, lt=1)] = 0.1


class Distillation(Section):
    """A student of an ensemble of `components` teachers, which each replica trains for itself.

    The label becomes (1 - weight) label + weight teacher's probability.
    """

    name: Literal["distillation"]
    components: _Components = 3
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5


class Anchor(Section):
    """Predictions are pulled to those of one frozen earlier replica, the same for all replicas.

    The label becomes (1 - weight) label + weight anchor's probability. `replica` is the anchor's SavedModel: a
    version's directory or a model base path (then its newest version), absolute or relative to the run directory.
    Without it the anchor is trained first, with seeds of its own that are the same for all replicas. `chain`: so many
    anchors are trained one after the other, each but the first pulled to the one before it; the last is the replicas'.
    """

    name: Literal["anchor"]
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    replica: str | None = None
    chain: Annotated[int, Field(ge=1, le=16)] = 1

    @model_validator(mode="after")
    def _trains_its_chain(self) -> Anchor:
        if self.replica is not None and self.chain > 1:
            raise ValueError(
                f"chain must be 1 where `replica` is an anchor already. Received: chain={self.chain}"
            )
        return self


Mitigation = Annotated[
    Ensemble | SelfEnsemble | Codistillation | Distillation | Anchor, Field(discriminator="name")
]
