"""The best recipe for this log: every activation at several places of the plane, the steadiest of equal AUC against ReLU.

Two rounds. A few replicas of every candidate are compared on the validation requests, which choose. The chosen ones are
trained anew with more replicas and measured on the other requests, so that the choice does not flatter its own figures.

Source: Shamir et al., "Smooth activations and reproducibility in deep networks", 2020 (arXiv 2010.09931), figures of
PD against loss; "Real world large scale recommendation systems reproducibility and smooth activations", 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from ranker.config import Experiment
from ranker.study import claims, output
from ranker.study.comparison import Row, comparison
from ranker.study.data import load
from ranker.study.evidence_pictures import plane
from ranker.study.measured import MeasuredRecipe
from ranker.study.options import Answer, Report, StudyOptions
from ranker.study.recipes import RELU, SMELU, FamilyMember, Overrides, arms
from ranker.study.trainings import Trainings

_TOLERANCE = 0.0003
"""An AUC lower by no more than this counts as not lower."""
_SCREENED = 2
"""Replicas of every candidate."""
_ROW_PASSES = 1_000_000
"""Rows times epochs of one training at most: about 90 trainings then take ten minutes on two cores."""

CANDIDATES: dict[str, list[FamilyMember]] = {
    "relu": [RELU],
    "smelu": [
        FamilyMember("smelu", 0.5),
        SMELU,
        FamilyMember("smelu", 2.0),
        FamilyMember("smelu", 1.0, centred=True),
        FamilyMember("smelu", 2.0, centred=True),
    ],
    "swish": [FamilyMember("swish", 1.0)],
    "gelu": [FamilyMember("gelu")],
}
"""Activation to the members that are tried."""


@dataclass(frozen=True)
class Choice:
    """What the first round chose.

    Attributes:
        base: ReLU's candidate of the highest AUC.
        steadiest: each activation's steadiest candidate whose AUC is not below the base's; where it has none, the one of
            the highest AUC.
        best: the steadiest of these whose AUC is not below the base's, over all activations.
    """

    base: str
    steadiest: dict[str, str]
    best: str


def run(experiment: Experiment, run_dir: Path, out: Path, options: StudyOptions, report: Report) -> Answer:
    """Draws the plane, names the best recipe, and states its gain over ReLU, also where there is none.

    Args:
        experiment: the recipe that the studied ones vary.
        run_dir: a prepared run.
        out: the output directory.
        options: how much to train. Without `rows` a training takes at most a million rows times epochs.
        report: gets a line of progress now and then.

    Returns:
        The answer; `recipe.yaml` beside the page is the configuration of the recipe it names, with ReLU as the other arm.
    """
    out.mkdir(parents=True, exist_ok=True)
    most = options.rows or max(1, _ROW_PASSES // experiment.training.count_of_epochs)
    data = load(experiment, run_dir, most)
    trainings = Trainings(options.cache_in(out), options.lanes, report)
    recipes = candidates(options.quick, experiment.training.optimizer.learning_rate)
    by_name = {name: overrides for members in recipes.values() for name, overrides in members.items()}
    screened = {
        name: MeasuredRecipe(data, data.validation, scores.scores)
        for name, scores in trainings.scores(data, arms(experiment, by_name), _SCREENED).items()
    }
    base = _of_highest_auc(list(recipes[RELU.name]), screened)
    points = {f: [comparison(name, screened, base) for name in members] for f, members in recipes.items()}
    chosen = choose(points, base)
    finalists = {name: by_name[name] for name in dict.fromkeys([base, *chosen.steadiest.values()])}
    scores = trainings.scores(data, arms(experiment, finalists), options.replicas)
    measured = {n: MeasuredRecipe(data, ~data.validation, s.scores) for n, s in scores.items()}
    rows = [comparison(name, measured, base, scores) for name in finalists]
    text = say(rows, chosen) + _said_of_size(int(data.train.label.shape[0]), most)
    output.save_table(out, "tradeoff", rows)
    output.save_table(
        out, "candidates", [{"activation": f, **row} for f, of_family in points.items() for row in of_family]
    )
    fronts = {family: claims.frontier(of_family) for family, of_family in points.items()}
    useful = max(row["auc"] for of_family in points.values() for row in of_family) - claims.USEFUL
    output.save_picture(out, "tradeoff", plane(points, fronts, useful))
    _save_recipe(experiment, {chosen.best: by_name[chosen.best], base: by_name[base]}, out)
    sections = [
        output.PageSection(
            "Prediction difference against AUC",
            f"Every candidate with {_SCREENED} replicas on the validation requests, and each activation's frontier. Lower "
            "is steadier, further right ranks better.",
            "tradeoff",
        ),
        output.PageSection("The chosen recipes, anew and on the other requests", "", "", rows),
    ]
    return Answer(text, output.save_page(out, "The best recipe for this log", text, sections))


def candidates(quick: bool, rate: float) -> dict[str, dict[str, Overrides]]:
    """Activation to its candidates: the evidence's plane with these members."""
    return claims.plane(quick, rate, None if quick else CANDIDATES)


