"""Under which conditions replicas stay together: length of the training, remedies, machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ranker.files import replacing
from ranker.json_text import json_text
from ranker.study import claims, rungs
from ranker.study.comparison import Row, comparison
from ranker.study.evidence_pictures import labelled
from ranker.study.recipes import RELU, SMELU

if TYPE_CHECKING:
    from ranker.study.evidence import Evidence

LOWER = 0.0003
"""An AUC whose difference's lower bound is above minus this counts as not lower."""


def long_training_claim(it: Evidence) -> dict[str, Any]:
    """What many epochs do to replicas, and which remedy keeps them together."""
    recipes = claims.long_training(it.options.quick)
    it.train({name: overrides for name, (_, overrides) in recipes.items()})
    rows = []
    for name, (place, _) in recipes.items():
        same_place = (
            next(n for n, (p, _) in recipes.items() if p == place | {"activation": RELU.label})
            if place["activation"] != RELU.label
            else name
        )
        rows.append({**place, **_without(comparison(name, it.measured, same_place), "recipe")})
    it.save("long", rows)
    verdicts = [_by_epochs(rows, norm) for norm in dict.fromkeys(r["norm"] for r in rows)]
    if not it.options.quick:
        verdicts += [_best_remedy(rows, activation) for activation in (RELU.label, SMELU.label)]
    about = "Gains and ratios are against ReLU at the same place: same norm, epochs and remedy."
    return it.claim("long", verdicts, rows, labelled([{**r, "recipe": r["activation"]} for r in rows]), about)


def _without(row: Row, key: str) -> Row:
    return {name: value for name, value in row.items() if name != key}


def _by_epochs(rows: Sequence[Row], norm: str) -> str:
    parts = [
        f"{row['epochs']} {'epoch' if row['epochs'] == '1' else 'epochs'} {_ratio_and_gain(row)}"
        for row in rows
        if row["activation"] == SMELU.label and row["norm"] == norm and row["remedy"] == "none"
    ]
    name = {"layer": "Behind a LayerNorm", "none": "Without normalisation"}[norm]
    return f"{name} {SMELU.label} has of ReLU's relative PD: {'; '.join(parts)}."


def _best_remedy(rows: Sequence[Row], activation: str) -> str:
    trained = [r for r in rows if r["activation"] == activation and r["norm"] == "layer"]
    plain = [r for r in trained if r["remedy"] == "none"]
    longest = max(plain, key=lambda r: int(r["epochs"]))
    tried = [r for r in trained if r["remedy"] != "none"]
    best = min(tried, key=lambda r: r["rpd_sym"])
    further_recipes = ", ".join(
        f"{r['remedy']} {r['rpd_sym']:.3f} (AUC {r['auc']:.4f})" for r in tried if r is not best
    )
    return (
        f"{activation} after {longest['epochs']} epochs has a relative PD of {longest['rpd_sym']:.3f} (AUC "
        f"{longest['auc']:.4f}). The remedy that keeps replicas closest is {best['remedy']}: {best['rpd_sym']:.3f} (AUC "
        f"{best['auc']:.4f})" + (f"; {further_recipes}." if further_recipes else ".")
    )


def remedies_claim(it: Evidence) -> dict[str, Any]:
    """Which remedy brings replicas together that share neither initialisation nor order."""
    recipes = claims.remedies(it.options.quick, it.epochs)
    base = next(iter(recipes))
    rows = [comparison(name, it.measured, base, it.scores) for name in recipes]
    controlled = {name for name, overrides in recipes.items() if overrides["replicas.vary"] == ["init"]}
    verdicts = []
    for condition, tried in (
        ("Where a team controls neither", [r for r in rows if r["recipe"] not in controlled]),
        (
            "Where it fixes the order and not the initialisation",
            [r for r in rows if r["recipe"] in controlled],
        ),
    ):
        not_lower = [r for r in tried if r["auc_gain_low"] > -LOWER]
        if not_lower:
            best = min(not_lower, key=lambda r: r["rpd_ratio"])
            verdicts.append(
                f"{claims.verdict(best['rpd_ratio'], best['ratio_high'], claims.REMEDY_BAR)} {condition}, a recipe has at "
                f"most {claims.REMEDY_BAR:g} of plain ReLU's relative PD at an AUC not lower; the best is "
                f"{best['recipe']}: {_ratio_and_gain(best)}."
            )
    best_by_remedy: dict[str, Row] = {}
    for row in sorted(rows[1:], key=lambda r: r["rpd_ratio"]):
        best_by_remedy.setdefault(row["recipe"].removeprefix("remedy-").split("-average-")[0], row)
    verdicts += [
        f"{remedy}: {_ratio_and_gain(row)}, top1_swap {row['top1_swap']:.3f} against {rows[0]['top1_swap']:.3f}."
        for remedy, row in best_by_remedy.items()
    ]
    about = (
        f"Compared with {base}: one pass, the last step's weights. A pass is a training as long as configured ({it.epochs} "
        f"{'epoch' if it.epochs == 1 else 'epochs'}). Above is each remedy with the "
        "average that keeps replicas closer. `anchor`: the share of the label that one anchor gives, the same for all "
        "replicas. `fixed order`: other initialisations, the "
        "same full shuffle."
    )
    return it.claim("remedies", verdicts, rows, labelled(rows), about)


def _ratio_and_gain(row: Row) -> str:
    return (
        f"{row['rpd_ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}], AUC {row['auc_gain']:+.4f} "
        f"[{row['auc_gain_low']:+.4f}, {row['auc_gain_high']:+.4f}]"
    )


def machines_claim(it: Evidence) -> dict[str, Any]:
    """How far replicas of equal seeds are apart on other machines, in other precision, and quantised."""
    saved = it.options.cache_in(it.out) / f"{rungs.key(it.experiment, it.data, it.options.quick)}.json"
    if saved.exists():
        rows = json.loads(saved.read_text(encoding="utf-8"))
    else:
        rows = rungs.measure(it.experiment, it.run_dir, it.data, it.options.quick, it.report)
        saved.parent.mkdir(parents=True, exist_ok=True)
        with replacing(saved) as temporary:
            temporary.write_text(json_text(rows), encoding="utf-8")
    it.save("rungs", rows)
    about = (
        "One pair a row, not several replicas: intervals are over requests alone. "
        "TensorFlow Lite serves from encoded inputs on, as it has no text lookups among its own operations. A rung is "
        "missing where TensorFlow Lite divides by what its whole numbers round to 0."
    )
    size = {"replicas": 2, "train_rows": rungs.training_rows(it.data, it.options.quick)}
    return {"verdicts": rungs.verdicts(rows), "rows": rows, "picture": "", "about": about, **size}
