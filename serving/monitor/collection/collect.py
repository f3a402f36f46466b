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
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranker.errors import UserError
from serving.client import FailedPrecondition, InvalidArgument, MalformedAnswer, ServingError
from serving.deployment import Replica
from serving.monitor.collection.answers import Answers, Collected, ReplicaScores, answers_of, no_answers
from serving.monitor.collection.send import RoundLimits, SilenceTimer, error_kind, is_silent, send
from serving.monitor.requests.probe import ProbeSet
from serving.targets.scoring import ScoringClient
from serving.targets.target import parse_target

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
    return no_answers(
        replica=answer.replica,
        labels=answer.labels,
        probe=probe,
        kind="incompatible",
        version=answer.version,
        description=answer.description,
        refused=reason,
    )


def _ask_replica(
    replica: Replica, probe: ProbeSet, connect: Connect, expected: Expected, limits: RoundLimits
) -> Answers:
    ends = time.monotonic() + limits.round
    labels = {**{key: str(value) for key, value in replica.labels.items()}, "server": replica.target}
    try:
        client = connect(replica)
    except UserError as error:
        return no_answers(replica.name, labels, probe, "error", message=str(error))
    with client:
        try:
            description = _describe(client, SilenceTimer(limits.patience, ends))
        except (FailedPrecondition, InvalidArgument, MalformedAnswer):
            description = {}  # not an export of ours: it may still be asked for scores
        except ServingError as error:
            return no_answers(
                replica.name, labels, probe, error_kind(error), message="" if is_silent(error) else str(error)
            )
        # what it serves now knows its seeds better than the deployment that was written before a refresh
        labels = {**labels, **{k: str(description[k]) for k in LABELS if k in description}}
        reason = expected.refuses(description)
        if reason:
            version = int(description.get("served_version", 0))
            return no_answers(
                replica=replica.name,
                labels=labels,
                probe=probe,
                kind="incompatible",
                version=version,
                description=description,
                refused=reason,
            )
        positions = list(range(len(probe)))
        alone = send(client, probe, [(n,) for n in positions], ends, limits)
        versions = np.unique(alone.versions[alone.versions > 0])
        version = int(versions[-1]) if len(versions) else 0
        again, batched = ReplicaScores(probe), ReplicaScores(probe)
        if len(versions) == 1 and limits.floor:
            floor = positions[: limits.floor]
            again = send(client, probe, [(n,) for n in floor], ends, limits)
            if limits.batched:
                batched = send(client, probe, [(n, probe.companion(n)) for n in floor], ends, limits)
    return answers_of(
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


def _describe(client: ScoringClient, silence: SilenceTimer) -> dict[str, Any]:
    while True:
        try:
            return client.describe()
        except ServingError as error:
            if not is_silent(error) or not silence.wait():
                raise
