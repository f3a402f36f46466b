"""Turns a round's answers into sums: pairs, floor, refreshes, slices. Pure: no clock, no network, no store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ranker.config import fingerprint
from ranker.divergence import (
    Comparison,
    FleetEstimate,
    RequestBatch,
    RequestMeasures,
    Settings,
    Statistic,
    gap_deciles,
    gap_noise,
    level,
    measure_requests,
    near_ties,
)
from ranker.divergence.fleet import ALL_PAIRS_UP_TO
from ranker.divergence.statistics import COLUMNS
from ranker.slices import Slice
from serving.monitor.collection.answers import Answers, Collected
from serving.monitor.measurement.fleet import compare_with_themselves, fleet_record, measure_fleet, to_show
from serving.monitor.measurement.record import (
    PROBE,
    FleetRecord,
    Mark,
    RoundRecord,
    SeriesKey,
    Subject,
    group,
    mirrored_counts,
)
from serving.monitor.requests.probe import Array, ProbeSet

Series = dict[SeriesKey, Mapping[str, Statistic]]

_SLICE_MEASURES = (
    "pd_abs",
    "rpd_sym",
    "rpd_ratio",
    "pd_logit",
    "bias",
    "top1_swap",
    "set_churn",
    "pair_inversion",
    "visible_inversion",
    "consensus_regret",
)
"""The measures that are stored of a slice. Slices are the larger part of the store."""


@dataclass(frozen=True, eq=False)
class Served:
    """The probe's scores by a served version. A refresh is compared with those of the version it replaced.

    Attributes:
        subject: replica and version.
        labels: of the replica.
        scores: float64 [R], nan where there is none.
        answered: bool [N].
    """

    subject: Subject
    labels: Mapping[str, str]
    scores: Array
    answered: Array


@dataclass(frozen=True, eq=False)
class MeasuredRound:
    """A measured round.

    Attributes:
        record: for the store.
        requests: the measures of each request, of all pairs; of a fleet of the pairs of its noisiest replicas.
        served: the served versions.
        levels: pair of replicas -> level, of the pairs in `requests`.
        summary: label -> value, low, high: the mean over pairs with its interval; min and max over the measured pairs.
    """

    record: RoundRecord
    requests: RequestMeasures | None
    served: dict[str, Served]
    levels: Mapping[tuple[str, str], str] = field(default_factory=dict)
    summary: Mapping[str, dict[str, float]] = field(default_factory=dict)


def measure(
    collected: Collected,
    settings: Settings,
    slices: Sequence[Slice],
    before: Mapping[str, Served],
    *,
    gaps: bool = False,
    stream: str = PROBE,
    mirrored: Mapping[str, int] | None = None,
    interval: float | None = None,
    all_pairs_up_to: int = ALL_PAIRS_UP_TO,
    members: Mapping[str, Subject] | None = None,
) -> MeasuredRound:
    """Measures a round.

    Args:
        collected: the replicas' answers.
        settings: depth and thresholds.
        slices: parts of the requests to measure apart.
        before: replica -> what it served in the last round that it answered; of live requests, which are new each time,
            nothing.
        gaps: also count each pair's inversions by decile of the gap, observed and beyond what noise predicts.
        stream: `probe` or `live`.
        mirrored: outcome -> mirrored calls since the last live round.
        interval: seconds to the next round; None: there is none.
        all_pairs_up_to: of more replicas a random design of pairs is measured.
        members: replica -> what it served last, of those that need not answer this round; None: by `before`.
    """
    probe = collected.probe
    # by name: a pair is the same series whatever the order of the deployment
    usable = sorted(
        (a for a in collected.answers if a.version and not a.refused), key=lambda answer: answer.replica
    )
    served = {answer.replica: _served_by(answer) for answer in usable}
    statistics: Series = {}
    measured: RequestMeasures | None = None
    summary: Mapping[str, dict[str, float]] = {}
    fleet: FleetRecord | None = None
    is_fleet = len(collected.answers) > all_pairs_up_to
    if served and is_fleet:
        if members is None:
            members = {name: state.subject for name, state in before.items()}
        measured, summary, fleet, statistics = _measure_fleet(
            collected=collected,
            served=served,
            last_members=members,
            settings=settings,
            slices=slices,
            stream=stream,
        )
    elif served:
        batch = _batch(probe, served)
        measured = measure_requests(batch, settings)
        for feature, value, comparison in by_slice(measured, settings, slices):
            statistics.update(
                series_of(
                    comparison=comparison,
                    served=served,
                    stream=stream,
                    probe=probe.hash,
                    feature=feature,
                    value=value,
                )
            )
            if not feature and comparison.pairs:
                summary = comparison.summary()
            if gaps and not feature and not settings.order_only:
                statistics.update(_count_inversions_by_gap(measured.batch, comparison, served, probe))
    marks, replaced = [], []
    for answer in collected.answers:
        if answer.refused and stream == PROBE:  # once is enough
            key = f"incompatible/{answer.replica}/{answer.version}/{answer.refused}"
            marks.append(
                Mark(
                    key, "incompatible", answer.replica, {"reason": answer.refused, "version": answer.version}
                )
            )
        now, old = served.get(answer.replica), before.get(answer.replica)
        if now is None:
            continue
        if not is_fleet:
            statistics.update(_measure_floor(answer, now, probe, settings, stream))
        if old is not None and old.subject != now.subject:
            marks.append(_refresh_mark(old.subject, now.subject))
            if len(old.scores) == len(now.scores):
                replaced.append(old)
    statistics.update(_compare_refreshes(replaced, served, probe, settings))
    record = RoundRecord(
        key=f"{stream}/{probe.hash}/{collected.started:.3f}",
        stream=stream,
        time=int(collected.started),
        duration=collected.duration,
        requests=len(probe),
        probe=probe.hash,
        subjects={state.subject: state.labels for state in served.values()},
        statistics=statistics,
        counts=_counts(collected) | mirrored_counts(mirrored or {}),
        marks=tuple(marks),
        interval=interval,
        fleet=fleet,
    )
    levels = _levels(measured, served) if measured is not None else {}
    return MeasuredRound(record, measured, {**before, **served}, levels, summary)


def _levels(measured: RequestMeasures, served: Mapping[str, Served]) -> dict[tuple[str, str], str]:
    names = measured.batch.replicas
    return {
        (names[i], names[j]): level(_provenance(served[names[i]]), _provenance(served[names[j]]))
        for i, j in measured.pairs
    }


def _measure_fleet(
    collected: Collected,
    served: Mapping[str, Served],
    last_members: Mapping[str, Subject],
    settings: Settings,
    slices: Sequence[Slice],
    stream: str,
) -> tuple[RequestMeasures, dict[str, dict[str, float]], FleetRecord, Series]:
    """The pairs to show, the summary, each replica's sums, and the series of the whole and of the slices."""
    probe = collected.probe
    answering = {answer.replica for answer in collected.answers}
    members = {name: subject for name, subject in last_members.items() if name in answering}
    members.update((name, state.subject) for name, state in served.items())
    everyone = group(list(members.values()))
    # another design each round: two rounds of one monitor never begin at the same time
    seed = round(collected.started * 1000)
    measured, estimates = measure_fleet(_batch(probe, served), settings, slices, seed)
    statistics: Series = {}
    whole: FleetEstimate | None = None
    for feature, value, estimate in estimates:
        whole = whole or estimate
        key = SeriesKey(stream, "all", everyone, everyone, feature=feature, value=value, probe=probe.hash)
        if measured.pairs:
            statistics[key] = _measures_to_store(estimate.means, feature)
    assert whole is not None  # the first is of all requests
    floors: dict[str, dict[str, Array]] = {}
    for kind in ("again", "batch"):
        comparison = _fleet_against_itself(collected, served, kind, settings)
        if not comparison.pairs:
            continue
        totals: dict[str, Statistic] = {}
        for (name, _), of_replica in comparison.pairs.items():
            for label, statistic in of_replica.items():
                totals[label] = totals[label].merge(statistic) if label in totals else statistic
                row = floors.setdefault(name, {}).setdefault(label, np.zeros(len(COLUMNS)))
                row += [getattr(statistic, column) for column in COLUMNS]
        statistics[SeriesKey(stream, kind, everyone, everyone, "L0", probe=probe.hash)] = totals
    record = fleet_record([members[name] for name in sorted(members)], whole, floors)
    return to_show(measured, whole), whole.summary() if measured.pairs else {}, record, statistics