def choose(points: Mapping[str, Sequence[Row]], base: str) -> Choice:
    """Chooses by the first round's rows, activation by activation."""
    by_name = {row["recipe"]: row for rows in points.values() for row in rows}
    floor = by_name[base]["auc"] - _TOLERANCE
    steadiest = {}
    for family, rows in points.items():
        not_lower = [row for row in rows if row["auc"] >= floor]
        row = min(not_lower, key=lambda r: r["rpd_sym"]) if not_lower else max(rows, key=lambda r: r["auc"])
        steadiest[family] = row["recipe"]
    eligible = [name for name in steadiest.values() if by_name[name]["auc"] >= floor]
    return Choice(base, steadiest, min(eligible, key=lambda name: by_name[name]["rpd_sym"]))


def say(rows: Sequence[Row], choice: Choice) -> str:
    """The answer: the best recipe's gain over ReLU with its interval, or that none is shown."""
    by_name = {row["recipe"]: row for row in rows}
    best, relu = by_name[choice.best], by_name[choice.base]
    if choice.best == choice.steadiest[RELU.name]:
        return f"Nothing tried is steadier than ReLU here without losing AUC; its recipe is {choice.best}."
    against = (
        f"{best['rpd_ratio']:.2f} [{best['ratio_low']:.2f}, {best['ratio_high']:.2f}] of the relative prediction difference "
        f"of ReLU at its best ({choice.base}), top-1 swaps {best['top1_swap']:.3f} against {relu['top1_swap']:.3f}, "
        f"expected clicks lost {best['consensus_regret']:.2g} against {relu['consensus_regret']:.2g}, AUC "
        f"{best['auc_gain']:+.4f} [{best['auc_gain_low']:+.4f}, {best['auc_gain_high']:+.4f}]"
    )
    steady_relu = by_name[choice.steadiest[RELU.name]]
    relu_alone = (
        f" ReLU's own steadiest recipe of that AUC, {steady_relu['recipe']}, has {steady_relu['rpd_ratio']:.2f} "
        f"[{steady_relu['ratio_low']:.2f}, {steady_relu['ratio_high']:.2f}]."
    )
    if best["ratio_high"] >= 1:
        return f"No gain over ReLU is shown: the best recipe, {choice.best}, has {against}.{relu_alone}"
    return f"The best recipe is {choice.best}: {against}.{relu_alone}"


def _said_of_size(rows: int, most: int) -> str:
    return f" Measured on the first {rows:,} training rows; --rows takes more." if rows == most else ""


def _of_highest_auc(names: Sequence[str], measured: Mapping[str, MeasuredRecipe]) -> str:
    return max(names, key=lambda name: float(np.mean(measured[name].aucs)))


def _save_recipe(experiment: Experiment, recipes: Mapping[str, Overrides], out: Path) -> None:
    tree = experiment.model_dump(mode="json") | {"arms": dict(recipes)}
    (out / "recipe.yaml").write_text(
        yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
