"""What replicas answered in a round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ranker.divergence import AnswerCoverage, LeftOut
from serving.monitor.requests.probe import Array, ProbeSet

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


class ReplicaScores:
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


def answers_of(
    replica: str,
    labels: dict[str, str],
    version: int,
    description: dict[str, Any],
    probe: ProbeSet,
    alone: ReplicaScores,
    again: ReplicaScores,
    batched: ReplicaScores,
) -> Answers:
    """Answers of a replica from its scores: those of another version than the round's are none.

    Args:
        replica: its name.
        labels: its labels.
        version: the round's.
        description: what it said of itself.
        probe: the requests.
        alone: each request asked alone.
        again: those of the floor, asked again.
        batched: those of the floor, inside a batch.
    """
    kinds = alone.kinds.copy()
    for n in np.flatnonzero((alone.versions > 0) & (alone.versions != version)):
        kinds[n] = "version_change"  # a refresh in mid-round: the round is the newer version's

    def of(result: ReplicaScores) -> tuple[Array, Array]:
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


def no_answers(
    replica: str,
    labels: dict[str, str],
    probe: ProbeSet,
    kind: str,
    version: int = 0,
    description: dict[str, Any] | None = None,
    refused: str = "",
    message: str = "",
) -> Answers:
    """Answers of a replica that gave none, for one reason.

    Args:
        replica: its name.
        labels: its labels.
        probe: the requests.
        kind: one of `ERROR_KINDS`.
        version: the served version; 0: not known.
        description: what it said of itself.
        refused: why it may not be compared.
        message: what the error said.
    """
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
