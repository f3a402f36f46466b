"""Under which conditions the recipe helps: length of the training, and properties of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ranker.study import claims, rungs
from ranker.study.comparison import Row, comparison
from ranker.study.data import LogChange, load
from ranker.study.evidence_pictures import labelled
from ranker.study.recipes import RELU, SMELU

if TYPE_CHECKING:
    from ranker.study.evidence import Evidence

LOWER = 0.0003
"""An AUC whose difference's lower bound is above minus this counts as not lower."""


def long_training_claim(it: Evidence) -> dict[str, Any]:
    """What many epochs do to replicas, and which remedy keeps them together."""
    rows_of_log = int(it.data.train.label.shape[0])
    if rows_of_log > claims.LONG_ROWS:
        text = (
            f"Not tested on this log: it has {rows_of_log:,} training rows, and long training is tested on at most "
            f"{claims.LONG_ROWS:,}."
        )
        return {"verdicts": [text], "rows": [], "picture": "", "about": ""}
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


def map_claim(it: Evidence) -> dict[str, Any]:
    """What the recipe buys on logs whose properties are turned one by one."""
    recipes = claims.log_map(it.options.quick)
    rows_of_log = int(it.data.train.label.shape[0])
    most = min(rows_of_log, claims.MAP_ROWS)
    rows = []
    for size in (most, most // claims.MAP_FEW):
        for noise in claims.MAP_NOISE[: 1 if it.options.quick else None]:
            for ids_only in (False, True)[: 1 if it.options.quick else None]:
                change = LogChange(noise, ids_only)
                data = load(it.experiment, it.run_dir, size, change)
                scores = it.scores_on(data, {name: overrides for name, (_, overrides) in recipes.items()})
                measured = it.measure(data, scores)
                for count in dict.fromkeys(place["epochs"] for place, _ in recipes.values()):
                    smelu, relu = (f"map-{m.label}-epochs-{count}" for m in (SMELU, RELU))
                    row = _without(comparison(smelu, measured, relu), "recipe")
                    place = {
                        "rows": size, "epochs": count, "flipped labels": noise,
                        "features": "ids only" if ids_only else "all",
                    }  # fmt: skip
                    rows.append({**place, "relu_rpd_sym": measured[relu].value("rpd_sym"), **row})
    it.save("map", rows)
    steadier = sum(row["ratio_high"] < 1 for row in rows)
    shakier = sum(row["ratio_low"] > 1 for row in rows)
    verdicts = [
        f"In {steadier} of {len(rows)} logs {SMELU.label} is steadier than ReLU with its whole interval, in {shakier} less "
        f"steady, in {len(rows) - steadier - shakier} neither is shown."
    ]
    verdicts += [_effect(rows, key) for key in ("rows", "epochs", "flipped labels", "features")]
    about = (
        f"Each row is {SMELU.label} against ReLU, both behind a LayerNorm, on the log with its properties turned: fewer "
        "rows (of the base order), more epochs, flipped training labels, and only the features of more than 100 values."
    )
    pictured = [{**row, "recipe": SMELU.label} for row in rows]
    return it.claim("map", [v for v in verdicts if v], rows, labelled(pictured), about)


def remedies_claim(it: Evidence) -> dict[str, Any]:
    """Which remedy brings replicas together that share neither initialisation nor order."""
    recipes = claims.remedies(it.options.quick, it.rate)
    size = min(int(it.data.train.label.shape[0]), claims.LONG_ROWS)
    data = load(it.experiment, it.run_dir, size)
    scores = it.scores_on(data, recipes)
    measured = it.measure(data, scores)
    base = next(iter(recipes))
    rows = [comparison(name, measured, base, scores) for name in recipes]
    not_lower = [r for r in rows if r["auc_gain_low"] > -LOWER]
    best = min(not_lower, key=lambda r: r["rpd_ratio"])
    verdicts = [
        f"{claims.verdict(best['rpd_ratio'], best['ratio_high'], claims.REMEDY_BAR)} A recipe has at most "
        f"{claims.REMEDY_BAR:g} of plain ReLU's relative PD at an AUC not lower; the best is {best['recipe']}: "
        f"{_ratio_and_gain(best)}."
    ]
    verdicts += [
        f"{row['recipe']}: {_ratio_and_gain(row)}, top1_swap {row['top1_swap']:.3f} against {rows[0]['top1_swap']:.3f}."
        for row in sorted(rows[1:], key=lambda r: r["rpd_ratio"])
    ]
    about = (
        f"Trained on at most {claims.LONG_ROWS:,} rows (here {size:,}), compared with {base}: one pass, the last step's "
        "weights. `anchor`: the share of the label that one anchor gives, the same for all replicas; `distillation`: each "
        "replica has three teachers of its own. `fixed order`: other initialisations, the same full shuffle."
    )
    return it.claim("remedies", verdicts, rows, labelled(rows), about)


def _ratio_and_gain(row: Row) -> str:
    return (
        f"{row['rpd_ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}], AUC {row['auc_gain']:+.4f} "
        f"[{row['auc_gain_low']:+.4f}, {row['auc_gain_high']:+.4f}]"
    )


def machines_claim(it: Evidence) -> dict[str, Any]:
    """How far replicas of equal seeds are apart on other machines, in other precision, and quantised."""
    rows = rungs.measure(it.experiment, it.run_dir, it.data, it.options.quick, it.report)
    it.save("rungs", rows)
    about = (
        "One pair a row, not several replicas, trained on at most 100,000 rows: intervals are over requests alone. "
        "TensorFlow Lite serves from encoded inputs on, as it has no text lookups among its own operations. A rung is "
        "missing where TensorFlow Lite divides by what its whole numbers round to 0."
    )
    return {"verdicts": [rungs.say(rows)], "rows": rows, "picture": "", "about": about}


def _effect(rows: Sequence[Row], key: str) -> str:
    values = list(dict.fromkeys(row[key] for row in rows))
    if len(values) < 2:
        return ""
    parts = []
    for value in values:
        ratios = [row["rpd_ratio"] for row in rows if row[key] == value]
        parts.append(f"{value}: {np.exp(np.mean(np.log(ratios))):.2f}")
    return f"By {key}, the geometric mean of the ratio to ReLU's relative PD: {', '.join(parts)}."
