"""The evidence: every claim of the project about prediction difference, tested on a prepared run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ranker.config import Experiment
from ranker.errors import UserError
from ranker.json_text import json_text
from ranker.study import claims, output
from ranker.study.claims import RELU, verdict
from ranker.study.comparison import Row, as_text, compare_with_rival, comparison
from ranker.study.data import StudyData, load
from ranker.study.evidence_pictures import labelled, plane
from ranker.study.measured import MeasuredRecipe, auc_difference, ratio
from ranker.study.options import Report, StudyOptions
from ranker.study.recipes import arms, label, mitigations
from ranker.study.trainings import Scores, Trainings

LOWER = 0.0003
"""An AUC whose difference's lower bound is above minus this counts as not lower."""

Claim = dict[str, Any]


class Evidence:
    """The trained and measured recipes that the claims need.

    Args:
        experiment: the recipe the claims are about.
        run_dir: a prepared run.
        out: where pictures, tables and `evidence.json` go.
        options: how much to train.
        report: gets a line of progress now and then.
        chosen: the claims' numbers.
    """

    def __init__(
        self,
        experiment: Experiment,
        run_dir: Path,
        out: Path,
        options: StudyOptions,
        report: Report,
        chosen: Sequence[int],
    ):
        out.mkdir(parents=True, exist_ok=True)
        self.experiment, self.out, self.options = experiment, out, options
        self.data: StudyData = load(experiment, run_dir, options.rows)
        recipes = claims.recipes(chosen, options.quick, self.rate)
        trainings = Trainings(self.data, options.cache_in(out), options.lanes, report)
        self.scores: dict[str, Scores] = trainings.scores(arms(experiment, recipes), options.replicas)
        rows = np.ones(len(self.data.label), bool)
        self.measured = {
            name: MeasuredRecipe(self.data, rows, recipe_scores.scores)
            for name, recipe_scores in self.scores.items()
        }

    @property
    def rate(self) -> float:
        """The configured learning rate."""
        return self.experiment.training.optimizer.learning_rate

    def save(self, name: str, rows: list[Row]) -> None:
        """Writes a table."""
        output.save_table(self.out, name, rows, ["csv"])

    def claim(self, name: str, verdicts: list[str], rows: list[Row], drawn: Figure, about: str) -> Claim:
        """Writes a claim's table and picture; returns what the page says of it."""
        self.save(name, rows)
        output.save_picture(self.out, name, drawn, ["svg"])
        return {"verdicts": verdicts, "rows": rows, "picture": name, "about": about}


def run(
    experiment: Experiment,
    run_dir: Path,
    out: Path,
    options: StudyOptions,
    report: Report,
    chosen: Sequence[int] = claims.ALL,
) -> dict[str, Any]:
    """Tests the claims with the numbers given; arguments as `Evidence`.

    Returns:
        What the page says, as plain data; also in `evidence.json`.

    Raises:
        UserError: no such claim.
    """
    unknown = [number for number in chosen if number not in claims.ALL]
    if unknown or not chosen:
        raise UserError(f"--claim must be one of {', '.join(map(str, claims.ALL))}. Received: {unknown}")
    it = Evidence(experiment, run_dir, out, options, report, chosen)
    document = {
        "name": experiment.name,
        "replicas": options.replicas,
        "quick": options.quick,
        "train_rows": int(it.data.train.label.shape[0]),
        "eval_rows": len(it.data.label),
        "requests": int(it.data.request.max()) + 1,
        "claims": [
            {"number": number, "title": claims.TITLES[number], **CLAIMS[number](it)}
            for number in sorted(set(chosen))
        ],
    }
    (out / "evidence.json").write_text(json_text(document, indent=1) + "\n", encoding="utf-8")
    return document


