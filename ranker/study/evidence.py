"""The evidence: every claim of the project about prediction difference, tested on a prepared run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ranker.config import Experiment
from ranker.errors import UserError
from ranker.json_text import json_text
from ranker.study import claims, output
from ranker.study.claims import verdict
from ranker.study.comparison import Row, as_text, compare_with_rival, comparison
from ranker.study.data import StudyData, load
from ranker.study.evidence_conditions import (
    LOWER,
    long_training_claim,
    machines_claim,
    remedies_claim,
)
from ranker.study.evidence_map import map_claim
from ranker.study.evidence_pictures import labelled, plane
from ranker.study.measured import MeasuredRecipe, auc_difference, ratio
from ranker.study.options import Report, StudyOptions
from ranker.study.recipes import FAMILIES, RELU, SMELU, Overrides, arms, mitigations
from ranker.study.trainings import Scores, Trainings

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
        self.experiment, self.run_dir, self.out = experiment, run_dir, out
        self.options, self.report = options, report
        self.data: StudyData = load(experiment, run_dir, options.rows)
        self.scores: dict[str, Scores] = {}
        self.measured: dict[str, MeasuredRecipe] = {}
        recipes = claims.recipes(chosen, options.quick, self.rate, self.epochs)
        if recipes:
            self.train(recipes)

    def train(self, recipes: Mapping[str, Overrides]) -> None:
        """Trains and measures recipes."""
        scores = self.scores_by_log([(self.data, recipes)])[0]
        self.scores |= scores
        self.measured |= self.measure(self.data, scores)

    def scores_by_log(
        self, recipes_by_log: Sequence[tuple[StudyData, Mapping[str, Overrides]]]
    ) -> list[dict[str, Scores]]:
        """The predictions of recipes on changes of the log, each list of recipes on its rows."""
        trainings = Trainings(self.options.cache_in(self.out), self.options.lanes, self.report)
        experiments_by_log = [(data, arms(self.experiment, recipes)) for data, recipes in recipes_by_log]
        return trainings.scores_by_log(experiments_by_log, self.options.replicas)

    @staticmethod
    def measure(data: StudyData, scores: Mapping[str, Scores]) -> dict[str, MeasuredRecipe]:
        """Recipes measured on all held-out rows of `data`."""
        rows = np.ones(len(data.label), bool)
        return {name: MeasuredRecipe(data, rows, recipe.scores) for name, recipe in scores.items()}

    @property
    def rate(self) -> float:
        """The configured learning rate."""
        return self.experiment.training.optimizer.learning_rate

    @property
    def epochs(self) -> int:
        """The configured number of epochs."""
        return self.experiment.training.count_of_epochs

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
        What the page says, as plain data; also in `evidence.json`, where the claims that are not chosen stay as an earlier
        run left them, each with the size of its run.

    Raises:
        UserError: no such claim.
    """
    unknown = [number for number in chosen if number not in claims.ALL]
    if unknown or not chosen:
        raise UserError(f"--claim must be one of {', '.join(map(str, claims.ALL))}. Received: {unknown}")
    path = out / "evidence.json"
    by_number = {} if options.quick else _earlier(path)
    document: dict[str, Any] = {}
    for share in claims.PLAN:
        numbers = [number for number in share.numbers if number in chosen]
        if not numbers:
            continue
        began = _processor_seconds()
        limits = [rows for rows in (share.rows, options.rows) if rows is not None]
        limited = replace(options, rows=min(limits, default=None))
        it = Evidence(
            experiment=experiment, run_dir=run_dir, out=out, options=limited, report=report, chosen=numbers
        )
        size = {
            "replicas": options.replicas,
            "quick": options.quick,
            "train_rows": int(it.data.train.label.shape[0]),
            "eval_rows": len(it.data.label),
            "requests": int(it.data.request.max()) + 1,
        }
        trained = {"numbers": numbers, "rows": size["train_rows"], "replicas": options.replicas}
        earlier = [_spent(by_number[number], trained) for number in numbers if number in by_number]
        for number in numbers:
            title = claims.TITLES[number]
            by_number[number] = {"number": number, "title": title, **size, **CLAIMS[number](it)}
        seconds = max(round(_processor_seconds() - began), *earlier, 0)
        for number in numbers:
            by_number[number]["cost"] = {**trained, "processor_seconds": seconds}
        document = {"name": experiment.name, "claims": [by_number[n] for n in sorted(by_number)]}
        # After each share: the next ones may take long, and may be stopped.
        path.write_text(json_text(document, indent=1) + "\n", encoding="utf-8")
    return document


