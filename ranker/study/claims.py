"""What the evidence page trains, and which sentence each comparison decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ranker.study.recipes import RELU, SMELU, FamilyMember, Overrides, families, mitigations

TITLES = {
    1: "In the recipe: same initialisation, windowed shuffle, LayerNorm",
    2: "On the plane: each activation's own frontier over recipes",
    3: "When neither initialisation nor order is controlled",
    4: "Ensembles and distillation, with their cost",
    5: "Long training, and what keeps replicas together",
    6: "Where it helps and where not: the properties of a log",
    7: "What may be mixed in one deployment: machines, precision, quantised serving",
    8: "When neither is controlled: what each remedy adds to two averaged passes",
}
ALL = tuple(TITLES)
"""The claims' numbers."""


class Share(NamedTuple):
    """A part of the evidence on one log: claims whose recipes are trained together, on the same rows.

    Attributes:
        numbers: of the claims.
        rows: training rows at most, the first of the base order; None takes all. The claims' many recipes, or epochs,
            would take hours on all.
        processor_seconds: what it may take, of all processes, on the log that takes most.
    """

    numbers: tuple[int, ...]
    rows: int | None
    processor_seconds: int


PLAN = (
    Share((1, 2), 300_000, 560),
    Share((3, 4, 8), 100_000, 480),
    Share((5,), 40_000, 200),
    Share((6,), None, 240),
    Share((7,), 40_000, 280),
)
"""What `make evidence` takes of each log: three logs in 5,280 processor seconds, 44 minutes on two cores.

Claim 6 cuts its logs itself. Its middle has the rows of claim 5, so that both read the same trainings.
"""

_AVERAGE, _RATE = "training.average_last", "training.optimizer.learning_rate"
_NORM, _EMBEDDING = "model.normalization", "model.embedding_stddev"
_EPOCHS, _DECAY = "training.epochs", "training.optimizer.decay"
FREE: Overrides = {"training.shuffle_window": "full", "replicas.vary": ["init", "shuffle"]}
"""A team that controls neither the initialisation nor the order."""
PLANE_AVERAGES = (0.1, 0.5)
"""Shares of the steps the plane's recipes average over."""
_FREE_AVERAGES = (0.1, 0.2, 0.5, 0.8)
"""Shares of the steps such a team may average over."""


def recipes(chosen: Sequence[int], quick: bool, rate: float, epochs: int) -> dict[str, Overrides]:
    """Recipes that the chosen claims need, by name; two recipes never share a name.

    Args:
        chosen: the claims' numbers.
        quick: a part of them.
        rate: the configured learning rate.
        epochs: the configured number of epochs.
    """
    parts = [recipe(quick)] if {1, 2} & set(chosen) else []
    if 3 in chosen:
        parts += [{name: overrides for name, (_, overrides) in ladder(quick).items()}, search(quick, epochs)]
    if 4 in chosen:
        parts += [{member.label: member.overrides for member in (RELU, SMELU)}, mitigations(quick)]
    if 2 in chosen:
        parts += plane(quick, rate).values()
    if 8 in chosen:
        parts.append(remedies(quick, epochs))
    by_name: dict[str, Overrides] = {}
    for part in parts:
        for name, overrides in part.items():
            if by_name.setdefault(name, overrides) != overrides:
                raise ValueError(f"two recipes are named {name}")
    return by_name


def recipe(quick: bool) -> dict[str, Overrides]:
    """The experiment's own recipe under each activation, with averaged weights as configured and without."""
    overrides_by_name: dict[str, Overrides] = {}
    for member in (m for members in families(quick).values() for m in members):
        overrides_by_name[member.label] = member.overrides
        overrides_by_name[f"{member.label}-last-step"] = member.overrides | {_AVERAGE: 0.0}
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

RELU_BAR = (0.6, 0.6)
RIVAL_BAR = (1.0, 1.1)
"""Along a frontier: at most so much of the relative PD, as a value and as the interval's upper bound."""
UPPER_HALF_BAR = 0.8
"""On the half of a smooth rival's frontier with the higher AUC: at most so much of its relative PD."""