def recipe_claim(it: Evidence) -> Claim:
    """In the recipe: SmeLU against ReLU."""
    rows = [comparison(name, it.measured, RELU) for name in claims.recipe(it.options.quick)]
    verdicts = []
    for name, (most, swaps, gain) in claims.BARS.items():
        if name not in it.measured:
            continue
        pd, swap = (ratio(it.measured[name], it.measured[RELU], m) for m in ("rpd_sym", "top1_swap"))
        auc = auc_difference(it.measured[name], it.measured[RELU])
        verdicts += [
            f"{verdict(pd.value, pd.high, most)} {name} has at most {most:.2f} of ReLU's relative PD: {as_text(pd)}.",
            f"{verdict(swap.value, swap.high, swaps)} {name} has at most {swaps:.2f} of ReLU's top1_swap: {as_text(swap)}.",
            f"{verdict(-auc.value, -auc.low, -gain)} {name}'s AUC is "
            f"{'above' if gain == 0 else f'at most {-gain:g} below'} ReLU's: {as_text(auc, '+.4f')}.",
        ]
    return it.claim(
        "recipe",
        verdicts,
        rows,
        labelled(rows),
        f"Compared with {RELU}, the same recipe with ReLU. `last-step`: without averaging of the weights. `embeddings-0`: "
        "embeddings start from zero, which ReLU never leaves (see the plane).",
    )


def plane_claim(it: Evidence) -> Claim:
    """Compares the frontiers of the activations at equal AUC."""
    families = claims.plane(it.options.quick, it.rate)
    base = next(iter(families[RELU]))
    points = {f: [comparison(name, it.measured, base) for name in recipes] for f, recipes in families.items()}
    it.save("plane", [{"activation": family, **row} for family, rows in points.items() for row in rows])
    fronts = {family: claims.frontier(rows) for family, rows in points.items()}
    useful = max(row["auc"] for recipes in points.values() for row in recipes) - claims.USEFUL
    rows, verdicts = [], []
    for family in [f for f in fronts if f != "smelu"]:
        comparisons = [compare_with_rival(point, points["smelu"], it.measured) for point in fronts[family]]
        rows += [{"frontier of": family, **row} for row in comparisons]
        verdicts.append(frontier_verdict(family, [r for r in comparisons if r["auc"] >= useful], useful))
        weak = [r["rpd_ratio"] for r in comparisons if r["auc"] < useful]
        if weak:
            verdicts.append(
                f"Below that AUC {family}'s frontier goes on ({len(weak)} more); there SmeLU has {_span(weak)} of the "
                "relative PD."
            )
    verdicts.append(smoothness_verdict(it.measured, it.rate))
    about = (
        f"{sum(map(len, points.values()))} recipes; dots are recipes, lines frontiers. The picture leaves out those of an "
        "AUC below what is of use. Every recipe: plane.csv."
    )
    return it.claim("frontier", verdicts, rows, plane(points, fronts, useful), about)


def frontier_verdict(family: str, comparisons: Sequence[Row], useful: float) -> str:
    """Says whether SmeLU is steadier than each recipe of a frontier at equal or better AUC; if not, from which AUC on."""
    if not comparisons:
        return f"{family} has no recipe of use, from an AUC of {useful:.4f} on."
    bar = 0.6 if family == RELU else 1.0
    sentence = (
        f"At equal AUC or better SmeLU has at most {bar:g} of {family}'s relative PD along {family}'s frontier where it "
        f"is of use, from an AUC of {useful:.4f} on: {_worst(comparisons)}"
    )
    if all(row["rpd_ratio"] <= bar for row in comparisons):
        return f"{verdict(0.0, max(row['ratio_high'] for row in comparisons), bar)} {sentence}."
    first = next(
        (i for i in range(len(comparisons)) if all(r["rpd_ratio"] <= bar for r in comparisons[i:])), None
    )
    if first is None:
        return f"{claims.FAILS} {sentence}."
    above = comparisons[first:]
    return f"{claims.FAILS} {sentence}. It holds from an AUC of {above[0]['auc']:.4f} on: {_worst(above)}."


