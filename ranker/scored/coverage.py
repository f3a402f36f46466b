"""What each model scored of the rows of all models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ranker.divergence import AnswerCoverage
from ranker.scored.align import AlignedScores


@dataclass(frozen=True)
class ModelCoverage:
    """What one model scored of the rows of all models.

    Attributes:
        model: its name.
        requests: those of all models together, and how many of them it scored completely, with finite scores.
        missing_rows: rows that another model scored and this one has not.
        repeated_rows: rows that repeat a request and an item.
        contradicted_rows: repeated rows with another score.
        not_finite_rows: rows whose score is missing or not finite.
    """

    model: str
    requests: AnswerCoverage
    missing_rows: int
    repeated_rows: int
    contradicted_rows: int
    not_finite_rows: int

    @property
    def asked(self) -> int:
        """Requests of all models together."""
        return self.requests.asked

    @property
    def answered(self) -> int:
        """Requests that it scored completely, with finite scores."""
        return self.requests.answered

    @property
    def sentence(self) -> str:
        """Asked, answered, and what was left out: the requests in the words of every report, then the rows."""
        reasons = {
            "missing": self.missing_rows,
            "not finite": self.not_finite_rows,
            "repeated with another score": self.contradicted_rows,
            "repeated": self.repeated_rows - self.contradicted_rows,
        }
        rows = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
        return f"{self.model}: {self.requests.words}" + (f"; rows: {rows}" if rows else "")

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        counts = {name: value for name, value in vars(self).items() if name != "requests"}
        left_out = {kind: vars(entry) for kind, entry in self.requests.left_out.items()}
        return {**counts, "asked": self.asked, "answered": self.answered, "left_out": left_out}


def model_coverage(aligned: AlignedScores, answered: Sequence[AnswerCoverage]) -> tuple[ModelCoverage, ...]:
    """Each model's coverage: rows as they were aligned, requests as they were answered, one entry a model."""
    columns = zip(
        aligned.models,
        answered,
        aligned.missing.tolist(),
        aligned.repeated.tolist(),
        aligned.contradicted.tolist(),
        aligned.not_finite.tolist(),
        strict=True,
    )
    return tuple(
        ModelCoverage(
            model=model,
            requests=complete,
            missing_rows=missing,
            repeated_rows=repeated,
            contradicted_rows=contradicted,
            not_finite_rows=not_finite,
        )
        for model, complete, missing, repeated, contradicted, not_finite in columns
    )
