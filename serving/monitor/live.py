"""The live stream: requests that the gateway mirrored to every replica, from its spool to the store.

A file of the spool is one round, under the file's name: it is deleted after its round is stored, and a kill in
between makes it a round that is known already.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ranker.divergence import RequestBatch, RequestMeasures, Settings, measure_requests
from ranker.errors import UserError
from serving import spool
from serving.mirrored import MirroredRequest, ReplicaAnswer, Value
from serving.monitor.exemplars import Exemplars, Names
from serving.monitor.measure import Series, Served, by_slice, series_of
from serving.monitor.record import LIVE, RoundRecord, Subject
from serving.monitor.slices import Cut, Slice
from serving.monitor.store import Store
from serving.monitor.store.write import write_round

log = logging.getLogger(__name__)

_KINDS = {"UNAVAILABLE": "down", "BREAKER_OPEN": "down", "DEADLINE_EXCEEDED": "deadline", "MALFORMED": "coverage_mismatch",
          "NOT_FOUND": "wrong_model", "INVALID_ARGUMENT": "refused", "FAILED_PRECONDITION": "refused"}  # fmt: skip


def ingest(
    store: Store,
    directory: Path,
    settings: Settings,
    served: Mapping[str, Served],
    exemplars: Exemplars | None = None,
    cut: Sequence[Cut] = (),
    most_files: int = 20,
    context: Sequence[str] = (),
) -> int:
    """Stores what waits in a spool directory, the oldest first.

    Args:
        store: where rounds go.
        directory: of the spool.
        settings: depth and thresholds.
        served: what the probe knows of the replicas, for their labels.
        exemplars: where example requests go; None: none are kept.
        cut: how the probe is sliced; requests that the gateway kept the features of are sliced alike.
        most_files: files taken at a time, so that a backlog does not hold up the probe.
        context: names of the features that are the same for all candidates of a request.

    Returns:
        The number of requests stored.
    """
    count = 0
    for path in spool.finished(directory)[:most_files]:
        requests = []
        try:
            for request in spool.read(path):
                requests.append(request)
        except UserError as error:
            log.warning("%s: the rest of the file is left out: %s", path, error)
        if requests:
            done = live_round(f"{LIVE}/{path.stem}", requests, settings, served, cut, context)
            if _stored(store, done.record):
                count += len(requests)
                if exemplars is not None and done.measured is not None and done.measured.pairs:
                    try:
                        exemplars.add(LIVE, done.record.time, done.measured, done.names)
                    except OSError as error:  # costs examples, not measurements
                        log.warning("example requests cannot be kept: %s", error)
        path.unlink(missing_ok=True)
    return count


def _stored(store: Store, record: RoundRecord) -> bool:
    try:
        return write_round(store, record)
    except UserError as error:  # a spool that nobody read for days
        log.warning("%s is left out: %s", record.key, error)
        return False


@dataclass(frozen=True, eq=False)
class LiveRound:
    """Mirrored requests, measured; `names` say what the numbers in `measured` stand for."""

    record: RoundRecord
    measured: RequestMeasures | None
    names: Names


def live_round(
    key: str,
    requests: Sequence[MirroredRequest],
    settings: Settings,
    known: Mapping[str, Served],
    cut: Sequence[Cut] = (),
    context: Sequence[str] = (),
) -> LiveRound:
    """Measures mirrored requests: the version that a replica answered most by counts, others are `version_change`."""
    names = sorted({answer.replica for request in requests for answer in request.answers})
    served_by: dict[str, Counter[int]] = {name: Counter() for name in names}
    for request in requests:
        for answer in request.answers:
            if answer.version:
                served_by[answer.replica][answer.version] += 1
    versions = {name: max(seen, key=seen.__getitem__) if seen else 0 for name, seen in served_by.items()}
    kinds: Counter[tuple[str, str]] = Counter()
    usable: dict[str, list[ReplicaAnswer | None]] = {name: [] for name in names}
    for request in requests:
        given = {answer.replica: answer for answer in request.answers}
        for name in names:
            kind = _kind(given.get(name), versions[name])
            usable[name].append(given[name] if kind in ("", "invalid_score") else None)
            if name in given:
                kinds[name, "asked"] += 1
                kinds[name, kind or "answered"] += 1
    live = [name for name in names if versions[name] and any(usable[name])]
    who = {name: _who(name, versions[name], known) for name in live}
    measured = (
        measure_requests(_batch(requests, {name: usable[name] for name in live}), settings) if live else None
    )
    series: Series = {}
    if measured is not None:
        for feature, value, comparison in by_slice(measured, settings, _slices(requests, cut)):
            series.update(series_of(comparison, who, LIVE, "", feature, value))
    record = RoundRecord(
        key=key,
        stream=LIVE,
        time=int(max(request.time for request in requests)),
        duration=0.0,
        requests=len(requests),
        probe="",
        subjects={one.subject: one.labels for one in who.values()},
        statistics=series,
        counts=dict(kinds),
    )
    levels = {
        (one.a.replica, one.b.replica): one.level for one in series if one.kind == "pair" and not one.feature
    }
    same = {*context, *(one.feature for one in cut if one.by_request)}
    items = np.array([item for request in requests for item in request.item_ids], dtype=object)
    names_of = Names(
        [request.request_id for request in requests],
        items,
        _contexts(requests, same),
        {name: versions[name] for name in live},
        levels,
        _candidates(requests, same),
    )
    return LiveRound(record, measured, names_of)


def _slices(requests: Sequence[MirroredRequest], cut: Sequence[Cut]) -> tuple[Slice, ...]:
    """The cuts' parts of these requests' rows, by those features that the gateway kept."""
    sizes = [len(request.item_ids) for request in requests]
    owner = np.repeat(np.arange(len(requests)), sizes)
    found: list[Slice] = []
    for one in cut:
        if not any(one.feature in request.features for request in requests):
            continue
        values: list[Value] = []
        for request, size in zip(requests, sizes, strict=True):
            told = request.features.get(one.feature, (None,))
            same = one.by_request or len(told) != size
            values += told[:1] * size if same else told
        found += one.slices(one.parts(values), owner, len(requests))
    return tuple(found)


def _contexts(requests: Sequence[MirroredRequest], same: Set[str]) -> dict[str, dict[str, Value]]:
    return {
        request.request_id: {
            name: values[0] for name, values in request.features.items() if name in same and values
        }
        for request in requests
    }


def _candidates(requests: Sequence[MirroredRequest], same: Set[str]) -> dict[str, list[Value]]:
    """Of the features that a candidate has of its own, the values row by row; None where they were not kept."""
    names = sorted({name for request in requests for name in request.features} - same)
    found: dict[str, list[Value]] = {name: [] for name in names}
    for request in requests:
        size = len(request.item_ids)
        for name, values in found.items():
            told = request.features.get(name) or (None,)
            # the gateway writes what is the same for all candidates once
            values += told if len(told) == size else told[:1] * size
    return found


def _kind(answer: ReplicaAnswer | None, version: int) -> str:
    if answer is None or answer.scores is None:
        return _KINDS.get(answer.error, "error") if answer is not None else "error"
    if answer.version != version:
        return "version_change"
    scores = answer.scores
    return "" if bool(((scores >= 0) & (scores <= 1)).all()) else "invalid_score"


def _who(name: str, version: int, served: Mapping[str, Served]) -> Served:
    known = served.get(name)
    if known is not None and known.subject.version == version:
        return known
    none = np.zeros(0)
    return Served(Subject(name, version), known.labels if known is not None else {}, none, none.astype(bool))


def _batch(
    requests: Sequence[MirroredRequest], usable: Mapping[str, Sequence[ReplicaAnswer | None]]
) -> RequestBatch:
    sizes = np.array([len(request.item_ids) for request in requests])
    ids = sorted({item for request in requests for item in request.item_ids})
    place = {item: code for code, item in enumerate(ids)}
    scores = np.full((len(usable), int(sizes.sum())), math.nan)
    answered = np.zeros(scores.shape, dtype=bool)
    ends = np.cumsum(sizes)
    for m, answers in enumerate(usable.values()):
        for answer, end, size in zip(answers, ends, sizes, strict=True):
            if answer is not None and answer.scores is not None:
                scores[m, end - size : end] = answer.scores
                answered[m, end - size : end] = True
    return RequestBatch.from_rows(
        np.repeat(np.arange(len(requests)), sizes),
        np.array([place[item] for request in requests for item in request.item_ids], dtype=np.int64),
        scores,
        replicas=list(usable),
        answered=answered,
    )