def _fleet_against_itself(
    collected: Collected, served: Mapping[str, Served], kind: str, settings: Settings
) -> Comparison:
    """Each replica's answers against those that it gave when it was asked again, or inside a batch."""
    alone, repeated = {}, {}
    for answer in collected.answers:
        scores, answered = (
            (answer.again, answer.again_answered)
            if kind == "again"
            else (answer.batched, answer.batched_answered)
        )
        if answer.replica in served and answered.any():
            state = served[answer.replica]
            alone[answer.replica] = (state.scores, state.answered & answered)
            repeated[f"{answer.replica} {kind}\0"] = (scores, answered)
    if not alone:
        return Comparison.empty()
    batch = request_batch(collected.probe, alone | repeated)
    batch = batch.take(batch.answered.any(axis=0))
    return compare_with_themselves(batch, [(m, len(alone) + m) for m in range(len(alone))], settings)


def _provenance(served: Served) -> dict[str, object]:
    labels: dict[str, object] = {**served.labels, "version": served.subject.version}
    if "replica" in labels:  # replica 0 of one arm is not replica 0 of another
        labels["replica"] = f"{served.labels.get('arm', '')}/{labels['replica']}"
    return labels


def _served_by(answer: Answers) -> Served:
    identity = {key: value for key, value in answer.description.items() if key != "served_version"}
    labels = {
        key: value for key, value in answer.labels.items() if key != "server"
    }  # a moved server changes nothing
    subject = Subject(answer.replica, answer.version, fingerprint([identity, labels]))
    return Served(subject, answer.labels, answer.scores, answer.answered)