def _spent(earlier: Claim, trained: Mapping[str, Any]) -> int:
    """The processor seconds of an earlier run that trained what this one reads; else 0."""
    cost = earlier.get("cost", {})
    return cost["processor_seconds"] if trained.items() <= cost.items() else 0


def _processor_seconds() -> float:
    """Of this process and those that it has started and that have ended."""
    return sum(os.times()[:4])


def _earlier(path: Path) -> dict[int, Claim]:
    """The claims of earlier runs that were not quick, by number."""
    if not path.exists():
        return {}
    saved = json.loads(path.read_text(encoding="utf-8"))["claims"]
    claims_by_number = {claim["number"]: claim for claim in saved if not claim["quick"]}
    for claim in claims_by_number.values():
        # JSON has no NaN: of a recipe without a match in AUC there is no ratio.
        claim["rows"] = [
            {k: float("nan") if v is None else v for k, v in row.items()} for row in claim["rows"]
        ]
    return claims_by_number


def recipe_claim(it: Evidence) -> Claim:
    """In the recipe: SmeLU against ReLU."""
    base = RELU.label
    rows = [comparison(name, it.measured, base) for name in claims.recipe(it.options.quick)]
    verdicts = []
    for name, (most, swaps, gain) in claims.BARS.items():
        if name not in it.measured:
            continue
        pd, swap = (ratio(it.measured[name], it.measured[base], m) for m in ("rpd_sym", "top1_swap"))
        auc = auc_difference(it.measured[name], it.measured[base])
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
        f"Compared with {base}, the same recipe with ReLU. `last-step`: without averaging of the weights. `embeddings-0`: "
        "embeddings start from zero, which ReLU never leaves (see the plane).",
    )


def plane_claim(it: Evidence) -> Claim:
    """Compares the frontiers of the activations at equal AUC."""
    families = claims.plane(it.options.quick, it.rate)
    base = next(iter(families[RELU.label]))
    points = {f: [comparison(name, it.measured, base) for name in recipes] for f, recipes in families.items()}
    it.save("plane", [{"activation": family, **row} for family, rows in points.items() for row in rows])
    fronts = {family: claims.frontier(rows) for family, rows in points.items()}
    useful = max(row["auc"] for recipes in points.values() for row in recipes) - claims.USEFUL
    rows, verdicts = [], []
    for family in [f for f in fronts if f != SMELU.name]:
        comparisons = [compare_with_rival(point, points[SMELU.name], it.measured) for point in fronts[family]]
        rows += [{"frontier of": family, **row} for row in comparisons]
        verdicts += frontier_verdicts(family, [r for r in comparisons if r["auc"] >= useful], useful)
        weak = [r["rpd_ratio"] for r in comparisons if r["auc"] < useful]
        if weak:
            verdicts.append(
                f"Below that AUC {family}'s frontier goes on ({len(weak)} more); there SmeLU has {_span(weak)} of the "
                "relative PD."
            )
    verdicts.append(smoothness_verdict(it.measured, it.rate))
    about = (
        f"{sum(map(len, points.values()))} recipes; dots are recipes, lines frontiers. SmeLU's family has its centred "
        "members. The picture leaves out recipes of an AUC below what is of use. Every recipe: plane.csv."
    )
    return it.claim("frontier", verdicts, rows, plane(points, fronts, useful), about)


