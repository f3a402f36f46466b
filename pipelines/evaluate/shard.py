"""What one shard of predictions says: statistics that merge with those of the other shards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.evaluate.exemplars import CostlyRequest, costliest, costliest_requests
from pipelines.evaluate.quality import (
    K,
    Means,
    merge_quality,
    shard_errors,
    shard_quality,
    shard_sums,
    unranked_requests,
)
from ranker.divergence import (
    Comparison,
    PairedDifference,
    RatioDifference,
    RequestBatch,
    RequestMeasures,
    Settings,
    Statistic,
    measure_requests,
    merge,
)
from ranker.divergence.near_ties import EDGES
from ranker.divergence.ranked import logit
from ranker.scored.scale import ValueRange

CHUNK = 8192
"""Requests whose values, a number a pair and measure, are in memory at a time."""
Contrast = dict[str, PairedDifference | RatioDifference]
"""Measure -> an arm's value minus the first arm's, request by request."""


@dataclass
class ShardResult:
    """One shard's share of the report, or all shards' together.

    Attributes:
        counts: `rows`, `positives`, `requests`, `rankable` (requests with two candidates or more), `repeated`
            (rows whose item another row of the request has: they count for quality, not for the comparison),
            `unranked` (requests that NDCG, GAUC and the ranking loss leave out: one candidate or one class) and,
            with weights, `weightless` (rows of weight 0: they take no part in quality).
        quality: model -> measures with their weights; with `data.weight`, weighted by it.
        unweighted: the same without, where there are weights.
        comparisons: arm -> its replicas compared.
        contrasts: arm -> its measures minus the first arm's; without the first arm.
        gaps: arm -> top1_swap by the gap between the consensus' first two items, a statistic a bin of `EDGES`.
        exemplars: arm -> the requests where disagreement costs most.
    """

    counts: dict[str, int] = field(default_factory=dict)
    quality: dict[str, Means] = field(default_factory=dict)
    unweighted: dict[str, Means] = field(default_factory=dict)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    contrasts: dict[str, Contrast] = field(default_factory=dict)
    gaps: dict[str, list[Statistic]] = field(default_factory=dict)
    exemplars: dict[str, list[CostlyRequest]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "counts": self.counts,
            "quality": self.quality,
            "unweighted": self.unweighted,
            "comparisons": {arm: c.as_dict() for arm, c in self.comparisons.items()},
            "contrasts": {
                arm: {label: s.as_dict() for label, s in contrast.items()}
                for arm, contrast in self.contrasts.items()
            },
            "gaps": {arm: [s.as_dict() for s in bins] for arm, bins in self.gaps.items()},
            "exemplars": {arm: [e.as_dict() for e in requests] for arm, requests in self.exemplars.items()},
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ShardResult:
        """The inverse of `as_dict`."""
        return ShardResult(
            counts=data["counts"],
            quality=_means(data["quality"]),
            unweighted=_means(data["unweighted"]),
            comparisons={arm: Comparison.from_dict(c) for arm, c in data["comparisons"].items()},
            contrasts={
                arm: {label: _difference(s) for label, s in contrast.items()}
                for arm, contrast in data["contrasts"].items()
            },
            gaps={arm: [Statistic.from_dict(s) for s in bins] for arm, bins in data["gaps"].items()},
            exemplars={
                arm: [CostlyRequest.from_dict(e) for e in requests]
                for arm, requests in data["exemplars"].items()
            },
        )


def _means(quality: Mapping[str, Any]) -> dict[str, Means]:
    return {
        model: {measure: (mean, weight) for measure, (mean, weight) in means.items()}
        for model, means in quality.items()
    }


def merge_shards(shards: Sequence[ShardResult]) -> ShardResult:
    """All shards together, in the order given."""

    def keys(name: str) -> list[str]:
        return list(dict.fromkeys(key for shard in shards for key in getattr(shard, name)))

    def parts(name: str, key: str) -> list[Any]:
        return [getattr(shard, name)[key] for shard in shards if key in getattr(shard, name)]

    return ShardResult(
        counts={key: sum(parts("counts", key)) for key in keys("counts")},
        quality={model: merge_quality(parts("quality", model)) for model in keys("quality")},
        unweighted={model: merge_quality(parts("unweighted", model)) for model in keys("unweighted")},
        comparisons={arm: merge(parts("comparisons", arm)) for arm in keys("comparisons")},
        contrasts={arm: _merge_contrasts(parts("contrasts", arm)) for arm in keys("contrasts")},
        gaps={arm: _merge_bins(parts("gaps", arm)) for arm in keys("gaps")},
        exemplars={
            arm: costliest([e for part in parts("exemplars", arm) for e in part]) for arm in keys("exemplars")
        },
    )


def measure_shard(
    table: pa.Table,
    arms: Mapping[str, Sequence[str]],
    further_models: Sequence[str] = (),
    value_range: ValueRange | None = None,
) -> ShardResult:
    """Everything the report needs to know of one shard.

    Args:
        table: `request`, `item` (text), `label`, `grade` and `weight` where rows have them, and a column of probabilities a
            model; whole requests.
        arms: arm -> the columns of its replicas.
        further_models: columns of models beside the replicas, whose quality alone is measured.
        value_range: of a regression's labels and predictions, which are measured as shares of it.
    """
    request, ids = _codes(table["request"])
    item, names = _codes(table["item"])
    label, weight = _numbers(table, "label"), _weight(table)
    gain = 2.0 ** _numbers(table, "grade") - 1 if "grade" in table.column_names else None
    scores = {name: _numbers(table, name) for name in chain(*arms.values(), further_models)}
    errors: dict[str, Means] = {name: {} for name in scores}
    unweighted_errors = errors
    if value_range is not None:
        errors = {name: shard_errors(label, values, weight) for name, values in scores.items()}
        unweighted_errors = {name: shard_errors(label, values) for name, values in scores.items()}
        label = value_range.share(label)
        scores = {name: value_range.share(values) for name, values in scores.items()}
    order = np.lexsort((item, request))
    repeated = np.zeros(len(order), bool)
    repeated[order[1:]] = (np.diff(request[order]) == 0) & (np.diff(item[order]) == 0)
    rows = np.flatnonzero(~repeated)
    result = ShardResult(
        {
            "rows": len(label),
            "positives": int((label > 0).sum()),
            "requests": int(request.max(initial=-1)) + 1,
            "rankable": int((np.bincount(request[rows]) > 1).sum()),
            "repeated": int(repeated.sum()),
            "unranked": unranked_requests(label, request, weight),
        }
    )
    if weight is not None:
        result.counts["weightless"] = int((weight == 0).sum())
    if not len(label):
        return result
    result.quality = {
        name: shard_quality(label, score, request, weight, gain) | errors[name]
        for name, score in scores.items()
    }
    if weight is not None:
        result.unweighted = {
            name: shard_quality(label, score, request, None, gain) | unweighted_errors[name]
            for name, score in scores.items()
        }
    batches = {
        arm: RequestBatch.from_rows(
            request[rows], item[rows], np.stack([scores[name][rows] for name in columns]), replicas=columns
        )
        for arm, columns in arms.items()
    }
    parts = np.split(np.arange(result.counts["requests"]), range(CHUNK, result.counts["requests"], CHUNK))
    chunks = [_measure(batches, part, ids, names) for part in parts]
    merged = merge_shards(chunks)
    merged.counts, merged.quality, merged.unweighted = result.counts, result.quality, result.unweighted
    return merged


def sums_by_model(
    table: pa.Table, models: Iterable[str], value_range: ValueRange | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Each model's rows added up by score, of which AUC and calibration are made; see `shard_sums`.

    Args:
        table: as of `measure_shard`.
        models: columns of `table`.
        value_range: of a regression's labels and predictions.
    """
    label, weight = _numbers(table, "label"), _weight(table)
    if value_range is not None:
        label = value_range.share(label)
    for name in models:
        score = _numbers(table, name)
        yield name, shard_sums(label, score if value_range is None else value_range.share(score), weight)


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy().astype(np.float64)


