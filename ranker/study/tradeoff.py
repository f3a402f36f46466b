"""The plane of prediction difference and accuracy: what each activation and each mitigation buys, and for what.

Source: Shamir et al., "Smooth activations and reproducibility in deep networks", 2020 (arXiv 2010.09931), figures of
PD against loss; "Real world large scale recommendation systems reproducibility and smooth activations", 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import yaml

from ranker import divergence
from ranker.config import Experiment
from ranker.study import output
from ranker.study.data import StudyData, load
from ranker.study.measured import MeasuredRecipe, auc_difference, ratio
from ranker.study.options import Answer, Report, StudyOptions
from ranker.study.recipes import RELU, Overrides, arms, families, mitigations
from ranker.study.trainings import Scores, Trainings

RATE = "training.optimizer.learning_rate"
_TOLERANCE = 0.0003
"""An AUC lower by no more than this, at 95%, counts as not lower."""


def run(experiment: Experiment, run_dir: Path, out: Path, options: StudyOptions, report: Report) -> Answer:
    """Draws the plane and names the recipe that dominates.

    Args:
        experiment: the recipe that the studied ones vary.
        run_dir: a prepared run.
        out: the output directory.
        options: how much to train.
        report: gets a line of progress now and then.

    Returns:
        The answer; `recipe.yaml` beside the page is the configuration of the recipe it names.
    """
    out.mkdir(parents=True, exist_ok=True)
    data = load(experiment, run_dir, options.rows)
    trainings = Trainings(data, options.cache_in(out), options.lanes, report)
    family = {name: [m.label for m in members] for name, members in families(options.quick).items()}
    plain = {m.label: m.overrides for members in families(options.quick).values() for m in members}
    chosen = best_rates(experiment, plain, trainings, options.quick)
    rate = {RATE: chosen["relu"][RATE]}
    overrides = chosen | {name: mitigation | rate for name, mitigation in mitigations(options.quick).items()}
    scores = trainings.scores(arms(experiment, overrides), options.replicas)
    measured = {
        name: MeasuredRecipe(data, ~data.validation, arm_scores.scores) for name, arm_scores in scores.items()
    }
    rows = [_row(name, overrides[name], measured, scores[name]) for name in overrides]
    output.save_table(out, "tradeoff", rows)
    output.save_picture(out, "tradeoff", draw(rows, family))
    best = _dominant(rows)
    if best["recipe"] in family.get("smelu", []):
        _save_recipe(experiment, overrides[best["recipe"]], out)
    text = _say(best, rows)
    sections = [
        output.PageSection(
            "Prediction difference against ranking loss",
            "Each activation at its best learning rate; bars are 95% intervals over replicas and requests. Lower is "
            "steadier, further left ranks better.",
            "tradeoff",
        ),
        output.PageSection("Numbers", "", "", rows),
    ]
    return Answer(text, output.save_page(out, "What steadiness costs", text, sections))


def rates(experiment: Experiment, quick: bool) -> list[float]:
    """Learning rates to try: the configured one, twice it and, unless the run is quick, half of it."""
    configured = experiment.training.optimizer.learning_rate
    return [configured, 2 * configured] if quick else [configured / 2, configured, 2 * configured]


def best_rates(
    experiment: Experiment, overrides: Mapping[str, Overrides], trainings: Trainings, quick: bool
) -> dict[str, Overrides]:
    """Adds to each recipe the learning rate with the best AUC on validation requests, of one replica a rate.

    The study's results leave these requests out.
    """
    tried = {
        f"{name}-rate-{rate:g}": {**recipe, RATE: rate}
        for name, recipe in overrides.items()
        for rate in rates(experiment, quick)
    }
    scores_by_name = trainings.scores(arms(experiment, tried), 1)
    quality = {
        name: validation_auc(trainings.data, recipe_scores.scores[0])
        for name, recipe_scores in scores_by_name.items()
    }
    best = {}
    for name, recipe in overrides.items():
        rate = max(rates(experiment, quick), key=lambda r: quality[f"{name}-rate-{r:g}"])
        best[name] = {**recipe, RATE: rate}
    return best


def validation_auc(data: StudyData, scores: np.ndarray) -> float:
    """The AUC on the validation requests; `scores` are of all held-out rows [rows]."""
    return divergence.auc(data.label[data.validation], scores[data.validation])


def _row(
    name: str, recipe: Overrides, measured: Mapping[str, MeasuredRecipe], scores: Scores
) -> dict[str, Any]:
    it, relu = measured[name], measured["relu"]
    pd, swap = it.interval("rpd_sym"), it.interval("top1_swap")
    against, auc = ratio(it, relu, "rpd_sym"), it.auc()
    gain = auc_difference(it, relu)
    loss, base = it.ranking_losses, relu.ranking_losses.mean()
    percent = 100 * (loss / base - 1)
    cost = scores.costs
    return {
        "recipe": name, "learning_rate": float(recipe[RATE]), "replicas": len(scores.scores),
        "rpd_sym": pd.value, "rpd_sym_low": pd.low, "rpd_sym_high": pd.high,
        "rpd_vs_relu": against.value, "rpd_vs_relu_low": against.low, "rpd_vs_relu_high": against.high,
        "top1_swap": swap.value, "top1_swap_low": swap.low, "top1_swap_high": swap.high,
        "auc": auc.value, "auc_low": auc.low, "auc_high": auc.high,
        "auc_gain": gain.value, "auc_gain_low": gain.low, "auc_gain_high": gain.high,
        "logloss": float(it.loglosses.mean()),
        "ranking_loss": float(loss.mean()),
        "ranking_loss_change": float(percent.mean()), "ranking_loss_change_std": float(percent.std(ddof=1)),
        "parameters": cost[0].parameters, "lookups": cost[0].lookups,
        "training_seconds": float(np.mean([c.training_seconds for c in cost])),
        "serving_milliseconds": float(np.median([c.serving_milliseconds for c in cost])),
    }  # fmt: skip


def draw(rows: list[dict[str, Any]], family: Mapping[str, list[str]]) -> mpl.figure.Figure:
    """One curve an activation, a point a mitigation."""
    by_name = {row["recipe"]: row for row in rows}
    with mpl.rc_context(output.STYLE):
        drawn = output.figure(9, 6)
        axes = drawn.subplots()
        for i, (name, members) in enumerate(family.items()):
            _curve(axes, [by_name[m] for m in members], name, output.COLOURS[i], "-o")
        in_family = {m for members in family.values() for m in members}
        for row in rows:
            if row["recipe"] not in in_family:
                _curve(axes, [row], row["recipe"], output.COLOURS[-1], "D")
        axes.set_xlabel("change of the ranking loss against ReLU, %")
        axes.set_ylabel("relative prediction difference (rpd_sym)")
        axes.set_ylim(bottom=0)
        axes.legend(list(family), loc="best")
    return drawn


def _curve(axes: Any, rows: list[dict[str, Any]], name: str, colour: str, form: str) -> None:
    x = [row["ranking_loss_change"] for row in rows]
    y = [row["rpd_sym"] for row in rows]
    low = [row["rpd_sym"] - row["rpd_sym_low"] for row in rows]
    high = [row["rpd_sym_high"] - row["rpd_sym"] for row in rows]
    axes.plot(x, y, form, color=colour, label=name, markersize=5)
    axes.errorbar(x, y, yerr=np.maximum([low, high], 0), xerr=[r["ranking_loss_change_std"] for r in rows],
                  fmt="none", color=colour, alpha=0.5, linewidth=1)  # fmt: skip
    for row, across, upward in zip(rows, x, y, strict=True):
        axes.annotate(row["recipe"], (across, upward), textcoords="offset points", xytext=(5, 4), fontsize=7)


def _dominant(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The steadiest recipe of one model's cost whose AUC is not lower than ReLU's."""
    single = rows[0]["lookups"]
    held = [r for r in rows if r["auc_gain_low"] > -_TOLERANCE and r["lookups"] == single]
    return min(held or [rows[0]], key=lambda r: r["rpd_sym"])


def _say(best: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    relu = next(r for r in rows if r["recipe"] == "relu")
    if best["recipe"] == "relu":
        return "No recipe is steadier than ReLU here without losing AUC."
    return (
        f"{best['recipe']} dominates: {best['rpd_vs_relu']:.2f} of ReLU's relative prediction difference "
        f"[{best['rpd_vs_relu_low']:.2f}, {best['rpd_vs_relu_high']:.2f}], top-1 swaps {best['top1_swap']:.3f} against "
        f"{relu['top1_swap']:.3f}, AUC {best['auc_gain']:+.4f} [{best['auc_gain_low']:+.4f}, "
        f"{best['auc_gain_high']:+.4f}], at learning rate {best['learning_rate']:g}."
    )


def _save_recipe(experiment: Experiment, recipe: Overrides, out: Path) -> None:
    tree = experiment.model_dump(mode="json") | {"arms": {"smelu": recipe, "relu": RELU.overrides}}
    (out / "recipe.yaml").write_text(
        yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
