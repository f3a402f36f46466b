"""Who answered: how many requests were asked, how many were answered as they must be, and what was left out and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ranker.divergence.requests import RequestBatch


@dataclass(frozen=True)
class LeftOut:
    """Requests without a usable answer for one reason.

    Attributes:
        requests: how many.
        first: id of the first of them; empty: not known.
    """

    requests: int
    first: str = ""


@dataclass(frozen=True)
class AnswerCoverage:
    """How much of what one model was asked it answered with finite probabilities for exactly the candidates asked.

    Attributes:
        asked: requests.
        answered: requests with such an answer.
        left_out: kind -> the requests without one, the most frequent kind first.

    Example:
        >>> coverage = AnswerCoverage(200, 150, {"down": LeftOut(48, "u17"), "invalid_score": LeftOut(2, "u3")})
        >>> coverage.share
        0.75
        >>> coverage.words
        '200 asked, 150 answered, 50 left out (down 48, first u17; invalid_score 2, first u3)'
    """

    asked: int
    answered: int
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Answered over asked, in [0, 1]; 0 where nothing was asked."""
        return self.answered / self.asked if self.asked else 0.0

    def merge(self, other: "AnswerCoverage") -> "AnswerCoverage":
        """Both sets of requests together, this one's first."""
        counts: dict[str, LeftOut] = dict(self.left_out)
        for kind, entry in other.left_out.items():
            first = counts.get(kind, LeftOut(0, entry.first))
            counts[kind] = LeftOut(first.requests + entry.requests, first.first or entry.first)
        left_out = dict(sorted(counts.items(), key=lambda item: -item[1].requests))
        return AnswerCoverage(self.asked + other.asked, self.answered + other.answered, left_out)

    @property
    def words(self) -> str:
        """The counts in the words that every report uses."""
        kinds = "; ".join(
            f"{kind} {entry.requests:,}" + (f", first {entry.first}" if entry.first else "")
            for kind, entry in self.left_out.items()
        )
        total = f"{self.asked:,} asked, {self.answered:,} answered, {self.asked - self.answered:,} left out"
        return f"{total} ({kinds})" if kinds else total


def answer_coverage(
    batch: RequestBatch, replica: str, names: Sequence[str], kinds: Mapping[int, str] | None = None
) -> AnswerCoverage:
    """The coverage of one replica of a batch.

    Args:
        batch: the answers, checked.
        replica: its name.
        names: text of each request of the batch [N].
        kinds: position of a request -> why it has no usable answer, where the caller knows; of others the batch
            tells: `invalid_score` (a score is no probability), `coverage_mismatch` (other candidates than asked),
            `no_answer`.
    """
    m = batch.position(replica)
    counts: dict[str, list[int]] = {}
    for n in np.flatnonzero(~batch.valid[m]).tolist():
        kind = (kinds or {}).get(n) or (
            "invalid_score"
            if batch.invalid[m, n]
            else "coverage_mismatch"
            if batch.mismatched[m, n]
            else "no_answer"
        )
        counts.setdefault(kind, []).append(n)
    left_out = {
        kind: LeftOut(len(positions), names[positions[0]])
        for kind, positions in sorted(counts.items(), key=lambda item: -len(item[1]))
    }
    return AnswerCoverage(len(batch), int(batch.valid[m].sum()), left_out)
