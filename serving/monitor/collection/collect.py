"""Collects one round: sends every probe request to every replica, each replica on its own threads.

A replica that is down or slow does not delay the others. Each request has a deadline, and so has the round: requests
without an answer at its end count as `deadline`. A replica that comes back within the round gets the requests that it
has not answered.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ranker.divergence import AnswerCoverage, LeftOut
from ranker.errors import UserError
from serving.client import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    MalformedAnswer,
    NotFound,
    ServingError,
    Unavailable,
    Unimplemented,
)
from serving.deployment import Replica
from serving.monitor.requests.probe import Array, ProbeSet
from serving.targets.scoring import ScoringClient
from serving.targets.target import parse_target

ERROR_KINDS = (
    "down",
    "deadline",
    "invalid_score",
    "coverage_mismatch",
    "wrong_model",
    "incompatible",
    "version_change",
    "refused",
    "error",
)
"""Why a request has no usable answer: nothing listens; too late; a score is no probability; other candidates than asked;
the server has no such model; another feature spec (schema); another version than the round's; the server turned the
request down; anything else."""

_FAILURES_IN_ROW = 3
"""Calls in a row without an answer after which a replica is asked one request at a time until it answers again."""
_ATTEMPTS = 3
"""How often a request is sent whose calls end with a status of `_RETRIED_STATUSES`, while the replica answers others."""
_RETRIED_STATUSES = frozenset({"UNAVAILABLE", "ABORTED", "CANCELLED"})
"""gRPC statuses of calls that may do better at once: the connection broke, or the server turned the call away.
A call past its deadline is not sent again: to a caller it is as late."""
_LONGEST_PAUSE = 2.0

_KINDS: tuple[tuple[type[ServingError], str], ...] = (
    (DeadlineExceeded, "deadline"),
    (Unavailable, "down"),
    (NotFound, "wrong_model"),
    (MalformedAnswer, "coverage_mismatch"),
    (InvalidArgument, "refused"),
    (FailedPrecondition, "refused"),
    (Unimplemented, "wrong_model"),
)


_REPLICAS_AT_ONCE = 64
"""Each has threads of its own. One that is away holds its place for `RoundLimits.patience` at most."""
_LISTENS_WITHIN = 2.0
"""Seconds."""
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
"""The client's first words, RFC 9113, section 3.4, with an empty SETTINGS frame."""


@dataclass(frozen=True)
class Expected:
    """The description that a replica must have to be compared; empty: any."""

    feature_spec: str = ""

    def refuses(self, description: Mapping[str, Any]) -> str:
        """Why a replica that describes itself so may not be compared; empty if it may."""
        schema = description.get("feature_spec")
        if self.feature_spec and schema and schema != self.feature_spec:
            return f"feature_spec {schema} instead of {self.feature_spec}"
        return ""


@dataclass(frozen=True)
class RoundLimits:
    """How long and how hard to ask.

    Attributes:
        deadline: seconds a request.
        round: seconds a replica has for its whole round.
        concurrency: requests under way at a time, per replica.
        floor: requests that are asked again, alone and (with `batched`) inside a batch.
        batched: whether to ask inside a batch.
        patience: seconds without any answer after which a replica is given up for the round.
    """

    deadline: float = 5.0
    round: float = 45.0
    concurrency: int = 4
    floor: int = 50
    batched: bool = True
    patience: float = 3.0


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
        kinds: position of a request without a usable answer -> its kind of error.
        messages: kind of error -> what the first of them said.
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
    kinds: Mapping[int, str] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)

    def coverage(self, probe: ProbeSet) -> AnswerCoverage:
        """Who was asked and who answered: the requests without a usable answer by kind, with the first of each."""
        positions: dict[str, list[int]] = {}
        for n, kind in sorted(self.kinds.items()):
            positions.setdefault(kind, []).append(n)
        left_out = {
            kind: LeftOut(len(places), probe.requests[places[0]])
            for kind, places in sorted(positions.items(), key=lambda entry: -len(entry[1]))
        }
        return AnswerCoverage(len(probe), len(probe) - len(self.kinds), left_out)


@dataclass(frozen=True, eq=False)
class Collected:
    """One round, as it came in."""

    probe: ProbeSet
    started: float
    duration: float
    answers: tuple[Answers, ...]

    @property
    def coverage(self) -> dict[str, AnswerCoverage]:
        """Each replica's coverage."""
        return {answers.replica: answers.coverage(self.probe) for answers in self.answers}