def _batch(probe: ProbeSet, served: Mapping[str, Served]) -> RequestBatch:
    return request_batch(probe, {name: (state.scores, state.answered) for name, state in served.items()})


def request_batch(probe: ProbeSet, answers: Mapping[str, tuple[Array, Array]]) -> RequestBatch:
    """Name -> (scores [R], answered [N]) as a batch; its requests are positions in the probe."""
    return RequestBatch.from_rows(
        probe.owner,
        probe.item_codes,
        np.stack([scores for scores, _ in answers.values()]),
        replicas=list(answers),
        answered=np.stack([answered[probe.owner] for _, answered in answers.values()]),
    )


def by_slice(
    measured: RequestMeasures, settings: Settings, slices: Sequence[Slice]
) -> Iterator[tuple[str, str, Comparison]]:
    """The whole, with no feature and no value, then each slice: (feature, value, comparison)."""
    yield "", "", measured.summarise()
    batch = measured.batch
    for part in slices:
        if part.by_request:
            yield part.feature, part.value, measured.summarise(part.requests[batch.requests])
        else:
            rows_of_part = batch.take_rows(part.rows[batch.rows])
            yield part.feature, part.value, measure_requests(rows_of_part, settings).summarise()


def series_of(
    comparison: Comparison,
    served: Mapping[str, Served],
    stream: str,
    probe: str,
    feature: str = "",
    value: str = "",
) -> Series:
    """A comparison's statistics by the series they belong to: every pair, every replica, all."""
    series: Series = {}
    cut: dict[str, Any] = {"feature": feature, "value": value, "probe": probe}
    for (a, b), statistics in comparison.pairs.items():
        first, second = served[a], served[b]
        rung = level(_provenance(first), _provenance(second))
        series[SeriesKey(stream, "pair", first.subject, second.subject, rung, **cut)] = _measures_to_store(
            statistics, feature
        )
    everyone = group([state.subject for state in served.values()])
    if comparison.pairs:
        series[SeriesKey(stream, "all", everyone, everyone, **cut)] = _measures_to_store(
            comparison.means, feature
        )
    if comparison.pairs and not feature:
        for name, statistics in comparison.replicas.items():
            # a replica is measured against the others: with other company it is another series
            series[SeriesKey(stream, "replica", served[name].subject, everyone, **cut)] = statistics
    return series