def frontier_verdicts(family: str, comparisons: Sequence[Row], useful: float) -> list[str]:
    """Says whether SmeLU is steadier than each recipe of a frontier at equal or better AUC; if not, from which AUC on."""
    if not comparisons:
        return [f"{family} has no recipe of use, from an AUC of {useful:.4f} on."]
    bar, upper_bar = claims.RELU_BAR if family == RELU.label else claims.RIVAL_BAR
    bounded = f"{bar:g}" if bar == upper_bar else f"{bar:g} (upper bound {upper_bar:g})"
    verdicts = [
        f"{_along(comparisons, bar, upper_bar)} At equal AUC or better SmeLU has at most {bounded} of {family}'s "
        f"relative PD along {family}'s frontier where it is of use, from an AUC of {useful:.4f} on: {_worst(comparisons)}."
    ]
    if verdicts[0].startswith(claims.FAILS):
        # A recipe without a match in AUC has a ratio of NaN, which is at most nothing.
        first = next(
            (i for i in range(len(comparisons)) if all(r["rpd_ratio"] <= bar for r in comparisons[i:])), None
        )
        if first is not None:
            above = comparisons[first:]
            verdicts[0] += f" It holds from an AUC of {above[0]['auc']:.4f} on: {_worst(above)}."
    if family != RELU.label:
        half = comparisons[len(comparisons) // 2 :]
        verdicts.append(
            f"{_along(half, claims.UPPER_HALF_BAR, claims.UPPER_HALF_BAR)} On the half of that frontier with the higher "
            f"AUC it has at most {claims.UPPER_HALF_BAR:g}: {_worst(half)}."
        )
    return verdicts


def _along(comparisons: Sequence[Row], bar: float, upper_bar: float) -> str:
    if not all(row["rpd_ratio"] <= bar for row in comparisons):
        return claims.FAILS
    return claims.HOLDS if all(row["ratio_high"] <= upper_bar for row in comparisons) else claims.IN_THE_MEAN


def _worst(comparisons: Sequence[Row]) -> str:
    missed = sum(row["smelu"] == "none" for row in comparisons)
    ratios = [(row["rpd_ratio"], row["ratio_high"]) for row in comparisons if row["smelu"] != "none"]
    short = max((row["auc"] - row["best_smelu_auc"] for row in comparisons), default=0.0)
    count = "1 recipe" if len(comparisons) == 1 else f"{len(comparisons)} recipes"
    if not ratios:
        return f"{count}, whose AUC no recipe of SmeLU reaches (its best is {short:.4f} lower)"
    worst, high = (max(column) for column in zip(*ratios, strict=True))
    unmatched = (
        f", of which SmeLU does not reach the AUC of {missed} (its best is {short:.4f} lower)"
        if missed
        else ""
    )
    return f"{count}{unmatched}, at most {worst:.2f} (upper bound {high:.2f})"


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def free_claim(it: Evidence) -> Claim:
    """What free initialisation and a full shuffle cost, and the best recipe where a team controls neither."""
    recipes = claims.search(it.options.quick, it.epochs)
    steps = []
    for name, (place, _) in claims.ladder(it.options.quick).items():
        measured = it.measured[name]
        pd, swap = (as_text(measured.interval(m)) for m in ("rpd_sym", "top1_swap"))
        steps.append(
            {
                **place,
                "rpd_sym": pd,
                "top1_swap": swap,
                **measured.user_measures(),
                "auc": as_text(measured.auc(), ".4f"),
            }
        )
    it.save("ladder", steps)
    base = next(iter(recipes))
    rows = [comparison(name, it.measured, base, it.scores) for name in recipes]
    not_lower = [r for r in rows if r["auc_gain_low"] > -LOWER]
    best = min(not_lower, key=lambda r: r["rpd_ratio"])
    verdicts = [
        f"{verdict(best['rpd_ratio'], best['ratio_high'], 0.5)} A recipe served as one model halves plain ReLU's "
        f"relative PD at an AUC not lower; the best is {best['recipe']}: {best['rpd_ratio']:.2f} "
        f"[{best['ratio_low']:.2f}, {best['ratio_high']:.2f}], AUC {best['auc_gain']:+.4f} "
        f"[{best['auc_gain_low']:+.4f}, {best['auc_gain_high']:+.4f}]."
    ]
    plain = min(
        (r for r in not_lower if r["recipe"].startswith(f"free-{RELU.label}")), key=lambda r: r["rpd_ratio"]
    )
    verdicts.append(
        f"ReLU's own best is {plain['recipe']}: {plain['rpd_ratio']:.2f} [{plain['ratio_low']:.2f}, "
        f"{plain['ratio_high']:.2f}], AUC {plain['auc_gain']:+.4f}, top1_swap {plain['top1_swap']:.3f}."
    )
    about = (
        f"Tried under a full shuffle from other initialisations, compared with {base}. A pass is a training as long as "
        f"configured: {it.epochs} {'epoch' if it.epochs == 1 else 'epochs'}."
    )
    claim = it.claim("search", verdicts, rows, labelled(rows), about)
    return claim | {"more": {"What each source costs, weights averaged over the last 10%": steps}}


def mitigation_claim(it: Evidence) -> Claim:
    """SmeLU against the mitigations that it should replace, with costs."""
    recipes = mitigations(it.options.quick)
    rows = [
        comparison(name, it.measured, RELU.label, it.scores) for name in [RELU.label, SMELU.label, *recipes]
    ]
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
    place = f"-layer-norm-rate-{rate:g}-average-0.1"
    measured_by_name = {
        m.label: measured[m.label + place] for m in FAMILIES["smelu"] if m.label + place in measured
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
    5: long_training_claim,
    6: map_claim,
    7: machines_claim,
    8: remedies_claim,
}