def plane(
    quick: bool, rate: float, members_by_family: Mapping[str, Sequence[FamilyMember]] | None = None
) -> dict[str, dict[str, Overrides]]:
    """Activation to the recipes of its frontier: smoothness, normalisation with its rate, averaging, embeddings.

    Args:
        quick: the first place of the plane alone.
        rate: the configured learning rate.
        members_by_family: activation to its members; default: those of the evidence.
    """
    places: dict[str, Overrides] = {
        f"{norm}-norm-rate-{times * rate:g}": {_NORM: norm, _RATE: times * rate}
        for norm, times in (("layer", 1), ("rms", 1), ("none", 8))
    }
    if quick:
        places = dict(list(places.items())[:1])
    zero: dict[str, Overrides] = {"embeddings-0": {_EMBEDDING: 0.0}}
    return {
        family: {
            f"{member.label}-{place}-average-{average:g}": member.overrides | changes | {_AVERAGE: average}
            for member in members
            for place, changes in (places | zero if not quick and member in _FROM_ZERO else places).items()
            if not place.startswith(_LEFT_OUT.get(member, ()))
            for average in PLANE_AVERAGES
        }
        for family, members in (members_by_family or families(quick)).items()
    }


_FROM_ZERO = (SMELU, FamilyMember("smelu", 2.0), FamilyMember("swish", 1.0), FamilyMember("gelu"))
"""Members that are also tried from embeddings of zero. ReLU never leaves those."""
_LEFT_OUT = {
    FamilyMember("smelu", 0.5): ("rms", "none"),
    FamilyMember("smelu", 2.0): ("rms", "none"),
    FamilyMember("smelu", 0.5, centred=True): ("rms",),
}
"""Normalisations that a member is not tried with: earlier runs never matched it there with a rival's recipe of use."""


def ladder(quick: bool) -> dict[str, tuple[dict[str, str], Overrides]]:
    """Name to (what is free, overrides): recipes that measure the cost of a free initialisation and of a full shuffle."""
    free: dict[str, Overrides] = {
        "order, window 256": {"training.shuffle_window": 256, "replicas.vary": ["shuffle"]},
        "initialisation": {"training.shuffle_window": 256, "replicas.vary": ["init"]},
        "order, full shuffle": {"training.shuffle_window": "full", "replicas.vary": ["shuffle"]},
        "initialisation and full shuffle": FREE,
    }
    steps = {}
    for i, (free_source, changes) in enumerate(free.items()):
        for member in (RELU, SMELU):
            place = {"free": free_source, "activation": member.label}
            steps[f"{member.label}-free-{i}"] = place, member.overrides | changes | {_AVERAGE: 0.1}
    return dict(steps.items() if not quick else list(steps.items())[-2:])


def search(quick: bool, epochs: int) -> dict[str, Overrides]:
    """Recipes for a team that controls neither; the first one, plain ReLU, is the baseline.

    A pass is a training as long as configured, `epochs` epochs: two passes are twice as long.
    """
    two: Overrides = {_EPOCHS: 2 * epochs}
    relu, smelu = RELU.overrides, SMELU.overrides
    recipes_by_name: dict[str, Overrides] = {"relu-last-step": relu | {_AVERAGE: 0.0}}
    for name, changes, averages in (
        ("relu", relu, _FREE_AVERAGES),
        ("smelu-1", smelu, (0.0, *_FREE_AVERAGES)),
    ):
        recipes_by_name |= {
            f"{name}-average-{a:g}" if a else f"{name}-last-step": changes | {_AVERAGE: a} for a in averages
        }
    if not quick:
        changes_by_name: dict[str, Overrides] = {
            "relu-two-passes": relu | two,
            "smelu-1-two-passes": smelu | two,
            "smelu-1-embeddings-0": smelu | {_EMBEDDING: 0.0},
            "smelu-1-embeddings-0-two-passes": smelu | {_EMBEDDING: 0.0} | two,
            "smelu-1-embeddings-0-anchor": smelu | {_EMBEDDING: 0.0} | _anchor(0.5),
        }
        for name, changes in changes_by_name.items():
            for average in (0.5,) if "mitigation" in changes else (0.2, 0.5, 0.8):
                recipes_by_name[f"{name}-average-{average:g}"] = changes | {_AVERAGE: average}
    return {f"free-{name}": changes | FREE for name, changes in recipes_by_name.items()}


REMEDY_BAR = 0.15
"""Where a team controls neither: at most so much of plain ReLU's relative PD is sought."""