Connect = Callable[[Replica], ScoringClient]


def collect(
    replicas: Sequence[Replica],
    probe: ProbeSet,
    connect: Connect,
    expected: Expected,
    limits: RoundLimits,
    preferred: Expected | None = None,
) -> Collected:
    """Asks every replica every request, up to `_REPLICAS_AT_ONCE` replicas at a time.

    Args:
        replicas: whom to ask.
        probe: the requests.
        connect: opens a client for a replica; closed after the round.
        expected: what replicas must say of themselves.
        limits: deadlines.
        preferred: where `expected` does not say, most replicas decide who may be compared; this one wins a tie.
    """
    started, clock = time.time(), time.monotonic()

    def ask(replica: Replica) -> Answers:
        answer = _ask_replica(replica, probe, connect, expected, limits)
        if answer.errors.get("down") and _accepts_but_is_silent(replica.target):
            answer.errors["deadline"] += answer.errors.pop("down")
        return answer

    workers = min(max(len(replicas), 1), _REPLICAS_AT_ONCE)
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="replica") as pool:
        answers = tuple(pool.map(ask, replicas))
    majority = _majority(answers, expected, preferred or Expected())
    answers = tuple(_refuse_unexpected(majority, answer, probe) for answer in answers)
    return Collected(probe, started, time.monotonic() - clock, answers)


def _accepts_but_is_silent(text: str) -> bool:
    """Whether a process holds a port and says nothing there.

    gRPC says UNAVAILABLE of it, as it does where nothing listens. Any HTTP/2 server sends its settings as soon as it
    has the client's preface, and a TLS server answers such a preface with an alert. A process that hangs says nothing,
    while the kernel accepts for it.
    """
    target = parse_target(text)
    if not target.is_grpc:  # HTTP clients tell the two apart
        return False
    try:
        with socket.create_connection(target.address, timeout=_LISTENS_WITHIN) as connection:
            connection.sendall(_HTTP2_PREFACE)
            connection.recv(1)
    except TimeoutError:
        return True
    except OSError:
        return False
    return False


def _majority(answers: Sequence[Answers], expected: Expected, preferred: Expected) -> Expected:
    """The feature spec of most replicas, where `expected` has none; of equally many the preferred one."""
    if expected.feature_spec:
        return expected
    votes = Counter(
        str(answer.description["feature_spec"])
        for answer in answers
        if answer.version and answer.description.get("feature_spec")
    )
    winners = [value for value, count in votes.items() if count == max(votes.values())]
    return Expected(preferred.feature_spec if preferred.feature_spec in winners else next(iter(winners), ""))


def _refuse_unexpected(expected: Expected, answer: Answers, probe: ProbeSet) -> Answers:
    reason = expected.refuses(answer.description)
    if answer.refused or not reason:
        return answer
    return _no_answers(
        replica=answer.replica,
        labels=answer.labels,
        probe=probe,
        kind="incompatible",
        version=answer.version,
        description=answer.description,
        refused=reason,
    )


class _ReplicaScores:
    """One replica's scores as they come in.

    Attributes:
        scores: float64 [R], nan where there is none.
        versions: the version that answered each request, int64 [N]; 0: none.
        kinds: why a request has no usable answer [N]; empty: it has one, or it was not asked.
        latencies: seconds of each answered call.
        messages: kind of error -> what the first of them said.
    """

    def __init__(self, probe: ProbeSet) -> None:
        self.scores = np.full(int(probe.offsets[-1]), np.nan)
        self.versions = np.zeros(len(probe), dtype=np.int64)
        self.kinds: list[str] = [""] * len(probe)
        self.latencies: list[float] = []
        self.messages: dict[str, str] = {}


class _SilenceTimer:
    """How long a replica has not answered; paces the calls that find out whether it is back.

    Args:
        patience: seconds of silence after which it is given up.
        ends: the end of the round, by the monotonic clock.
    """

    def __init__(self, patience: float, ends: float) -> None:
        self._patience, self._ends = patience, ends
        self.end()

    def end(self) -> None:
        """The replica answered."""
        self._since = time.monotonic()
        self._pause = 0.1

    def wait(self) -> bool:
        """Sleeps until the next call is due; False (at once) if none is due before patience or the round ends."""
        if time.monotonic() + self._pause >= min(self._since + self._patience, self._ends):
            return False
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return True


