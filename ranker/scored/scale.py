"""What scores are: probabilities, logits, or anything that orders. Measures of rankings need the order alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranker.errors import UserError

Floats = NDArray[np.float64]

SCALES = ("auto", "probability", "logit", "order")
"""`auto`: probabilities if every finite score is within [0, 1], else order. Beside these there is `range:LOW:HIGH`."""


@dataclass(frozen=True)
class ValueRange:
    """The least and the greatest value of what a regression predicts: the scale `range:LOW:HIGH`.

    Predictions are measured as shares of the range, so that a prediction difference is in units of it.

    Raises:
        UserError: the ends are not finite, or not in order.

    Example:
        >>> ValueRange.parse("range:1:5").share(np.array([1.0, 4.0, 6.0])).tolist()
        [0.0, 0.75, 1.0]
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise UserError(
                f"a range must have finite ends, LOW < HIGH. Received: range:{self.low:g}:{self.high:g}"
            )

    @staticmethod
    def parse(scale: str) -> ValueRange | None:
        """The range that a scale names; None for a scale of another kind.

        Raises:
            UserError: it begins as a range and is none.
        """
        kind, *ends = scale.split(":")
        if kind != "range":
            return None
        try:
            low, high = map(float, ends)
        except ValueError:
            raise UserError(f"`scale` must read range:LOW:HIGH, two numbers. Received: {scale!r}") from None
        return ValueRange(low, high)

    def share(self, values: Floats) -> Floats:
        """Where values lie in the range, in [0, 1]; what is beyond an end counts as the end. NaN where they are."""
        return np.clip((np.asarray(values, np.float64) - self.low) / (self.high - self.low), 0.0, 1.0)


NEEDS_PROBABILITIES = "it needs probabilities, and the scores are an order"
"""Why a measure is left out where scores only order."""


@dataclass(frozen=True, eq=False)
class ScaledScores:
    """Scores as numbers within [0, 1], and what may be measured on them.

    Attributes:
        scores: float64 [M, R], in the order of the scores given; NaN where they were.
        scale: probability, logit, range or order.
        note: why measures of the prediction difference are left out, or where the scale was decided; empty if there is
            nothing to say.
    """

    scores: Floats
    scale: str
    note: str = ""

    @property
    def has_probabilities(self) -> bool:
        """Whether the scores are probabilities, so that prediction differences can be measured."""
        return self.scale != "order"


def to_probabilities(scores: Floats, scale: str = "auto") -> ScaledScores:
    """Brings scores to [0, 1] without changing their order.

    Args:
        scores: float64 [M, R], NaN where a model has none.
        scale: one of `SCALES`, or `range:LOW:HIGH` for values of a regression. `logit`: log-odds, mapped by the logistic
            function. `order`: each distinct score of a model becomes its rank among the model's distinct scores, between 0
            and 1.

    Raises:
        UserError: another scale, or `probability` with a score outside [0, 1].

    Example:
        >>> to_probabilities(np.array([[0.0, 2.0], [1.0, -1.0]])).scores.tolist()
        [[0.3333333333333333, 0.6666666666666666], [0.6666666666666666, 0.3333333333333333]]
    """
    value_range = ValueRange.parse(scale)
    if value_range is not None:
        return ScaledScores(
            value_range.share(scores), "range", f"in units of the range {scale.partition(':')[2]}"
        )
    if scale not in SCALES:
        raise UserError(f"`scale` must be one of {', '.join(SCALES)} or range:LOW:HIGH. Received: {scale!r}")
    low, high = _extremes(scores)
    within = low >= 0 and high <= 1
    if scale == "probability" and not within:
        raise UserError(
            f"probabilities must be within [0, 1]; set the scale to logit or order for other scores. "
            f"Received: {low:g} to {high:g}"
        )
    if scale == "probability" or (scale == "auto" and within):
        return ScaledScores(scores, "probability")
    if scale == "logit":
        return ScaledScores(logistic(scores), "logit")
    ranks = np.stack([_ranks(row) for row in scores]) if len(scores) else scores
    if scale == "auto":
        note = (
            f"scores from {low:g} to {high:g} are no probabilities: only measures that need the order are computed; "
            "with the scale logit, log-odds give the others too"
        )
    else:
        note = "the scores are taken as an order: measures that need probabilities are left out"
    return ScaledScores(ranks, "order", note)


def _extremes(scores: Floats) -> tuple[float, float]:
    finite = scores[np.isfinite(scores)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def logistic(scores: Floats) -> Floats:
    """The probabilities of log-odds; NaN where they are."""
    small = np.exp(-np.abs(scores))
    return np.where(scores >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def order_codes(scores: Floats) -> Floats:
    """A number within (0, 1) for each score, in the scores' order: their bits. NaN where a score is not finite.

    It is a fixed map, so that scores of several calls and servers stay comparable. Scores of float32 keep every difference;
    of float64, those above 5e-13 of their size.

    Example:
        >>> codes = order_codes(np.array([-1e9, -2.0, 0.0, 1e-30, 3.5, np.inf]))
        >>> bool((np.diff(codes[:5]) > 0).all()), float(codes[5])
        (True, nan)
    """
    bits = (np.asarray(scores, np.float64) + 0.0).view(np.int64)  # + 0.0: -0.0 is 0.0
    ordered = np.where(bits < 0, np.int64(-(2**63)) - bits, bits)
    return np.where(np.isfinite(scores), (ordered >> 11) / 2.0**53 + 0.5, np.nan)


def _ranks(row: Floats) -> Floats:
    ranks = np.full(len(row), np.nan)
    finite = np.isfinite(row)
    distinct, position = np.unique(row[finite], return_inverse=True)
    ranks[finite] = (position + 1) / (len(distinct) + 1)
    return ranks
