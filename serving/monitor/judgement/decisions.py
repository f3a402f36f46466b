"""From the answers of a candidate and its baselines to the gate's decisions. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from ranker.divergence import (
    AnswerCoverage,
    Comparison,
    Decision,
    Design,
    GateOutcome,
    PairedDifference,
    RequestBatch,
    Settings,
    Statistic,
    answer_coverage,
    aside,
    auc,
    decide,
    decide_coverage,
    decide_quality,
    definition,
    estimate_fleet,
    logloss,
    measure_requests,
    overall_verdict,
)
from ranker.divergence.fleet import ALL_PAIRS_UP_TO
from ranker.divergence.quality import auc_components, request_ndcg, row_logloss
from ranker.errors import UserError
from ranker.scored.scale import NEEDS_PROBABILITIES, ValueRange
from serving.monitor.collection.answers import Answers
from serving.monitor.judgement.gate_result import CHURN, QUALITY, GateResult, Options, Side
from serving.monitor.measurement.measure import request_batch
from serving.monitor.requests.probe import Array, ProbeSet

_COMPARED_KEYS = {"vocabulary": "vocabularies", "encoding": "statistics of the features"}


def judge_answers(
    sources: Sequence[str],
    answers: Sequence[Answers],
    probe: ProbeSet,
    options: Options,
    churn: Sequence[str],
    quality: Sequence[str],
) -> GateResult:
    """Decides on the candidate's answers, the first, against the baselines'."""
    baseline = sources[1:]
    _check_comparable(sources, answers)
    names = ["candidate", *(f"baseline-{place}" for place in range(len(baseline)))]
    batch = request_batch(
        probe, {name: (entry.scores, entry.answered) for name, entry in zip(names, answers, strict=True)}
    )
    sides = [
        Side(source, entry.version, _coverage(batch, name, entry, probe), _fingerprint(entry))
        for source, name, entry in zip(sources, names, answers, strict=True)
    ]
    coverage = tuple(
        decide_coverage(name if place == 0 else side.source, side.coverage, options.min_coverage)
        for place, (name, side) in enumerate(zip(names, sides, strict=True))
    )
    decisions = [
        *_churn_decisions(
            labels=churn, batch=batch, answers=answers, baseline=baseline, probe=probe, options=options
        ),
        *_quality_decisions(quality, batch, probe, options),
    ]
    if all(decision.verdict is GateOutcome.ASIDE for decision in decisions) and all(
        decision.verdict is GateOutcome.PASS for decision in coverage
    ):
        raise UserError(f"no measure can decide: {'; '.join(decision.reason for decision in decisions)}")
    return GateResult(
        verdict=overall_verdict([*coverage, *decisions]),
        decisions=tuple(decisions),
        coverage=coverage,
        candidate=sides[0],
        baseline=tuple(sides[1:]),
        probe=probe.hash,
        requests=int(batch.valid.all(axis=0).sum()),
        baseline_kind="replicas" if len(baseline) > 1 else "floor",
        notes=_notes(sources, answers, probe, options),
    )


def _churn_decisions(
    labels: Sequence[str],
    batch: RequestBatch,
    answers: Sequence[Answers],
    baseline: Sequence[str],
    probe: ProbeSet,
    options: Options,
) -> list[Decision]:
    settings = Settings(k=options.k)
    versus = measure_requests(
        batch, settings, pairs=[(0, place) for place in range(1, len(batch.replicas))]
    ).summarise()
    if len(baseline) > 1:
        # against the same consensus: that of fewer models would be nearer to each of them, and the limit too low
        design = (
            Design.complete(len(baseline))
            if len(baseline) <= ALL_PAIRS_UP_TO
            else Design.regular(len(baseline), zlib.crc32(probe.hash.encode()))
        )
        between = [(int(i) + 1, int(j) + 1) for i, j in design.pairs]
        measured = measure_requests(batch, settings, pairs=between)
        among = estimate_fleet(measured.select(batch.replicas[1:]), effects=False).means
    else:
        entry = answers[1]
        twice = {
            "alone": (entry.scores, entry.answered & entry.again_answered),
            "again": (entry.again, entry.again_answered),
        }
        among = measure_requests(request_batch(probe, twice), settings).summarise().means
    longest = int(probe.sizes.max())
    decisions = []
    for label in labels:
        if label.startswith("set_churn@") and longest <= options.k:
            why = f"no request has more than {longest} candidates, and nothing can leave a top {options.k} of them"
            decisions.append(aside(label, why))
            continue
        if options.call.scale == "order" and settings.measures[label][0].needs_probabilities:
            decisions.append(aside(label, NEEDS_PROBABILITIES))
            continue
        decisions.append(
            decide(
                label,
                _candidate_churn(versus, label, len(baseline)),
                among[label],
                margin=options.margin,
                allowance=options.allowance,
                level=options.level,
            )
        )
    return decisions


def _candidate_churn(comparison: Comparison, label: str, baselines: int) -> Statistic:
    # over the candidate's pairs only, a request at a time
    if baselines > 1:
        return comparison.replicas["candidate"][label]
    return next(iter(comparison.pairs.values()))[label]


def _quality_decisions(
    labels: Sequence[str], batch: RequestBatch, probe: ProbeSet, options: Options
) -> list[Decision]:
    """Each quality measure of the candidate against the baselines' mean, on the requests that every side answered."""
    if not labels or probe.labels is None:
        return []
    answered = batch.take(batch.valid.all(axis=0))
    y = probe.labels[answered.rows]
    labelled = np.isfinite(y)
    owner = np.repeat(np.arange(len(answered)), answered.sizes)[labelled]
    y, scores = (y[labelled] >= 0.5).astype(np.float64), answered.scores[:, labelled]
    decisions = []
    for label in labels:
        if options.call.scale == "order" and label == "logloss":
            decisions.append(aside(label, NEEDS_PROBABILITIES))
            continue
        candidate, serving, loss = _loss(label, y, scores, owner)
        decisions.append(
            decide_quality(
                label, loss, candidate, serving, margin=options.quality_margin, level=options.level
            )
        )
    return decisions