def _count_inversions_by_gap(
    batch: RequestBatch, comparison: Comparison, served: Mapping[str, Served], probe: ProbeSet
) -> Series:
    series: Series = {}
    for a, b in comparison.pairs:
        sigma = gap_noise(batch, a, b)
        if not sigma > 0:
            continue  # they do not differ: nothing to predict from
        counted = near_ties(batch, a, b, sigma, edges=gap_deciles(batch, a, b))
        statistics = {}
        parts = zip(counted.edges, counted.observed, counted.excess, strict=False)
        for tenth, (low, observed, excess) in enumerate(parts, 1):
            statistics[f"gap@tenth-{tenth}"] = Statistic.of([low])
            statistics[f"observed_inversion@tenth-{tenth}"] = observed
            statistics[f"excess_inversion@tenth-{tenth}"] = excess
        key = SeriesKey(PROBE, "gaps", served[a].subject, served[b].subject, probe=probe.hash)
        series[key] = statistics
    return series


def _measures_to_store(statistics: Mapping[str, Statistic], feature: str) -> Mapping[str, Statistic]:
    if not feature:
        return statistics
    return {
        label: statistic
        for label, statistic in statistics.items()
        if label.partition("@")[0] in _SLICE_MEASURES
    }


def _measure_floor(answer: Answers, now: Served, probe: ProbeSet, settings: Settings, stream: str) -> Series:
    floors: Series = {}
    for kind, scores, answered in (
        ("again", answer.again, answer.again_answered),
        ("batch", answer.batched, answer.batched_answered),
    ):
        if answered.any():
            batch = request_batch(
                probe, {"alone": (now.scores, now.answered & answered), kind: (scores, answered)}
            )
            (statistics,) = measure_requests(batch, settings).summarise().pairs.values()
            floors[SeriesKey(stream, kind, now.subject, now.subject, "L0", probe=probe.hash)] = statistics
    return floors


def _compare_refreshes(
    replaced: Sequence[Served], served: Mapping[str, Served], probe: ProbeSet, settings: Settings
) -> Series:
    """Compares refreshed replicas with their old versions.

    All served replicas take part, so that the consensus is the one that the pairs are measured against.
    """
    if not replaced:
        return {}
    answers = {f"{old.subject.replica} before\0": (old.scores, old.answered) for old in replaced}
    answers |= {replica: (state.scores, state.answered) for replica, state in served.items()}
    position = {name: place for place, name in enumerate(answers)}
    pairs = [(place, position[old.subject.replica]) for place, old in enumerate(replaced)]
    compared = compare_with_themselves(request_batch(probe, answers), pairs, settings)
    return {
        SeriesKey(
            PROBE, "refresh", old.subject, served[old.subject.replica].subject, "L6", probe=probe.hash
        ): statistics
        for old, statistics in zip(replaced, compared.pairs.values(), strict=True)
    }


def _refresh_mark(old: Subject, new: Subject) -> Mark:
    key = f"refresh/{new.replica}/{old.version}/{old.fingerprint}/{new.version}/{new.fingerprint}"
    return Mark(key, "refresh", new.replica, {"old": old.version, "new": new.version})


def _counts(collected: Collected) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for answer in collected.answers:
        counts[answer.replica, "asked"] = len(collected.probe)
        counts[answer.replica, "answered"] = len(collected.probe) - answer.errors.total()
        for kind, count in answer.errors.items():
            counts[answer.replica, kind] = count
    return counts
