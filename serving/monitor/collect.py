"""One round: every probe request to every replica, each replica on its own time.

A replica that is down or slow costs the others nothing: it has its own threads, a deadline a request, and an
end of the round after which what is missing counts as `deadline`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ranker.errors import UserError
from serving.client import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    MalformedAnswer,
    NotFound,
    RankerClient,
    ServingError,
    Unavailable,
    Unimplemented,
)
from serving.monitor.requests import Array, ProbeSet

ERROR_KINDS = (
    "down", "deadline", "invalid_score", "coverage_mismatch", "wrong_model", "incompatible", "version_change", "refused",
    "error",
)  # fmt: skip
"""Why a request has no usable answer: nothing listens; too late; a score is no probability; other candidates than asked;
the server has no such model; another feature spec or vocabulary; another version than the round's; the server turned the
request down; anything else."""

_GIVE_UP_AFTER = 3
_KINDS: tuple[tuple[type[ServingError], str], ...] = (
    (DeadlineExceeded, "deadline"),
    (Unavailable, "down"),
    (NotFound, "wrong_model"),
    (MalformedAnswer, "coverage_mismatch"),
    (InvalidArgument, "refused"),
    (FailedPrecondition, "refused"),
    (Unimplemented, "wrong_model"),
)


class Target(Protocol):
    """A replica to ask: a `serving.deployment.Replica` is one."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def target(self) -> str:
        """Its address, `host:port`."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Seeds, data, hardware: what tells it from the others."""


@dataclass(frozen=True)
class Expected:
    """What a replica must say of itself to be compared; empty: anything."""

    feature_spec: str = ""
    vocabulary: str = ""

    def refuses(self, description: Mapping[str, Any]) -> str:
        """Why a replica that describes itself so may not be compared; empty if it may."""
        for key, want in (("feature_spec", self.feature_spec), ("vocabulary", self.vocabulary)):
            got = description.get(key)
            if want and got and got != want:
                return f"{key} {got} instead of {want}"
        return ""


@dataclass(frozen=True)
class Limits:
    """How long and how hard to ask.

    Attributes:
        deadline: seconds a request.
        round: seconds a replica has for its whole round.
        concurrency: requests under way at a time, per replica.
        floor: requests that are asked again, alone and (with `batched`) inside a batch.
        batched: whether to ask inside a batch.
    """

    deadline: float = 5.0
    round: float = 45.0
    concurrency: int = 4
    floor: int = 50
    batched: bool = True


@dataclass(frozen=True, eq=False)
class Answers:
    """What one replica answered in a round.

    Attributes:
        replica: its name.
        labels: its labels, completed by what it says of itself.
        version: the served version; 0 where nothing was answered.
        description: what `describe` said.
        scores: float64 [R], the probe's rows; nan where there is no answer.
        answered: bool [N].
        again, batched: the same for the floor's requests, asked a second time alone, and inside a batch.
        errors: requests without a usable answer, by kind.
        latencies: seconds of each answered request.
        refused: why the replica may not be compared; empty if it may.
    """

    replica: str
    labels: dict[str, str]
    version: int
    description: dict[str, Any]
    scores: Array
    answered: Array
    again: Array
    again_answered: Array
    batched: Array
    batched_answered: Array
    errors: Counter[str] = field(default_factory=Counter)
    latencies: tuple[float, ...] = ()
    refused: str = ""


@dataclass(frozen=True, eq=False)
class Collected:
    """One round, as it came in."""

    probe: ProbeSet
    started: float
    duration: float
    answers: tuple[Answers, ...]


Connect = Callable[[Target], RankerClient]


def collect(
    targets: Sequence[Target],
    probe: ProbeSet,
    connect: Connect,
    expected: Expected,
    limits: Limits,
    usual: Expected | None = None,
) -> Collected:
    """Asks every replica every request, all replicas at once.

    Args:
        targets: the replicas.
        probe: the requests.
        connect: opens a client for a replica; closed after the round.
        expected: what replicas must say of themselves.
        limits: deadlines.
        usual: where `expected` does not say, most replicas decide who may be compared; this breaks a tie.
    """
    started, clock = time.time(), time.monotonic()
    with ThreadPoolExecutor(max_workers=max(len(targets), 1), thread_name_prefix="replica") as pool:
        answers = tuple(pool.map(lambda target: _ask(target, probe, connect, expected, limits), targets))
    common = _common(answers, expected, usual or Expected())
    answers = tuple(_held_to(common, one, probe) for one in answers)
    return Collected(probe, started, time.monotonic() - clock, answers)


def _common(answers: Sequence[Answers], expected: Expected, usual: Expected) -> Expected:
    """What to expect where `expected` does not say: what most replicas say of themselves, of equals the usual."""

    def most(key: str, before: str) -> str:
        told = Counter(
            str(one.description[key]) for one in answers if one.version and one.description.get(key)
        )
        best = [value for value, count in told.items() if count == max(told.values())]
        return before if before in best else next(iter(best), "")

    return Expected(
        expected.feature_spec or most("feature_spec", usual.feature_spec),
        expected.vocabulary or most("vocabulary", usual.vocabulary),
    )


def _held_to(expected: Expected, one: Answers, probe: ProbeSet) -> Answers:
    refused = expected.refuses(one.description)
    if one.refused or not refused:
        return one
    return _nothing(one.replica, one.labels, probe, "incompatible", one.version, one.description, refused)