def _ask_replica(
    replica: Replica, probe: ProbeSet, connect: Connect, expected: Expected, limits: RoundLimits
) -> Answers:
    ends = time.monotonic() + limits.round
    labels = {**{key: str(value) for key, value in replica.labels.items()}, "server": replica.target}
    try:
        client = connect(replica)
    except UserError as error:
        return _no_answers(replica.name, labels, probe, "error", message=str(error))
    with client:
        try:
            description = _describe(client, _SilenceTimer(limits.patience, ends))
        except (FailedPrecondition, InvalidArgument, MalformedAnswer):
            description = {}  # not an export of ours: it may still be asked for scores
        except ServingError as error:
            return _no_answers(
                replica.name, labels, probe, _kind(error), message="" if _is_silent(error) else str(error)
            )
        # what it serves now knows its seeds better than the deployment that was written before a refresh
        labels = {**labels, **{k: str(description[k]) for k in LABELS if k in description}}
        reason = expected.refuses(description)
        if reason:
            version = int(description.get("served_version", 0))
            return _no_answers(
                replica=replica.name,
                labels=labels,
                probe=probe,
                kind="incompatible",
                version=version,
                description=description,
                refused=reason,
            )
        positions = list(range(len(probe)))
        alone = _send(client, probe, [(n,) for n in positions], ends, limits)
        versions = np.unique(alone.versions[alone.versions > 0])
        version = int(versions[-1]) if len(versions) else 0
        again, batched = _ReplicaScores(probe), _ReplicaScores(probe)
        if len(versions) == 1 and limits.floor:
            floor = positions[: limits.floor]
            again = _send(client, probe, [(n,) for n in floor], ends, limits)
            if limits.batched:
                batched = _send(client, probe, [(n, probe.companion(n)) for n in floor], ends, limits)
    return _answers(
        replica=replica.name,
        labels=labels,
        version=version,
        description=description,
        probe=probe,
        alone=alone,
        again=again,
        batched=batched,
    )


LABELS = (
    "arm",
    "replica",
    "init_seed",
    "shuffle_seed",
    "data",
    "hardware",
    "vocabulary",
    "encoding",
    "feature_spec",
)
"""The keys of a replica's description that become its labels."""


def _describe(client: ScoringClient, silence: _SilenceTimer) -> dict[str, Any]:
    while True:
        try:
            return client.describe()
        except ServingError as error:
            if not _is_silent(error) or not silence.wait():
                raise


def _send(
    client: ScoringClient,
    probe: ProbeSet,
    batches: Sequence[tuple[int, ...]],
    ends: float,
    limits: RoundLimits,
) -> _ReplicaScores:
    """Asks batches of requests; of each batch the first request's scores are kept.

    Calls that were turned away are sent again. After some calls in a row without an answer the rest waits until the
    replica answers a request that it answered before.
    """
    result = _ReplicaScores(probe)
    silence = _SilenceTimer(limits.patience, ends)
    attempts: Counter[int] = Counter()
    failures: list[str] = []  # kinds, since the replica last gave an answer or an error of its own
    trial = batches[0]

    def is_settled(batch: tuple[int, ...]) -> bool:
        """Asks one batch; False if it must wait."""
        nonlocal trial
        if time.monotonic() >= ends or len(failures) >= _FAILURES_IN_ROW:
            return False
        n = batch[0]
        result.kinds[n] = ""
        try:
            prediction = client.predict(probe.rows(*batch))
        except ServingError as error:
            result.kinds[n] = _kind(error)
            if not _is_silent(error):
                result.messages.setdefault(result.kinds[n], str(error))
            if _is_silent(error):
                failures.append(result.kinds[n])
                attempts[n] += 1
                return error.code not in _RETRIED_STATUSES or attempts[n] >= _ATTEMPTS
        except UserError as error:
            result.kinds[n] = "error"  # the request cannot be sent
            result.messages.setdefault("error", str(error))
            return True
        else:
            trial = batch
            scores = prediction.scores[: probe.size(n)].astype(np.float64)
            result.scores[probe.row_slice(n)] = scores
            result.versions[n] = prediction.version
            result.latencies.append(prediction.latency)
            if not (np.isfinite(scores).all() and (scores >= 0).all() and (scores <= 1).all()):
                result.kinds[n] = "invalid_score"
                result.messages.setdefault("invalid_score", _not_probabilities(scores))
        failures.clear()
        return True

    unsendable: set[tuple[int, ...]] = set()

    def is_back() -> bool:
        """Asks one request to find out whether the replica answers."""
        nonlocal trial
        while True:
            try:
                client.predict(probe.rows(*trial))
            except ServingError as error:
                return not _is_silent(error)
            except UserError:  # the request cannot be sent: it says nothing about the replica
                unsendable.add(trial)
                sendable = [batch for batch in waiting if batch not in unsendable]
                if not sendable:
                    return True  # nothing waits but what the client refuses at once
                trial = sendable[0]
            else:
                return True

    waiting, kind = list(batches), "deadline"
    with ThreadPoolExecutor(max_workers=limits.concurrency) as pool:
        while waiting and time.monotonic() < ends:
            failures.clear()
            silence.end()
            settled = list(pool.map(is_settled, waiting))
            waiting = [batch for batch, done in zip(waiting, settled, strict=True) if not done]
            if waiting and failures and not _wait_until_back(is_back, silence):
                kind = failures[-1]
                break
    for n, *_ in waiting:
        result.kinds[n] = result.kinds[n] or kind
    return result


