"""The report in plain words: do an arm's replicas agree, and which arm's agree best?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ranker.divergence import Interval, standing


def sentence(report: Mapping[str, Any]) -> str:
    """A few sentences on a report; the first arm is the deployed one.

    Args:
        report: as `report.json`, with nan instead of None.
    """
    first = next(iter(report["arms"]))
    arms, baseline = report["arms"], report["baseline"]
    warnings = {arm: training_warning(arm, summary, baseline) for arm, summary in arms.items()}
    parts = [warnings[first]]
    if not warnings[first]:
        parts.append(agreement(first, arms[first], report["budget"], report["counts"]["rankable"]))
    for contrast in report["contrasts"]:
        # What an arm that has learned nothing agrees on says nothing of its recipe.
        warning = warnings[contrast["arm"]]
        parts.append(warning or ("" if warnings[first] else contest(contrast, arms)))
    return " ".join(part for part in parts if part)


FEW_STEPS = 100
"""A model that was trained for fewer has hardly left its initial weights."""


def _ranks_worse_if_longer(summary: Mapping[str, Any]) -> bool:
    """Whether a pilot chose the length, and went on from there without ranking held-out rows better."""
    pilot = summary.get("training", {}).get("pilot")
    if not pilot:
        return False
    values = pilot["auc"] or [-loss for loss in pilot["validation"]]
    return values.index(max(values)) < len(values) - 1


def training_warning(arm: str, summary: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    """Warns that the arm learned less than logistic regression, or hardly trained; empty if neither holds."""
    counts = [replica["steps"] for replica in summary["replicas"] if replica.get("steps") is not None]
    steps = min(counts) if counts else None
    after = f" after {steps:,} step{'s' * (steps != 1)}" if steps is not None else ""
    auc_mean, baseline_auc = summary["quality"]["auc"]["mean"], baseline.get("auc")
    if auc_mean is not None and baseline_auc is not None and auc_mean <= baseline_auc:
        return (
            f"{arm} has learned less than logistic regression: AUC {auc_mean:.3f} against {baseline_auc:.3f}{after}; "
            "swap rates of a model that has learned too little say little."
        )
    if steps is not None and steps < FEW_STEPS and not _ranks_worse_if_longer(summary):
        auc = f", to an AUC of {auc_mean:.3f}" if auc_mean is not None and auc_mean == auc_mean else ""
        return (
            f"{arm} was trained for {steps:,} step{'s' * (steps != 1)} only{auc}; "
            "swap rates of a model that has hardly learned say little, train it longer."
        )
    return ""


def agreement(arm: str, summary: Mapping[str, Any], budget: Mapping[str, float], requests: int) -> str:
    """Whether the replicas of one arm agree."""
    count = len(summary["replicas"])
    if count < 2:
        return f"There is one replica of {arm}: nothing to compare it with."
    swap, difference = summary["divergence"]["top1_swap"], summary["divergence"]["rpd_sym"]
    verdict = {
        "within": "agree within the budget",
        "over": "disagree more than the budget allows",
        "open": "may or may not agree within the budget, more requests would tell",
    }[budget_verdict(summary["divergence"], budget)]
    if swap["value"] != swap["value"]:
        return (
            f"The predictions of the {count} replicas of {arm} differ by {_percent(difference)} between two of them; no"
            " request has two candidates, so that they cannot be compared by their lists."
        )
    return (
        f"The {count} replicas of {arm} {verdict}: between two of them the first item changes in "
        f"{_percent(swap)} of {requests:,} requests, and their predictions differ by {_percent(difference)}."
    )


def budget_verdict(divergence: Mapping[str, Mapping[str, float]], budget: Mapping[str, float]) -> str:
    """`over` if a measure is surely above its budget, `within` if all surely keep theirs, else `open`."""
    standings = [
        standing(Interval(interval["value"], interval["low"], interval["high"]), limit)
        for name, limit in budget.items()
        for label, interval in divergence.items()
        if name in (label, label.split("@")[0])
    ]
    if "above" in standings:
        return "over"
    return "open" if "undecided" in standings else "within"


def contest(contrast: Mapping[str, Any], arms: Mapping[str, Any]) -> str:
    """Which of two arms has the steadier replicas, by how much."""
    compared_arm, first_arm = contrast["arm"], contrast["against"]
    swap = contrast["measures"].get("top1_swap")
    if swap is None or swap["value"] != swap["value"]:
        return ""
    auc = (
        " (AUC "
        + ", ".join(f"{arm} {arms[arm]['quality']['auc']['mean']:.4f}" for arm in (first_arm, compared_arm))
        + ")"
    )
    if swap["low"] <= 0 <= swap["high"]:
        return (
            f"Between {first_arm} and {compared_arm} no difference in that swap rate can be told: "
            f"{_points(swap['value'])} ({_points(swap['low'])} to {_points(swap['high'])}) percentage points{auc}."
        )
    winner, loser, sign = (first_arm, compared_arm, 1) if swap["value"] > 0 else (compared_arm, first_arm, -1)
    ends = sorted((sign * swap["low"], sign * swap["high"]))
    return (
        f"{winner} is steadier than {loser}: its first item changes {_points(sign * swap['value'])} percentage points "
        f"({_points(ends[0])} to {_points(ends[1])}) less often{auc}."
    )


def _percent(interval: Mapping[str, float]) -> str:
    return f"{100 * interval['value']:.1f}% ({100 * interval['low']:.1f}% to {100 * interval['high']:.1f}%)"


def _points(share: float) -> str:
    return f"{100 * share:.1f}"