def _loss(
    label: str, y: Array, scores: Array, owner: Array
) -> tuple[float, float, PairedDifference | Statistic]:
    """Value of the candidate (the first row of scores), mean value of the others, and how much worse the first is."""
    if label == "auc":
        values = [auc(y, row) for row in scores]
        parts = [auc_components(y, row, owner) for row in scores]
        worse = np.mean(values[1:]) - values[0]
        # Influences sum to 0: with the difference added, their mean is the difference and their spread its error.
        influence = len(parts[0]) * (np.mean(parts[1:], axis=0) - parts[0]) + worse
        return values[0], float(np.mean(values[1:])), Statistic.of(influence)
    if label == "logloss":
        values = [logloss(y, row) for row in scores]
        size = np.bincount(owner)
        sums = [np.bincount(owner, weights=row_logloss(y, row)) for row in scores]
        rows = size > 0
        means = [total[rows] / size[rows] for total in sums]
        loss = PairedDifference.of(
            means[0], np.mean(means[1:], axis=0), size[rows], bound=definition("logloss").bounds[1]
        )
        return values[0], float(np.mean(values[1:])), loss
    gains = [request_ndcg(y, row, owner, k=int(label.partition("@")[2]))[0] for row in scores]
    loss = PairedDifference.of(np.mean(gains[1:], axis=0), gains[0])
    value, serving = (float(np.nanmean(g)) if loss.n else float("nan") for g in (gains[0], gains[1:]))
    return value, serving, loss


def _coverage(batch: RequestBatch, name: str, answers: Answers, probe: ProbeSet) -> AnswerCoverage:
    return answer_coverage(batch, name, probe.requests, answers.kinds)


def _fingerprint(answers: Answers) -> str:
    return str(answers.description.get("fingerprint", ""))


def _check_comparable(sources: Sequence[str], answers: Sequence[Answers]) -> None:
    schemas = _described("feature_spec", sources, answers)
    if len(set(schemas.values())) > 1:
        shown = ", ".join(f"{source} {value}" for source, value in schemas.items())
        raise UserError(f"models must have the same schema (feature_spec) to be compared. Received: {shown}")


def _notes(
    sources: Sequence[str], answers: Sequence[Answers], probe: ProbeSet, options: Options
) -> tuple[str, ...]:
    """What is no obstacle, but part of why a refresh on new data churns; and how deep the lists are."""
    notes = []
    fingerprint, version = _fingerprint(answers[0]), answers[0].version
    for source, entry in zip(sources[1:], answers[1:], strict=True):
        if fingerprint and _fingerprint(entry) == fingerprint and entry.version == version:
            notes.append(
                f"the candidate is itself a baseline: {sources[0]} and {source} are both version {version} with"
                f" fingerprint {fingerprint}; to let it through changes nothing"
            )
    notes += [
        f"{source}: {message}"
        for source, entry in zip(sources, answers, strict=True)
        for message in entry.messages.values()
    ]
    for key, name in _COMPARED_KEYS.items():
        values = _described(key, sources, answers)
        if len(set(values.values())) > 1:
            shown = ", ".join(f"{source} {value}" for source, value in values.items())
            notes.append(f"the models have different {name}: {shown}")
    longest = int(probe.sizes.max())
    if longest < options.k:
        notes.append(f"no request has more than {longest} candidates: a top {options.k} is the whole list")
    return tuple(notes)


def _described(key: str, sources: Sequence[str], answers: Sequence[Answers]) -> dict[str, str]:
    return {
        source: str(entry.description[key])
        for source, entry in zip(sources, answers, strict=True)
        if entry.description.get(key)
    }


def labels_of(options: Options, probe: ProbeSet) -> tuple[list[str], list[str]]:
    """Labels of the churn measures and of the quality measures that are asked for."""
    settings = Settings(k=options.k)
    has_classes = probe.labels is not None and ValueRange.parse(options.call.scale) is None
    names = options.measures or (*CHURN, *(QUALITY if has_classes else ()))
    churn, quality = [], []
    for name in dict.fromkeys(names):
        stem, _, depth = name.partition("@")
        if stem in ("auc", "logloss") and not depth:
            quality.append(name)
        elif stem == "ndcg" and (depth in ("", "k") or (depth.isdecimal() and int(depth) > 0)):
            quality.append(f"ndcg@{int(depth) if depth.isdecimal() else options.k}")
        else:
            churn.append(_churn_label(name, settings))
    if quality and probe.labels is not None and not has_classes:
        raise UserError(
            f"quality measures of the gate are of labels with two classes, and a regression has values. Received:"
            f" {', '.join(quality)}"
        )
    if quality and probe.labels is None:
        raise UserError(f"the probe must have labels for {', '.join(quality)}. Received: none")
    return churn, quality


def _churn_label(name: str, settings: Settings) -> str:
    for label in (name, f"{name}@{settings.k}"):
        if label in settings.measures:
            if settings.measures[label][0].better != "lower":
                raise UserError(f"the gate takes measures where lower is steadier. Received: {name!r}")
            return label
    measures = ", ".join([*settings.measures, *QUALITY[:2], "ndcg@k"])
    raise UserError(f"the gate's measures must be of {measures}. Received: {name!r}")