def _worst(comparisons: Sequence[Row]) -> str:
    missed = sum(row["smelu"] == "none" for row in comparisons)
    ratios = [(row["rpd_ratio"], row["ratio_high"]) for row in comparisons if row["smelu"] != "none"]
    worst, high = (max(column) for column in zip(*ratios, strict=True)) if ratios else (float("inf"),) * 2
    unmatched = f", {missed} of them unmatched in AUC" if missed else ""
    count = "1 recipe" if len(comparisons) == 1 else f"{len(comparisons)} recipes"
    return f"{count}{unmatched}, at most {worst:.2f} (upper bound {high:.2f})"


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def free_claim(it: Evidence) -> Claim:
    """What free initialisation and a full shuffle cost, and the best recipe where a team controls neither."""
    recipes = claims.search(it.options.quick, it.rate)
    steps = []
    for name, (place, _) in claims.ladder(it.options.quick).items():
        measured = it.measured[name]
        pd, swap = (as_text(measured.interval(m)) for m in ("rpd_sym", "top1_swap"))
        steps.append({**place, "rpd_sym": pd, "top1_swap": swap, "auc": as_text(measured.auc(), ".4f")})
    it.save("ladder", steps)
    base = next(iter(recipes))
    rows = [comparison(name, it.measured, base, it.scores) for name in recipes]
    not_lower = [r for r in rows if r["auc_gain_low"] > -LOWER]
    single = [r for r in not_lower if r["lookups"] == rows[0]["lookups"]]
    verdicts = []
    for served, candidates in (("one model", single), ("one model or several", not_lower)):
        best = min(candidates, key=lambda r: r["rpd_ratio"])
        verdicts.append(
            f"{verdict(best['rpd_ratio'], best['ratio_high'], 0.5)} A recipe served as {served} halves plain ReLU's "
            f"relative PD at an AUC not lower; the best is {best['recipe']}: {best['rpd_ratio']:.2f} "
            f"[{best['ratio_low']:.2f}, {best['ratio_high']:.2f}], AUC {best['auc_gain']:+.4f} "
            f"[{best['auc_gain_low']:+.4f}, {best['auc_gain_high']:+.4f}]."
        )
    plain = min((r for r in single if r["recipe"].startswith(f"free-{RELU}")), key=lambda r: r["rpd_ratio"])
    verdicts.append(
        f"ReLU's own best is {plain['recipe']}: {plain['rpd_ratio']:.2f} [{plain['ratio_low']:.2f}, "
        f"{plain['ratio_high']:.2f}], AUC {plain['auc_gain']:+.4f}, top1_swap {plain['top1_swap']:.3f}."
    )
    about = f"Tried under a full shuffle from other initialisations, compared with {base}."
    claim = it.claim("search", verdicts, rows, labelled(rows), about)
    return claim | {"more": {"What each source costs, weights averaged over the last 10%": steps}}


def mitigation_claim(it: Evidence) -> Claim:
    """SmeLU against the mitigations that it should replace, with costs."""
    recipes = mitigations(it.options.quick)
    rows = [comparison(name, it.measured, RELU, it.scores) for name in [RELU, "smelu-1", *recipes]]
    verdicts = []
    for name in recipes:
        pd = ratio(it.measured["smelu-1"], it.measured[name], "rpd_sym")
        auc = auc_difference(it.measured["smelu-1"], it.measured[name])
        verdicts += [
            f"{verdict(pd.value, pd.high, 1.0)} smelu-1 alone is steadier than {name}: {as_text(pd)} of its relative PD.",
            f"{verdict(-auc.value, -auc.low, LOWER)} smelu-1's AUC is not below that of {name}: {as_text(auc, '+.4f')}.",
        ]
    about = "Costs are of one replica; training seconds are its share of a stack, teachers included."
    return it.claim("mitigations", verdicts, rows, labelled(rows), about)


def smoothness_verdict(measured: Mapping[str, MeasuredRecipe], rate: float) -> str:
    """Says from which width of the transition on SmeLU loses AUC."""
    tail = f"-layer-norm-rate-{rate:g}-average-0.1"
    measured_by_name = {
        label(*m): measured[label(*m) + tail] for m in claims.FAMILY["smelu"] if label(*m) + tail in measured
    }
    best = max(measured_by_name, key=lambda name: measured_by_name[name].aucs.mean())
    parts = [
        f"{name} {as_text(auc_difference(m, measured_by_name[best]), '+.4f')}"
        for name, m in measured_by_name.items()
        if m is not measured_by_name[best]
    ]
    losses = ", ".join(parts) or "no other"
    return f"Smoothness: {best} has the best AUC of SmeLU in the recipe; against it in AUC: {losses}."


CLAIMS: dict[int, Callable[[Evidence], Claim]] = {
    1: recipe_claim,
    2: plane_claim,
    3: free_claim,
    4: mitigation_claim,
}
