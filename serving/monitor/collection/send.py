"""Sends the probe's requests to one replica, as long as it answers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

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
from serving.monitor.collection.answers import ReplicaScores
from serving.monitor.requests.probe import Array, ProbeSet
from serving.targets.scoring import ScoringClient

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


class SilenceTimer:
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


def send(
    client: ScoringClient,
    probe: ProbeSet,
    batches: Sequence[tuple[int, ...]],
    ends: float,
    limits: RoundLimits,
) -> ReplicaScores:
    """Asks batches of requests; of each batch the first request's scores are kept.

    Calls that were turned away are sent again. After some calls in a row without an answer the rest waits until the
    replica answers a request that it answered before.
    """
    result = ReplicaScores(probe)
    silence = SilenceTimer(limits.patience, ends)
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
            result.kinds[n] = error_kind(error)
            if not is_silent(error):
                result.messages.setdefault(result.kinds[n], str(error))
            if is_silent(error):
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
                return not is_silent(error)
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


def _wait_until_back(is_back: Callable[[], bool], silence: SilenceTimer) -> bool:
    while not is_back():
        if not silence.wait():
            return False
    return True


def _not_probabilities(scores: Array) -> str:
    finite = scores[np.isfinite(scores)]
    if len(finite) < len(scores):
        return f"{len(scores) - len(finite)} of {len(scores)} scores are not finite"
    return (
        f"scores from {finite.min():g} to {finite.max():g} are no probabilities; --scale logit takes log-odds, "
        "--scale order any scores"
    )


def error_kind(error: ServingError) -> str:
    """The one of `ERROR_KINDS` that an error is."""
    return next((kind for type_, kind in _KINDS if isinstance(error, type_)), "error")


def is_silent(error: ServingError) -> bool:
    """Whether a failure looks like that of a replica that is away."""
    return isinstance(error, DeadlineExceeded) or error.code in _RETRIED_STATUSES