def _weight(table: pa.Table) -> np.ndarray | None:
    return _numbers(table, "weight") if "weight" in table.column_names else None


def _measure(
    batches: Mapping[str, RequestBatch], chosen: np.ndarray, ids: pa.Array, names: pa.Array
) -> ShardResult:
    result = ShardResult()
    first: RequestMeasures | None = None
    for arm, batch in batches.items():
        measured = measure_requests(batch.take(chosen), Settings(k=K))
        result.comparisons[arm] = measured.summarise()
        result.gaps[arm] = _by_gap(measured)
        result.exemplars[arm] = costliest_requests(measured, ids, names)
        if first is not None:
            result.contrasts[arm] = _contrast(measured, first)
        first = first or measured
    return result


def _contrast(arm: RequestMeasures, first: RequestMeasures) -> Contrast:
    """An arm minus the first arm on the same requests: noise that both share cancels.

    Ratios of means have other weights in each arm. The signed `bias` cancels over pairs: not here.
    """
    sizes = {"request": np.ones(len(arm.batch)), "example": arm.batch.sizes}
    contrast: Contrast = {}
    for label, (definition, _) in arm.settings.measures.items():
        bound = definition.bounds[1] - definition.bounds[0]
        if definition.better == "zero":
            continue
        if definition.weight in sizes:
            contrast[label] = PairedDifference.of(
                arm.request_mean(label), first.request_mean(label), sizes[definition.weight], bound=bound
            )
        else:
            sums = (*arm.request_sums(label), *first.request_sums(label))
            contrast[label] = RatioDifference.of(*sums, bound=bound)
    return contrast


def _difference(data: Mapping[str, Any]) -> PairedDifference | RatioDifference:
    return RatioDifference.from_dict(data) if "paired" in data else PairedDifference.from_dict(data)


def _by_gap(measured: RequestMeasures) -> list[Statistic]:
    """top1_swap, the mean over pairs, by how far the consensus' second item is behind its first in log-odds."""
    batch = measured.batch
    consensus = logit(batch.scores.mean(axis=0))
    owner = np.repeat(np.arange(len(batch)), batch.sizes)
    best = np.lexsort((-consensus, owner))
    rankable = batch.sizes > 1
    leader = batch.offsets[:-1][rankable]
    gap = np.full(len(batch), math.nan)
    gap[rankable] = consensus[best[leader]] - consensus[best[leader + 1]]
    place = np.searchsorted(EDGES, gap, side="right") - 1
    swap = measured.request_mean("top1_swap")
    return [Statistic.of(swap[rankable & (place == bin_)]) for bin_ in range(len(EDGES) - 1)]


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Text as integers in the order of the text's bytes, which break ties everywhere, and the text of each."""
    encoded = column.combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[encoded.indices.to_numpy()], encoded.dictionary.take(pa.array(order))


def _merge_contrasts(contrasts: Sequence[Contrast]) -> Contrast:
    result = dict(contrasts[0])
    for contrast in contrasts[1:]:
        for label, difference in contrast.items():
            result[label] = result[label].merge(difference)  # type: ignore[arg-type]  # of one label, of one class
    return result


def _merge_bins(bins: Sequence[Sequence[Statistic]]) -> list[Statistic]:
    result = list(bins[0])
    for shard_bins in bins[1:]:
        result = [a.merge(b) for a, b in zip(result, shard_bins, strict=True)]
    return result
