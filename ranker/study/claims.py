"""What the evidence page trains, and which sentence each comparison decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ranker.study.recipes import Overrides, activation, label, mitigations

TITLES = {
    1: "In the recipe: same initialisation, windowed shuffle, LayerNorm",
    2: "On the plane: each activation's own frontier over recipes",
    3: "When neither initialisation nor order is controlled",
    4: "Ensembles and distillation, with their cost",
}
ALL = tuple(TITLES)
"""The claims' numbers."""

RELU = "relu"
FAMILY: dict[str, list[tuple[str, float | None]]] = {
    "relu": [("relu", None)],
    "smelu": [("smelu", beta) for beta in (0.25, 0.5, 1.0, 2.0)],
    "swish": [("swish", beta) for beta in (1.0, 2.0)],
    "gelu": [("gelu", None)],
}
"""Activation to the members whose recipes make its frontier."""

_AVERAGE, _RATE = "training.average_last", "training.optimizer.learning_rate"
_NORM, _EMBEDDING = "model.normalization", "model.embedding_stddev"
FREE: Overrides = {"training.shuffle_window": "full", "replicas.vary": ["init", "shuffle"]}
"""A team that controls neither the initialisation nor the order."""
PLANE_AVERAGES = (0.1, 0.5, 0.8)
"""Shares of the steps the plane's recipes average over."""
_FREE_AVERAGES = (0.1, 0.2, 0.5, 0.8)
"""Shares of the steps such a team may average over."""


def recipes(chosen: Sequence[int], quick: bool, rate: float) -> dict[str, Overrides]:
    """Recipes that the chosen claims need, by name; two recipes never share a name."""
    parts = [recipe(quick)] if {1, 2, 4} & set(chosen) else []
    if 3 in chosen:
        parts += [{name: overrides for name, (_, overrides) in ladder(quick).items()}, search(quick, rate)]
    if 4 in chosen:
        parts.append(mitigations(quick))
    if 2 in chosen:
        parts += plane(quick, rate).values()
    by_name: dict[str, Overrides] = {}
    for part in parts:
        for name, overrides in part.items():
            if by_name.setdefault(name, overrides) != overrides:
                raise ValueError(f"two recipes are named {name}")
    return by_name


def members(quick: bool) -> dict[str, list[tuple[str, float | None]]]:
    """`FAMILY`, or the part of it that a quick run trains."""
    return {"relu": FAMILY["relu"], "smelu": [("smelu", 1.0)]} if quick else FAMILY


def recipe(quick: bool) -> dict[str, Overrides]:
    """The experiment's own recipe under each activation, with averaged weights as configured and without."""
    overrides_by_name: dict[str, Overrides] = {}
    for family in members(quick).values():
        for name, beta in family:
            overrides_by_name[label(name, beta)] = activation(name, beta)
            overrides_by_name[f"{label(name, beta)}-last-step"] = activation(name, beta) | {_AVERAGE: 0.0}
    for name in () if quick else ("smelu-1", "smelu-2"):
        overrides_by_name[f"{name}-embeddings-0"] = overrides_by_name[name] | {_EMBEDDING: 0.0}
    return overrides_by_name


BARS = {
    "smelu-1": (0.60, 0.50, 0.0),
    "smelu-2": (0.45, 0.30, -0.0003),
    "smelu-1-embeddings-0": (0.45, 0.30, 0.0),
    "smelu-2-embeddings-0": (0.45, 0.30, -0.0003),
}
"""In the recipe: at most so much of ReLU's relative PD, of its top1_swap, and at least so much more AUC."""


def plane(quick: bool, rate: float) -> dict[str, dict[str, Overrides]]:
    """Activation to the recipes of its frontier: smoothness, normalisation, rate, averaging, embeddings."""
    recipes_by_family: dict[str, dict[str, Overrides]] = {}
    for family, members_of_family in members(quick).items():
        recipes_of_family = recipes_by_family.setdefault(family, {})
        for name, beta in members_of_family:
            places: dict[str, Overrides] = {
                f"{norm}-norm-rate-{times * rate:g}": {_NORM: norm, _RATE: times * rate}
                for norm, times in (("layer", 1), ("layer", 2), ("none", 2), ("none", 4), ("none", 8))
            }
            places["embeddings-0"] = {_EMBEDDING: 0.0}
            if quick:
                places = dict(list(places.items())[:1])
            for place, changes in places.items():
                for average in PLANE_AVERAGES:
                    recipes_of_family[f"{label(name, beta)}-{place}-average-{average:g}"] = (
                        activation(name, beta) | changes | {_AVERAGE: average}
                    )
    return recipes_by_family


