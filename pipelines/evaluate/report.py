"""The report as plain data: `report.json`, and what the page is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.evaluate.quality import MEASURES, K
from pipelines.evaluate.replicas import Replica
from pipelines.evaluate.sentence import sentence
from pipelines.evaluate.shard import ShardResult
from ranker.divergence import Statistic, measure_interval
from ranker.divergence.near_ties import EDGES

Values = Mapping[str, float]


def arm_report(
    replicas: Sequence[Replica], result: ShardResult, quality: Mapping[str, Values]
) -> dict[str, Any]:
    """One arm's part.

    Args:
        replicas: the arm's.
        result: of all shards.
        quality: model -> measure -> value.
    """
    arm = replicas[0].arm
    compared = result.comparisons[arm]
    coverage = compared.coverage
    return {
        "replicas": [
            {
                **replica.as_dict(),
                "quality": dict(quality[replica.name]),
                "divergence": _intervals(compared.replicas.get(replica.name, {})),
                "coverage_mismatch": coverage.coverage_mismatch[replica.name],
                "invalid_score": coverage.invalid_score[replica.name],
            }
            for replica in replicas
        ],
        "quality": {m: _mean_and_std([quality[replica.name][m] for replica in replicas]) for m in MEASURES},
        "divergence": compared.summary(),
        "pairs": [
            {"a": a, "b": b, "requests": coverage.paired[a, b], "measures": _intervals(statistics)}
            for (a, b), statistics in compared.pairs.items()
        ],
        "swap_by_gap": _by_gap(result.gaps[arm]),
        "exemplars": [exemplar.as_dict() for exemplar in result.exemplars.get(arm, [])],
    }


def build(
    head: Mapping[str, Any],
    arms: Mapping[str, Sequence[Replica]],
    result: ShardResult,
    quality: Mapping[str, Values],
    baseline: Mapping[str, Any],
    budget: Values,
) -> dict[str, Any]:
    """The whole report.

    Args:
        head: what stands first: experiment, data fingerprint, versions, ...
        arms: arm -> its replicas; the first arm is the one deployed.
        result: of all shards.
        quality: model -> measure -> value.
        baseline: the logistic regression's part.
        budget: measure -> what it may be.

    Returns:
        Plain data; what is not defined or not finite is None.
    """
    first = next(iter(arms))
    report = {
        **head,
        "k": K,
        "counts": dict(result.counts),
        "arms": {arm: arm_report(replicas, result, quality) for arm, replicas in arms.items()},
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


def plain(value: Any) -> Any:
    """The same without anything that JSON has not: NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value


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
