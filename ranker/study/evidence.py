"""The evidence: every claim of the project about prediction difference, tested on a prepared run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from ranker.config import Experiment
from ranker.divergence import Interval
from ranker.study import claims, output
from ranker.study.claims import RELU, verdict
from ranker.study.data import StudyData, load
from ranker.study.measured import Measured, auc_difference, ratio
from ranker.study.options import Options, Report
from ranker.study.recipes import arms, label, mitigations
from ranker.study.trainings import Scores, Trainings

_LOWER = 0.0003
"""An AUC whose difference's lower bound is above minus this counts as not lower."""

Rows = list[dict[str, Any]]


class Evidence:
    """Trains all that the claims need, and holds it.

    Args:
        experiment: the recipe the claims are about.
        run_dir: a prepared run.
        out: where pictures, tables and `evidence.json` go.
        options: how much to train.
        report: told what goes on.
    """

    def __init__(self, experiment: Experiment, run_dir: Path, out: Path, options: Options, report: Report):
        out.mkdir(parents=True, exist_ok=True)
        self.experiment, self.out, self.options = experiment, out, options
        self.data: StudyData = load(experiment, run_dir, options.rows)
        quick, rate = options.quick, self.rate
        wanted = claims.recipe(quick) | {n: own for n, (_, own) in claims.ladder(quick).items()}
        wanted |= claims.search(quick, rate)
        for family in claims.plane(quick, rate).values():
            wanted |= family
        wanted |= mitigations(quick)
        trainings = Trainings(self.data, run_dir, options.cache_in(out), options.lanes, report)
        self.scores: dict[str, Scores] = trainings.scores(arms(experiment, wanted), options.replicas)
        rows = np.ones(len(self.data.label), bool)
        self.measured = {name: Measured(self.data, rows, own.scores) for name, own in self.scores.items()}

    @property
    def rate(self) -> float:
        """The configured learning rate."""
        return self.experiment.training.optimizer.learning_rate

    def save(self, name: str, rows: Rows) -> Rows:
        """Writes a table; returns it."""
        output.save_table(self.out, name, rows)
        return rows