def ladder(quick: bool) -> dict[str, tuple[dict[str, str], Overrides]]:
    """Name to (what is free, overrides): recipes that measure the cost of a free initialisation and of a full shuffle."""
    free: dict[str, Overrides] = {
        "order, window 256": {"training.shuffle_window": 256, "replicas.vary": ["shuffle"]},
        "initialisation": {"training.shuffle_window": 256, "replicas.vary": ["init"]},
        "order, full shuffle": {"training.shuffle_window": "full", "replicas.vary": ["shuffle"]},
        "initialisation and full shuffle": FREE,
    }
    steps = {}
    for i, (free_source, recipe) in enumerate(free.items()):
        for name, beta in FAMILY["relu"] + [("smelu", 1.0)]:
            place = {"free": free_source, "activation": label(name, beta)}
            steps[f"{label(name, beta)}-free-{i}"] = place, activation(name, beta) | recipe | {_AVERAGE: 0.1}
    return dict(steps.items() if not quick else list(steps.items())[-2:])


def search(quick: bool, rate: float) -> dict[str, Overrides]:
    """Recipes for a team that controls neither; the first one, plain ReLU, is the baseline."""
    relu, smelu = activation("relu"), activation("smelu", 1.0)
    recipes_by_name: dict[str, Overrides] = {"relu-last-step": relu | {_AVERAGE: 0.0}}
    for name, recipe, averages in (
        ("relu", relu, _FREE_AVERAGES),
        ("smelu-1", smelu, (0.0, *_FREE_AVERAGES)),
    ):
        recipes_by_name |= {
            f"{name}-average-{a:g}" if a else f"{name}-last-step": recipe | {_AVERAGE: a} for a in averages
        }
    if not quick:
        zero: Overrides = {"model.embedding_stddev": 0.0}
        twice: Overrides = {"training.epochs": 2}
        changes: dict[str, Overrides] = {
            "relu-two-passes": relu | twice,
            "smelu-1-two-passes": smelu | twice,
            "smelu-1-embeddings-0": smelu | zero,
            "smelu-1-embeddings-0-two-passes": smelu | zero | twice,
            "smelu-1-embedding-l2": smelu | {"model.embedding_l2": 0.01},
            "smelu-1-half-rate": smelu | {_RATE: rate / 2},
            "smelu-1-batch-1024": smelu | {"training.batch_size": 1024},
            "smelu-1-anchor": smelu | {"mitigation": {"name": "anchor", "weight": 0.5}},
            "smelu-1-embeddings-0-anchor": smelu | zero | {"mitigation": {"name": "anchor", "weight": 0.5}},
            "smelu-1-codistillation": smelu | {"mitigation": {"name": "codistillation"}},
            "smelu-1-ensemble-3": smelu | {"mitigation": {"name": "ensemble", "components": 3}},
        }
        for name, recipe in changes.items():
            for average in (0.5,) if "mitigation" in recipe else (0.2, 0.5, 0.8):
                recipes_by_name[f"{name}-average-{average:g}"] = recipe | {_AVERAGE: average}
    return {f"free-{name}": recipe | FREE for name, recipe in recipes_by_name.items()}


USEFUL = 0.01
"""A recipe is of use if its AUC is no more than this below the best recipe's: one that learns nothing agrees best."""
FAILS = "**Fails.**"


def verdict(value: float, worst: float, bar: float) -> str:
    """Whether "at most `bar`" holds for the whole interval (its worst end is `worst`) or for the value alone."""
    if worst <= bar:
        return "**Holds.**"
    return "**Holds in the mean, not over the whole interval.**" if value <= bar else FAILS


def frontier(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points that no other beats in both AUC and prediction difference, by rising AUC."""
    front: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda p: (-p["auc"], p["rpd_sym"])):
        if not front or point["rpd_sym"] < front[-1]["rpd_sym"]:
            front.append(point)
    return front[::-1]
