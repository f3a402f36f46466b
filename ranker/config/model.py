"""`model`: embeddings, interaction, tower and its activation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from ranker.activations import catalogue
from ranker.config.base import Section


class ActivationSpec(Section):
    """An activation by name with its parameters, for example `{name: smelu, beta: 1.0}`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str

    @model_validator(mode="after")
    def _known(self) -> ActivationSpec:
        catalogue.validate(self.name, dict(self.parameters))
        return self

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters given beside the name."""
        return dict(self.model_extra or {})


class Model(Section):
    """The ranking model.

    `interaction`: `concat` (embeddings side by side), `cross` (DCN-v2 cross layers beside the tower's
    input) or `dot` (DLRM: pairwise dot products beside the dense tower's output). `dense_hidden` is a tower for
    the dense numbers before the interaction. `wide`: what enters the tower `hidden` is also added to the logit along a line,
    so that the model has all that a logistic regression has (Wide & Deep, Cheng et al., 2016). `normalization` stands before
    each activation: `layer` is LayerNorm, `rms` is RMSNorm, which keeps the mean and has no shift. `dropout`: in training,
    the share of each hidden layer's outputs that is set to 0.
    """

    embedding_dim: Annotated[int, Field(ge=1, le=4096)] = 16
    embedding_stddev: Annotated[float, Field(ge=0)] = 0.01
    embedding_l2: Annotated[float, Field(ge=0)] = 0.0
    interaction: Literal["concat", "cross", "dot"] = "concat"
    cross_layers: Annotated[int, Field(ge=1, le=16)] = 2
    dense_hidden: tuple[Annotated[int, Field(ge=1)], ...] = ()
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128,)
    wide: bool = True
    normalization: Literal["layer", "rms", "none"] = "layer"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    activation: ActivationSpec = ActivationSpec.model_validate({"name": "smelu", "beta": 1.0})