def remedies(quick: bool, epochs: int) -> dict[str, Overrides]:
    """Recipes that add one remedy to two averaged passes from embeddings of zero; the first, plain ReLU, is the baseline.

    A pass is as long as in `search`.
    """
    two: Overrides = {_EPOCHS: 2 * epochs}
    twice: Overrides = SMELU.overrides | {_EMBEDDING: 0.0} | two
    three: Overrides = {_EPOCHS: 3 * epochs}
    fixed_order: Overrides = {"replicas.vary": ["init"]}
    added: dict[str, Overrides] = {
        "no remedy": twice,
        "anchor 0.8": twice | _anchor(0.8),
        "three passes": twice | three,
        "rate to zero": twice | {_DECAY: "linear"},
        "fixed order": twice | fixed_order,
        "anchor 0.8, three passes": twice | _anchor(0.8) | three,
        "anchor 1, three passes": twice | _anchor(1.0) | three,
        "anchor 0.8, three passes, fixed order": twice | _anchor(0.8) | three | fixed_order,
        "ReLU": RELU.overrides | two,
        "ReLU, anchor 0.8": RELU.overrides | two | _anchor(0.8),
    }
    recipes_by_name: dict[str, Overrides] = {"plain ReLU": FREE | RELU.overrides | {_AVERAGE: 0.0}}
    for name, changes in dict(list(added.items())[:2] if quick else added).items():
        for average in (0.8,) if quick or "mitigation" in changes else (0.5, 0.8):
            recipes_by_name[f"{name}, average {average:g}"] = FREE | changes | {_AVERAGE: average}
    return {f"remedy-{name}".replace(", ", "-").replace(" ", "-"): r for name, r in recipes_by_name.items()}


def _anchor(weight: float) -> Overrides:
    return {"mitigation": {"name": "anchor", "weight": weight}}


LONG_EPOCHS = (1, 4, 12)
"""Those of the map, whose trainings behind a LayerNorm claim 5 shares."""


def long_training(quick: bool) -> dict[str, tuple[dict[str, Any], Overrides]]:
    """Name to (place, overrides): epochs with and without LayerNorm, and remedies for the longest training."""
    plain: list[tuple[str, Overrides]] = [("layer", {}), ("none", {_NORM: "none"})]
    remedies: dict[str, Overrides] = {
        "half averaged": {_AVERAGE: 0.5},
        "rate to zero": {_DECAY: "linear"},
    }
    epochs = (1, LONG_EPOCHS[1]) if quick else LONG_EPOCHS
    recipes_by_name: dict[str, tuple[dict[str, Any], Overrides]] = {}

    def add(member: FamilyMember, norm: str, count: int, remedy: str, changes: Overrides) -> None:
        place = {"activation": member.label, "norm": norm, "epochs": str(count), "remedy": remedy}
        name = "-".join(["long", *place.values()]).replace(" ", "-")
        recipes_by_name[name] = place, member.overrides | changes | {_EPOCHS: count}

    for norm, changes in plain[:1] if quick else plain:
        # The offset of SmeLU that centring removes matters without normalisation.
        centred = [FamilyMember("smelu", 1.0, centred=True)] if norm == "none" else []
        for member in (RELU, SMELU, *centred):
            for count in epochs:
                add(member, norm, count, "none", changes)
    for member in () if quick else (RELU, SMELU):
        for remedy, changes in remedies.items():
            add(member, "layer", epochs[-1], remedy, changes)
    return recipes_by_name


USEFUL = 0.01
"""A recipe is of use if its AUC is no more than this below the best recipe's: one that learns nothing agrees best."""
HOLDS = "**Holds.**"
IN_THE_MEAN = "**Holds in the mean, not over the whole interval.**"
FAILS = "**Fails.**"


def verdict(value: float, worst: float, bar: float) -> str:
    """Whether "at most `bar`" holds for the whole interval (its worst end is `worst`) or for the value alone."""
    if worst <= bar:
        return HOLDS
    return IN_THE_MEAN if value <= bar else FAILS


def frontier(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points that no other beats in both AUC and prediction difference, by rising AUC."""
    front: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda p: (-p["auc"], p["rpd_sym"])):
        if not front or point["rpd_sym"] < front[-1]["rpd_sym"]:
            front.append(point)
    return front[::-1]
