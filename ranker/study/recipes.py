"""Recipes under study, as overrides of an experiment: the activations with their smoothness, and the mitigations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ranker.config import Experiment, build
from ranker.errors import UserError

Overrides = dict[str, Any]


class FamilyMember(NamedTuple):
    """A member of a family of activations: its name, its smoothness, and whether it passes through the origin."""

    name: str
    beta: float | None = None
    centred: bool = False

    @property
    def label(self) -> str:
        """For example `smelu-1` or `smelu-2-centred`."""
        smoothness = "" if self.beta is None else f"-{self.beta:g}"
        return f"{self.name}{smoothness}{'-centred' if self.centred else ''}"

    @property
    def overrides(self) -> Overrides:
        """The activation of every hidden layer."""
        spec: dict[str, Any] = {"name": self.name}
        if self.beta is not None:
            spec["beta"] = self.beta
        if self.centred:
            spec["centred"] = True
        return {"model.activation": spec}


RELU, SMELU = FamilyMember("relu"), FamilyMember("smelu", 1.0)
FAMILIES: dict[str, list[FamilyMember]] = {
    "relu": [RELU],
    "smelu": [FamilyMember("smelu", beta, centred) for centred in (False, True) for beta in (0.5, 1.0, 2.0)],
    "swish": [FamilyMember("swish", 1.0), FamilyMember("swish", 2.0)],
    "gelu": [FamilyMember("gelu")],
    "softplus": [FamilyMember("softplus", 1.0, centred=True)],
    "mish": [FamilyMember("mish")],
}
"""Activation to its members under study. SmeLU grows smoother with beta, Swish and Softplus sharper."""


def families(quick: bool) -> dict[str, list[FamilyMember]]:
    """`FAMILIES`, or the part of it that a quick run trains."""
    return {"relu": [RELU], "smelu": [SMELU]} if quick else FAMILIES


def mitigations(quick: bool) -> dict[str, Overrides]:
    """The mitigations that SmeLU should replace, each with ReLU."""
    relu = RELU.overrides
    recipes: dict[str, Overrides] = {
        "relu-ensemble-3": relu | {"mitigation": {"name": "ensemble", "components": 3}}
    }
    if not quick:
        recipes |= {
            "relu-self-ensemble-3": relu | {"mitigation": {"name": "self_ensemble", "components": 3}},
            "relu-distillation": relu | {"mitigation": {"name": "distillation", "components": 3}},
            "relu-codistillation": relu | {"mitigation": {"name": "codistillation"}},
            "relu-anchor": relu | {"mitigation": {"name": "anchor"}},
        }
    return recipes


def arms(experiment: Experiment, overrides: Mapping[str, Overrides]) -> dict[str, Experiment]:
    """The experiment under each recipe's overrides.

    Raises:
        UserError: an override does not fit the experiment.
    """
    tree = experiment.model_dump(mode="json") | {"arms": dict(overrides)}
    whole = build(tree, "study")
    experiments = {name: whole.arm(name) for name in overrides}
    for name, arm in experiments.items():
        if arm.features != experiment.features:
            raise UserError(f"arms.{name}: a study's recipes must not change features")
    return experiments
