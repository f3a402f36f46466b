"""Recipes under study, as overrides of an experiment: the activations with their smoothness, and the mitigations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ranker.config import Experiment, build
from ranker.errors import UserError

Overrides = dict[str, Any]


def activation(name: str, beta: float | None = None) -> Overrides:
    """One activation."""
    return {"model.activation": {"name": name} if beta is None else {"name": name, "beta": beta}}


def label(name: str, beta: float | None = None) -> str:
    """An activation's name with its smoothness, for example `smelu-1`."""
    return name if beta is None else f"{name}-{beta:g}"


def curves(quick: bool) -> dict[str, list[float | None]]:
    """Activation to its smoothness parameters; SmeLU grows smoother with beta, Swish and Softplus sharper."""
    if quick:
        return {"relu": [None], "smelu": [1.0]}
    return {
        "relu": [None],
        "smelu": [0.25, 0.5, 1.0, 2.0, 4.0],
        "swish": [1.0, 2.0, 4.0],
        "gelu": [None],
        "softplus": [1.0, 2.0, 4.0],
    }


def mitigations(quick: bool) -> dict[str, Overrides]:
    """The mitigations that SmeLU should replace, each with ReLU."""
    relu = activation("relu")
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
