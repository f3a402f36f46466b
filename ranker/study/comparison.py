"""One recipe against another: rows of the evidence's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ranker.divergence import Interval
from ranker.study.measured import USER_MEASURES, MeasuredRecipe, auc_difference, ratio
from ranker.study.trainings import Scores

Row = dict[str, Any]


def comparison(
    name: str, measured: Mapping[str, MeasuredRecipe], base: str, scores: Mapping[str, Scores] | None = None
) -> Row:
    """One recipe's row: measures, and differences from the base recipe, with 95% intervals; costs with `scores`."""
    it, against_base = measured[name], measured[base]
    pd, relative = it.interval("rpd_sym"), ratio(it, against_base, "rpd_sym")
    swap, gain, auc = it.interval("top1_swap"), auc_difference(it, against_base), it.auc()
    row = {
        "recipe": name,
        "auc": auc.value,
        "auc_gain": gain.value,
        "auc_gain_low": gain.low,
        "auc_gain_high": gain.high,
        "logloss": float(it.loglosses.mean()),
        "rpd_sym": pd.value,
        "rpd_low": pd.low,
        "rpd_high": pd.high,
        "rpd_ratio": relative.value,
        "ratio_low": relative.low,
        "ratio_high": relative.high,
        "top1_swap": swap.value,
        "swap_low": swap.low,
        "swap_high": swap.high,
        **it.user_measures(),
    }
    if scores is not None:
        costs = scores[name].costs
        row |= {
            "parameters": costs[0].parameters,
            "lookups": costs[0].lookups,
            "training_seconds": float(np.mean([c.training_seconds for c in costs])),
            "serving_ms": float(np.median([c.serving_milliseconds for c in costs])),
        }
    return row


def compare_with_rival(point: Row, rivals: Sequence[Row], measured: Mapping[str, MeasuredRecipe]) -> Row:
    """Compares a point with the steadiest rival of at least its AUC; `none` and NaN if no rival has it."""
    row = {name: point[name] for name in ("recipe", "auc", "rpd_sym", "top1_swap", *USER_MEASURES)}
    row["best_smelu_auc"] = max(r["auc"] for r in rivals)
    good = [r for r in rivals if r["auc"] >= point["auc"]]
    if not good:
        nothing = float("nan")
        none = {"smelu_auc": nothing, "rpd_ratio": nothing, "ratio_low": nothing, "ratio_high": nothing}
        return row | {"smelu": "none"} | none
    best = min(good, key=lambda r: r["rpd_sym"])
    rpd_ratio = ratio(measured[best["recipe"]], measured[point["recipe"]], "rpd_sym")
    return row | {
        "smelu": best["recipe"],
        "smelu_auc": best["auc"],
        "rpd_ratio": rpd_ratio.value,
        "ratio_low": rpd_ratio.low,
        "ratio_high": rpd_ratio.high,
    }


def as_text(interval: Interval, form: str = ".3f") -> str:
    """A value with its interval as text."""
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"