class _Sheet:
    """One replica's answers as they come in."""

    def __init__(self, probe: ProbeSet) -> None:
        self.scores = np.full(int(probe.offsets[-1]), np.nan)
        self.versions = np.zeros(len(probe), dtype=np.int64)
        self.kinds: list[str] = [""] * len(probe)
        self.latencies: list[float] = []


def _ask(target: Target, probe: ProbeSet, connect: Connect, expected: Expected, limits: Limits) -> Answers:
    ends = time.monotonic() + limits.round
    labels = {**{key: str(value) for key, value in target.labels.items()}, "server": target.target}
    try:
        client = connect(target)
    except UserError:
        return _nothing(target.name, labels, probe, "error")
    with client:
        try:
            description = client.describe()
        except (FailedPrecondition, InvalidArgument, MalformedAnswer):
            description = {}  # not an export of ours: it may still be asked for scores
        except ServingError as error:
            return _nothing(target.name, labels, probe, _kind(error))
        # what it serves now knows its seeds better than the deployment that was written before a refresh
        labels = {**labels, **{k: str(description[k]) for k in LABELS if k in description}}
        refused = expected.refuses(description)
        if refused:
            version = int(description.get("served_version", 0))
            return _nothing(target.name, labels, probe, "incompatible", version, description, refused)
        positions = list(range(len(probe)))
        alone = _send(client, probe, [(n,) for n in positions], ends, limits)
        versions = np.unique(alone.versions[alone.versions > 0])
        version = int(versions[-1]) if len(versions) else 0
        again, batched = _Sheet(probe), _Sheet(probe)
        if len(versions) == 1 and limits.floor:
            floor = positions[: limits.floor]
            again = _send(client, probe, [(n,) for n in floor], ends, limits)
            if limits.batched:
                batched = _send(client, probe, [(n, (n + 1) % len(probe)) for n in floor], ends, limits)
    return _answers(target.name, labels, version, description, probe, alone, again, batched)


LABELS = ("arm", "replica", "init_seed", "shuffle_seed", "data", "hardware", "vocabulary", "feature_spec")
"""What is kept of a replica's description."""


def _send(
    client: RankerClient, probe: ProbeSet, batches: Sequence[tuple[int, ...]], ends: float, limits: Limits
) -> _Sheet:
    """Asks batches of requests; of each batch the first request's scores are kept."""
    sheet = _Sheet(probe)
    failures: list[str] = []  # since the last answer

    def one(batch: tuple[int, ...]) -> None:
        n = batch[0]
        if time.monotonic() >= ends:
            sheet.kinds[n] = "deadline"
            return
        if len(failures) >= _GIVE_UP_AFTER:  # it does not answer: the rest of the round is not worth the wait
            sheet.kinds[n] = failures[-1]
            return
        try:
            prediction = client.predict(probe.rows(*batch))
        except ServingError as error:
            sheet.kinds[n] = _kind(error)
            if isinstance(error, (DeadlineExceeded, Unavailable)):
                failures.append(sheet.kinds[n])
            return
        except UserError:
            sheet.kinds[n] = "error"
            return
        failures.clear()
        scores = prediction.scores[: probe.size(n)].astype(np.float64)
        sheet.scores[probe.row_slice(n)] = scores
        sheet.versions[n] = prediction.version
        sheet.latencies.append(prediction.latency)
        if not (np.isfinite(scores).all() and (scores >= 0).all() and (scores <= 1).all()):
            sheet.kinds[n] = "invalid_score"

    with ThreadPoolExecutor(max_workers=limits.concurrency) as pool:
        for _ in pool.map(one, batches):
            pass
    return sheet


def _answers(
    replica: str, labels: dict[str, str], version: int, description: dict[str, Any], probe: ProbeSet, alone: _Sheet,
    again: _Sheet, batched: _Sheet,
) -> Answers:  # fmt: skip
    kinds = alone.kinds.copy()
    for n in np.flatnonzero((alone.versions > 0) & (alone.versions != version)):
        kinds[n] = "version_change"  # a refresh in mid-round: the round is the newer version's

    def of(sheet: _Sheet) -> tuple[Array, Array]:
        answered = (sheet.versions == version) & (version > 0)
        return np.where(answered[probe.owner], sheet.scores, np.nan), answered

    scores, answered = of(alone)
    again_scores, again_answered = of(again)
    batched_scores, batched_answered = of(batched)
    return Answers(
        replica, labels, version, description, scores, answered, again_scores, again_answered, batched_scores,
        batched_answered, Counter(kind for kind in kinds if kind), tuple(alone.latencies),
    )  # fmt: skip


def _nothing(
    replica: str,
    labels: dict[str, str],
    probe: ProbeSet,
    kind: str,
    version: int = 0,
    description: dict[str, Any] | None = None,
    refused: str = "",
) -> Answers:
    scores, none = np.full(int(probe.offsets[-1]), np.nan), np.zeros(len(probe), dtype=bool)
    errors = Counter({kind: len(probe)})
    return Answers(
        replica,
        labels,
        version,
        description or {},
        scores,
        none,
        scores,
        none,
        scores,
        none,
        errors,
        refused=refused,
    )


def _kind(error: ServingError) -> str:
    return next((kind for type_, kind in _KINDS if isinstance(error, type_)), "error")