def _wait_until_back(is_back: Callable[[], bool], silence: _SilenceTimer) -> bool:
    while not is_back():
        if not silence.wait():
            return False
    return True


def _answers(
    replica: str,
    labels: dict[str, str],
    version: int,
    description: dict[str, Any],
    probe: ProbeSet,
    alone: _ReplicaScores,
    again: _ReplicaScores,
    batched: _ReplicaScores,
) -> Answers:
    kinds = alone.kinds.copy()
    for n in np.flatnonzero((alone.versions > 0) & (alone.versions != version)):
        kinds[n] = "version_change"  # a refresh in mid-round: the round is the newer version's

    def of(result: _ReplicaScores) -> tuple[Array, Array]:
        answered = (result.versions == version) & (version > 0)
        return np.where(answered[probe.owner], result.scores, np.nan), answered

    scores, answered = of(alone)
    again_scores, again_answered = of(again)
    batched_scores, batched_answered = of(batched)
    return Answers(
        replica=replica,
        labels=labels,
        version=version,
        description=description,
        scores=scores,
        answered=answered,
        again=again_scores,
        again_answered=again_answered,
        batched=batched_scores,
        batched_answered=batched_answered,
        errors=Counter(kind for kind in kinds if kind),
        latencies=tuple(alone.latencies),
        messages=alone.messages,
        kinds={n: kind for n, kind in enumerate(kinds) if kind},
    )


def _no_answers(
    replica: str,
    labels: dict[str, str],
    probe: ProbeSet,
    kind: str,
    version: int = 0,
    description: dict[str, Any] | None = None,
    refused: str = "",
    message: str = "",
) -> Answers:
    no_scores, not_answered = np.full(int(probe.offsets[-1]), np.nan), np.zeros(len(probe), dtype=bool)
    return Answers(
        replica=replica,
        labels=labels,
        version=version,
        description=description or {},
        scores=no_scores,
        answered=not_answered,
        again=no_scores,
        again_answered=not_answered,
        batched=no_scores,
        batched_answered=not_answered,
        errors=Counter({kind: len(probe)}),
        refused=refused,
        kinds=dict.fromkeys(range(len(probe)), kind),
        messages={kind: message} if message else {},
    )


def _not_probabilities(scores: Array) -> str:
    finite = scores[np.isfinite(scores)]
    if len(finite) < len(scores):
        return f"{len(scores) - len(finite)} of {len(scores)} scores are not finite"
    return (
        f"scores from {finite.min():g} to {finite.max():g} are no probabilities; --scale logit takes log-odds, "
        "--scale order any scores"
    )


def _kind(error: ServingError) -> str:
    return next((kind for type_, kind in _KINDS if isinstance(error, type_)), "error")


def _is_silent(error: ServingError) -> bool:
    """Whether a failure looks like that of a replica that is away."""
    return isinstance(error, DeadlineExceeded) or error.code in _RETRIED_STATUSES