def run(experiment: Experiment, run_dir: Path, out: Path, options: Options, report: Report) -> dict[str, Any]:
    """Tests the claims.

    Returns:
        What the page says, as plain data; also in `evidence.json`.
    """
    it = Evidence(experiment, run_dir, out, options, report)
    found = {
        "name": experiment.name,
        "replicas": options.replicas,
        "quick": options.quick,
        "train_rows": int(it.data.train.label.shape[0]),
        "eval_rows": len(it.data.label),
        "requests": int(it.data.request.max()) + 1,
        "claims": [of(it) for of in (recipe_claim, plane_claim, free_claim, mitigation_claim)],
    }
    (out / "evidence.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def recipe_claim(it: Evidence) -> dict[str, Any]:
    """In the recipe: SmeLU against ReLU."""
    measured = it.measured
    rows = it.save("recipe", [comparison(name, measured, RELU) for name in claims.recipe(it.options.quick)])
    verdicts = []
    for name, bars in {"smelu-1": (0.60, 0.50, 0.0), "smelu-2": (0.45, 0.30, -_LOWER)}.items():
        if name not in measured:
            continue
        pd, swap = (ratio(measured[name], measured[RELU], m) for m in ("rpd_sym", "top1_swap"))
        auc = auc_difference(measured[name], measured[RELU])
        verdicts += [
            f"{name}: relative PD {of(pd)} of ReLU's; at most {bars[0]:.2f} {verdict(pd.value, pd.high, bars[0])}.",
            f"{name}: top1_swap {of(swap)} of ReLU's; at most {bars[1]:.2f} {verdict(swap.value, swap.high, bars[1])}.",
            f"{name}: AUC {of(auc, '+.4f')} against ReLU; above {bars[2]:+.4f} {verdict(-auc.value, -auc.low, -bars[2])}.",
        ]
    title = "In the recipe: same initialisation, windowed shuffle, LayerNorm"
    return {"title": title, "verdicts": verdicts, "rows": rows, "picture": ""}


def plane_claim(it: Evidence) -> dict[str, Any]:
    """Frontier against frontier at equal AUC."""
    families = claims.plane(it.options.quick, it.rate)
    measured = it.measured
    base = next(iter(families[RELU]))
    points = {family: [comparison(name, measured, base) for name in own] for family, own in families.items()}
    it.save("plane", [{"activation": family, **row} for family, rows in points.items() for row in rows])
    fronts = {family: claims.frontier(rows) for family, rows in points.items()}
    output.save_picture(it.out, "plane", draw_plane(points, fronts))
    rows, verdicts = [], []
    for family in [f for f in fronts if f != "smelu"]:
        found = [against(point, points["smelu"], measured) for point in fronts[family]]
        rows += [{"frontier of": family, **row} for row in found]
        reached = [row for row in found if row["smelu"] != "none"]
        bar = 0.6 if family == RELU else 1.0
        worst = max((row["ratio"] for row in reached), default=float("nan"))
        high = max((row["ratio_high"] for row in reached), default=float("nan"))
        verdicts.append(
            f"Against {family}'s frontier ({len(found)} recipes, {len(reached)} of them reached in AUC): at equal AUC or "
            f"better SmeLU has at most {worst:.2f} of its relative PD (upper bound {high:.2f}); at most {bar:g} along the "
            f"whole frontier {verdict(worst, high, bar) if len(reached) == len(found) else 'does not hold'}."
        )
    verdicts.append(too_smooth(measured, it.rate))
    return {
        "title": "On the plane: each activation's own frontier over recipes", "verdicts": verdicts,
        "rows": it.save("frontier", rows), "picture": "plane",
    }  # fmt: skip


def free_claim(it: Evidence) -> dict[str, Any]:
    """What initialisation and a full shuffle undo, and the best recipe where neither is controlled."""
    ladder = claims.ladder(it.options.quick)
    measured, found = it.measured, claims.search(it.options.quick, it.rate)
    steps = []
    for name, (place, _) in ladder.items():
        pd, auc = measured[name].interval("rpd_sym"), measured[name].auc()
        steps.append(
            {
                **place,
                "rpd_sym": of(pd),
                "top1_swap": of(measured[name].interval("top1_swap")),
                "auc": of(auc),
            }
        )
    it.save("ladder", steps)
    base = next(iter(found))
    rows = [comparison(name, measured, base, it.scores) for name in found]
    it.save("search", rows)
    held = [r for r in rows if r["auc_gain_low"] > -_LOWER]
    single = [r for r in held if r["parameters"] == rows[0]["parameters"]]
    verdicts = []
    for what, of_them in (("one model", single), ("several models", held)):
        best = min(of_them, key=lambda r: r["rpd_ratio_to_base"])
        verdicts.append(
            f"Best recipe served as {what}, AUC not lower: {best['recipe']}, {best['rpd_ratio_to_base']:.2f} "
            f"[{best['ratio_low']:.2f}, {best['ratio_high']:.2f}] of plain ReLU's relative PD, AUC {best['auc_gain']:+.4f} "
            f"[{best['auc_gain_low']:+.4f}, {best['auc_gain_high']:+.4f}]; half or less "
            f"{verdict(best['rpd_ratio_to_base'], best['ratio_high'], 0.5)}."
        )
    return {
        "title": "When neither initialisation nor order is controlled", "verdicts": verdicts, "rows": rows,
        "more": {"What each source undoes (weights averaged as configured)": steps}, "picture": "",
    }  # fmt: skip


def mitigation_claim(it: Evidence) -> dict[str, Any]:
    """SmeLU against what it is said to replace, with costs."""
    measured = it.measured
    recipes = [RELU, "smelu-1", *mitigations(it.options.quick)]
    rows = it.save("mitigations", [comparison(name, measured, RELU, it.scores) for name in recipes])
    verdicts = []
    for name in mitigations(it.options.quick):
        pd, auc = (
            ratio(measured["smelu-1"], measured[name], "rpd_sym"),
            auc_difference(measured["smelu-1"], measured[name]),
        )
        verdicts.append(
            f"SmeLU 1 alone against {name}: {of(pd)} of its relative PD, AUC {of(auc, '+.4f')}; steadier "
            f"{verdict(pd.value, pd.high, 1.0)}, AUC not lower {verdict(-auc.value, -auc.low, _LOWER)}."
        )
    return {
        "title": "Ensembles and distillation, with their cost",
        "verdicts": verdicts,
        "rows": rows,
        "picture": "",
    }


def comparison(
    name: str, measured: Mapping[str, Measured], base: str, scores: Mapping[str, Scores] | None = None
) -> dict[str, Any]:
    """One recipe's row: measures, and both differences from the base recipe, with 95% intervals."""
    it, against_base = measured[name], measured[base]
    pd, relative = it.interval("rpd_sym"), ratio(it, against_base, "rpd_sym")
    swap, gain, auc = it.interval("top1_swap"), auc_difference(it, against_base), it.auc()
    row = {
        "recipe": name, "auc": auc.value, "auc_gain": gain.value, "auc_gain_low": gain.low, "auc_gain_high": gain.high,
        "logloss": float(it.quality["logloss"].mean()),
        "rpd_sym": pd.value, "rpd_low": pd.low, "rpd_high": pd.high,
        "rpd_ratio_to_base": relative.value, "ratio_low": relative.low, "ratio_high": relative.high,
        "top1_swap": swap.value, "swap_low": swap.low, "swap_high": swap.high,
    }  # fmt: skip
    if scores is not None:
        costs = scores[name].costs
        row |= {
            "parameters": costs[0].parameters,
            "lookups": costs[0].lookups,
            "training_seconds": float(np.mean([c.training_seconds for c in costs])),
            "serving_ms": float(np.median([c.serving_milliseconds for c in costs])),
        }
    return row


def against(
    point: dict[str, Any], rivals: Sequence[dict[str, Any]], measured: Mapping[str, Measured]
) -> dict[str, Any]:
    """The steadiest rival whose AUC is at least a point's, against it."""
    row = {"recipe": point["recipe"], "auc": point["auc"], "rpd_sym": point["rpd_sym"]}
    good = [r for r in rivals if r["auc"] >= point["auc"]]
    if not good:
        nothing = float("nan")
        return row | {
            "smelu": "none",
            "smelu_auc": nothing,
            "ratio": nothing,
            "ratio_low": nothing,
            "ratio_high": nothing,
        }
    best = min(good, key=lambda r: r["rpd_sym"])
    found = ratio(measured[best["recipe"]], measured[point["recipe"]], "rpd_sym")
    return row | {
        "smelu": best["recipe"], "smelu_auc": best["auc"],
        "ratio": found.value, "ratio_low": found.low, "ratio_high": found.high,
    }  # fmt: skip


def too_smooth(measured: Mapping[str, Measured], rate: float) -> str:
    """Where a wider transition begins to cost AUC."""
    tail = f"-layer-norm-rate-{rate:g}-average-0.1"
    own = {
        label(*m): measured[label(*m) + tail] for m in claims.FAMILY["smelu"] if label(*m) + tail in measured
    }
    best = max(own, key=lambda name: own[name].quality["auc"].mean())
    parts = [
        f"{name} {of(auc_difference(m, own[best]), '+.4f')}" for name, m in own.items() if m is not own[best]
    ]
    others = ", ".join(parts) or "no other"
    return f"Smoothness: {best} has the best AUC of SmeLU in the recipe; against it in AUC: {others}."


def draw_plane(points: Mapping[str, Rows], fronts: Mapping[str, Rows]) -> mpl.figure.Figure:
    """Every recipe a dot, every frontier a line."""
    with mpl.rc_context(output.STYLE):
        drawn = output.figure(9, 5.5)
        axes = drawn.subplots()
        for (family, rows), colour in zip(points.items(), output.COLOURS, strict=False):
            axes.scatter(
                [r["auc"] for r in rows], [r["rpd_sym"] for r in rows], s=10, alpha=0.35, color=colour
            )
            front = fronts[family]
            errors = [
                [max(0.0, r["rpd_sym"] - r["rpd_low"]) for r in front],
                [max(0.0, r["rpd_high"] - r["rpd_sym"]) for r in front],
            ]
            axes.errorbar([r["auc"] for r in front], [r["rpd_sym"] for r in front], yerr=errors, fmt="-o", markersize=4,
                          color=colour, label=family)  # fmt: skip
        axes.set_xlabel("AUC (right is better)")
        axes.set_ylabel("relative prediction difference (lower is steadier)")
        axes.set_ylim(bottom=0)
        axes.legend()
    return drawn


def of(interval: Interval, form: str = ".3f") -> str:
    """A value with its interval as text."""
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"
