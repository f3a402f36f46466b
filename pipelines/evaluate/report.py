"""The report as plain data: `report.json`, and what the page is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.evaluate.quality import CALIBRATION, MEASURES, VALUE_MEASURES, K
from pipelines.evaluate.replicas import TrainedReplica
from pipelines.evaluate.sentence import sentence
from pipelines.evaluate.shard import ShardResult
from ranker.divergence import AnswerCoverage, Comparison, Coverage, LeftOut, Statistic, measure_interval
from ranker.divergence.near_ties import EDGES
from ranker.json_text import plain

Values = Mapping[str, float]


def arm_report(
    replicas: Sequence[TrainedReplica],
    result: ShardResult,
    quality: Mapping[str, Values],
    unweighted: Mapping[str, Values],
) -> dict[str, Any]:
    """One arm's part.

    Args:
        replicas: the arm's.
        result: of all shards.
        quality: model -> measure -> value.
        unweighted: the same without the rows' weights; empty where rows have none.
    """
    arm = replicas[0].arm
    compared = result.comparisons[arm]
    measures = [m for m in (*VALUE_MEASURES, *MEASURES) if m in quality[replicas[0].name]]
    coverage = compared.coverage
    return {
        "replicas": [
            {
                **replica.as_dict(),
                "quality": {m: quality[replica.name][m] for m in measures},
                "calibration": {m: quality[replica.name].get(m, math.nan) for m in CALIBRATION},
                **({"quality_unweighted": dict(unweighted[replica.name])} if unweighted else {}),
                "coverage": _coverage(coverage, replica.name),
                "divergence": _intervals(compared.replicas.get(replica.name, {})),
                "coverage_mismatch": coverage.coverage_mismatch[replica.name],
                "invalid_score": coverage.invalid_score[replica.name],
            }
            for replica in replicas
        ],
        "training": _training(replicas),
        "quality": {m: _mean_and_std([quality[replica.name][m] for replica in replicas]) for m in measures},
        **(
            {
                "quality_unweighted": {
                    m: _mean_and_std([unweighted[replica.name][m] for replica in replicas]) for m in measures
                }
            }
            if unweighted
            else {}
        ),
        "calibration": {
            m: _mean_and_std([quality[replica.name].get(m, math.nan) for replica in replicas])
            for m in CALIBRATION
        },
        "divergence": compared.summary(),
        "level_share": _level_share(compared),
        "pairs": [
            {"a": a, "b": b, "requests": coverage.paired[a, b], "measures": _intervals(statistics)}
            for (a, b), statistics in compared.pairs.items()
        ],
        "swap_by_gap": _by_gap(result.gaps[arm]),
        "exemplars": [exemplar.as_dict() for exemplar in result.exemplars.get(arm, [])],
    }


def build(
    head: Mapping[str, Any],
    arms: Mapping[str, Sequence[TrainedReplica]],
    result: ShardResult,
    quality: Mapping[str, Values],
    baseline: Mapping[str, Any],
    budget: Values,
    unweighted: Mapping[str, Values] | None = None,
) -> dict[str, Any]:
    """The whole report.

    Args:
        head: the first entries: experiment, data fingerprint, versions, ...
        arms: arm -> its replicas; the first arm is the one deployed.
        result: of all shards.
        quality: model -> measure -> value.
        baseline: the logistic regression's part.
        budget: measure -> what it may be.
        unweighted: model -> measure -> value without the rows' weights, where rows have weights.

    Returns:
        Plain data; what is not defined or not finite is None.
    """
    first = next(iter(arms))
    report = {
        **head,
        "k": K,
        "counts": dict(result.counts),
        "arms": {
            arm: arm_report(replicas, result, quality, unweighted or {}) for arm, replicas in arms.items()
        },
        "contrasts": [
            {
                "arm": arm,
                "against": first,
                "measures": {
                    label: difference.interval()._asdict() for label, difference in contrast.items()
                },
            }
            for arm, contrast in result.contrasts.items()
        ],
        "baseline": dict(baseline),
        "budget": dict(budget),
    }
    return plain({"sentence": sentence(report), **report})


def _training(replicas: Sequence[TrainedReplica]) -> dict[str, Any]:
    """How long an arm's replicas were trained and why, and the mean of their losses after each epoch."""
    first = replicas[0]
    curves = [replica.curve for replica in replicas if len(replica.curve) == len(first.curve)]
    return {
        "ended_by": first.ended_by,
        "loss": np.mean(curves, axis=0).tolist(),
        "pilot": None if first.pilot is None else dict(first.pilot),
    }


def _coverage(coverage: Coverage, replica: str) -> str:
    """Who was asked, who answered, what was left out."""
    # A score that is no probability ends the evaluation: only candidates can be missing.
    mismatched = coverage.coverage_mismatch[replica]
    left_out = {"coverage_mismatch": LeftOut(mismatched)} if mismatched else {}
    return AnswerCoverage(coverage.requests, coverage.answered[replica] - mismatched, left_out).words


def _level_share(compared: Comparison) -> float:
    """How much of what replicas differ by is a shift of the whole level, in [0, 1]; nan without pairs.

    Formula: mean over pairs of |bias| / mean over pairs of rpd_ratio. 1: one replica's predictions are all higher than
    the other's, by which no order need change. 0: no replica's are higher in the mean, they differ in what they prefer.
    """
    shifts = [abs(statistics["bias"].value) for statistics in compared.pairs.values()]
    differences = [statistics["rpd_ratio"].value for statistics in compared.pairs.values()]
    total = sum(differences)
    return min(sum(shifts) / total, 1.0) if total > 0 else math.nan


def _intervals(statistics: Mapping[str, Statistic]) -> dict[str, dict[str, float]]:
    return {label: measure_interval(label, statistic)._asdict() for label, statistic in statistics.items()}


def _mean_and_std(values: Sequence[float]) -> dict[str, float]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return {"mean": float(np.mean(values)), "std": spread}


def _by_gap(bins: Sequence[Statistic]) -> list[dict[str, Any]]:
    return [
        {"from": low, "to": high, "requests": s.n, **measure_interval("top1_swap", s)._asdict()}
        for low, high, s in zip(EDGES, EDGES[1:], bins, strict=False)
        if s.n
    ]
