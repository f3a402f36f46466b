"""Models compared by what they scored: measures, coverage, quality, examples, and a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ranker.divergence import (
    AnswerCoverage,
    Comparison,
    Interval,
    OddOne,
    Settings,
    Statistic,
    answer_coverage,
    auc,
    gauc,
    logloss,
    measure_interval,
    measure_requests,
    ndcg,
    odd_ones,
    standing,
)
from ranker.errors import UserError
from ranker.json_text import plain
from ranker.scored.align import AlignedScores
from ranker.scored.coverage import ModelCoverage, model_coverage
from ranker.scored.examples import ExampleRequest, examples_of, most_different, request_name
from ranker.scored.scale import NEEDS_PROBABILITIES, ScaledScores, to_probabilities
from ranker.scored.slices import ColumnCut, SliceComparison, rankable_requests

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class ModelComparison:
    """The result of a comparison.

    Attributes:
        models: M names.
        rows: rows of all models together.
        scale: what the scores were taken as: probability, logit or order.
        k: how deep the top of a list is.
        comparison: statistics of every pair, of every model, and of the mean over pairs.
        coverage: what each model scored.
        quality: model -> measure -> value; empty without labels.
        left_out: measure -> why it was not computed.
        notes: what else a reader should know.
        odd: models that stand out, the noisiest first; needs three models and probabilities.
        examples: requests to look at.
        budget: measure -> what it may be.
        slices: the measures by the values of the columns that were asked for.
    """

    models: tuple[str, ...]
    rows: int
    scale: str
    k: int
    comparison: Comparison
    coverage: tuple[ModelCoverage, ...]
    quality: dict[str, dict[str, float]]
    left_out: dict[str, str]
    notes: tuple[str, ...]
    odd: tuple[OddOne, ...]
    examples: tuple[ExampleRequest, ...]
    budget: dict[str, float] = field(default_factory=dict)
    slices: tuple[SliceComparison, ...] = ()

    @property
    def measures(self) -> dict[str, Interval]:
        """Measure -> the mean over pairs with its 95% interval; only those that were computed."""
        return self.intervals(self.comparison.means)

    def intervals(self, statistics: Mapping[str, Statistic]) -> dict[str, Interval]:
        """Measure -> value with its 95% interval, of statistics of a pair or of a slice; only what was computed."""
        return {
            label: measure_interval(label, statistic)
            for label, statistic in statistics.items()
            if label != "component"
        }

    @property
    def requests(self) -> int:
        """Requests with at least two candidates that a pair of models scored completely."""
        return rankable_requests(self.comparison)

    @property
    def standings(self) -> dict[str, str]:
        """Measure of the budget -> within, above or undecided."""
        return {
            label: standing(self.measures[label], limit)
            for name, limit in self.budget.items()
            for label in self.measures
            if name in (label, label.split("@")[0])
        }

    @property
    def exit_code(self) -> int:
        """0: every measure is within its budget; 1: one is above; 2: undecided, more requests are needed."""
        standings = set(self.standings.values())
        return 1 if "above" in standings else 2 if "undecided" in standings else 0

    @property
    def sentence(self) -> str:
        """The answer in plain words."""
        names = " and ".join(self.models) if len(self.models) == 2 else f"{len(self.models)} models"
        if not self.requests:
            return f"No request with two candidates was scored completely by two of {names}: lists cannot be compared."
        swap = self.measures["top1_swap"]
        between = "between them" if len(self.models) == 2 else "between two of them"
        parts = [f"{between} the first item changes in {_percent(swap)} of {self.requests:,} requests"]
        if "rpd_sym" in self.measures:
            parts.append(f"their predictions differ by {_percent(self.measures['rpd_sym'])}")
        opening = f"{names}: "
        if self.budget:
            verdict = {0: "within the budget", 1: "above the budget", 2: "undecided against the budget"}
            opening = f"{names} are {verdict[self.exit_code]}: "
        text = opening + ", and ".join(parts) + "."
        if self.odd:
            stand_out = ", ".join(
                f"{model.replica} ({model.ratio:.1f} times the median)" for model in self.odd
            )
            text += f" The odd one out: {stand_out}."
        incomplete = [side for side in self.coverage if side.answered < side.asked]
        if incomplete:
            text += (
                " Left out: "
                + "; ".join(
                    f"{side.asked - side.answered:,} of {side.asked:,} requests of {side.model}"
                    for side in incomplete
                )
                + "."
            )
        return text

    def __repr__(self) -> str:
        return f"<ModelComparison: {self.sentence}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from ranker.scored.page import fragment

        return fragment(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is not defined or not finite is None."""
        means = self.comparison.means
        return plain(
            {
                "sentence": self.sentence,
                "models": list(self.models),
                "rows": self.rows,
                "requests": self.requests,
                "scale": self.scale,
                "k": self.k,
                "measures": {label: interval._asdict() for label, interval in self.measures.items()},
                "pairs": [
                    {
                        "a": a,
                        "b": b,
                        "requests": self.comparison.coverage.paired[a, b],
                        "measures": {k: v._asdict() for k, v in self.intervals(statistics).items()},
                    }
                    for (a, b), statistics in self.comparison.pairs.items()
                ],
                "coverage": [side.as_dict() for side in self.coverage],
                "quality": self.quality,
                "left_out": self.left_out,
                "notes": list(self.notes),
                "odd": [model._asdict() for model in self.odd],
                "budget": {"limits": self.budget, "standings": self.standings, "exit_code": self.exit_code},
                "slices": [
                    {
                        "column": part.column,
                        "value": part.value,
                        "by_request": part.by_request,
                        "rows": part.rows,
                        "requests": part.requests,
                        "measures": {
                            k: v._asdict() for k, v in self.intervals(part.comparison.means).items()
                        },
                    }
                    for part in self.slices
                ],
                "examples": [vars(example) for example in self.examples],
                "statistics": {label: statistic.n for label, statistic in means.items()},
            }
        )

    def to_frame(self) -> pd.DataFrame:
        """A pandas frame with a row a measure of every pair and of the mean over pairs.

        Columns: `a`, `b` (empty for the mean over pairs), `measure`, `value`, `low`, `high`, `requests`.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise UserError("to_frame needs pandas: pip install pandas") from None
        rows = [
            {"a": a, "b": b, "measure": label, **interval._asdict(), "requests": statistics[label].n}
            for (a, b), statistics in [(("", ""), self.comparison.means), *self.comparison.pairs.items()]
            for label, interval in self.intervals(statistics).items()
        ]
        return pd.DataFrame(rows, columns=["a", "b", "measure", "value", "low", "high", "requests"])

    def to_html(self) -> str:
        """One self-contained page, without scripts and without anything from the network."""
        from ranker.scored.page import page

        return page(self)

    def plot(self) -> Figure:
        """A matplotlib figure of the headline measures with their intervals, a row a pair."""
        from ranker.scored.page import figure

        return figure(self)


def compare_aligned(
    aligned: AlignedScores,
    *,
    scale: str = "auto",
    k: int = 10,
    budget: Mapping[str, float] | None = None,
    slices: Sequence[str] = (),
) -> ModelComparison:
    """Compares models by their aligned scores.

    Args:
        aligned: of at least two models.
        scale: what the scores are: `auto`, `probability`, `logit` or `order`.
        k: how deep the top of a list is.
        budget: measure -> what it may be, for example {"top1_swap": 0.05}.
        slices: columns of `aligned` by whose values the measures are also given apart.

    Raises:
        UserError: fewer than two models, no rows, no such column, scores outside the scale, a budget for a measure that
            does not exist or that the scale leaves out.
    """
    if len(aligned.models) < 2:
        raise UserError(f"a comparison must have at least two models. Received: {', '.join(aligned.models)}")
    if not len(aligned):
        raise UserError("a comparison must have at least one row. Received: none")
    scaled = to_probabilities(aligned.scores, scale)
    settings = Settings(k=k, order_only=not scaled.has_probabilities)
    left_out = {
        label: NEEDS_PROBABILITIES for label in Settings(k=k).measures if label not in settings.measures
    }
    limits = _checked_budget(budget or {}, settings, left_out)
    cuts = [ColumnCut.of(aligned, name) for name in dict.fromkeys(slices)]
    total = Comparison.empty()
    examples: list[ExampleRequest] = []
    answered = [AnswerCoverage(0, 0)] * len(aligned.models)
    for batch in aligned.request_batches(scaled.scores):
        measured = measure_requests(batch, settings)
        total = total.merge(measured.summarise())
        for cut in cuts:
            cut.add(measured)
        names = [
            request_name(aligned, request) for request in batch.requests[: 0 if batch.valid.all() else None]
        ]
        answered = [
            coverage.merge(answer_coverage(batch, model, names))
            for coverage, model in zip(answered, aligned.models, strict=True)
        ]
        examples = most_different([*examples, *examples_of(measured, aligned)])
    return ModelComparison(
        models=aligned.models,
        rows=len(aligned),
        scale=scaled.scale,
        k=k,
        comparison=total,
        coverage=model_coverage(aligned, answered),
        quality=_quality(aligned, scaled, k),
        left_out=left_out,
        notes=(*([scaled.note] if scaled.note else []), *(note for cut in cuts for note in cut.notes)),
        odd=_odd(total) if scaled.has_probabilities else (),
        examples=tuple(examples),
        budget=limits,
        slices=tuple(part for cut in cuts for part in cut.slices()),
    )


def _checked_budget(
    budget: Mapping[str, float], settings: Settings, left_out: Mapping[str, str]
) -> dict[str, float]:
    limits = {}
    for name, limit in budget.items():
        labels = [label for label in (*settings.measures, *left_out) if name in (label, label.split("@")[0])]
        if not labels:
            raise UserError(
                f"a budget must be for one of {', '.join(settings.measures)}. Received: {name}={limit:g}"
            )
        if labels[0] in left_out:
            raise UserError(f"a budget for {name} cannot be held: {left_out[labels[0]]}. Set the scale")
        if not (np.isfinite(limit) and limit >= 0):
            raise UserError(f"a budget must be a number >= 0. Received: {name}={limit:g}")
        limits[labels[0]] = float(limit)
    return limits


def _quality(aligned: AlignedScores, scaled: ScaledScores, k: int) -> dict[str, dict[str, float]]:
    """Quality of each model on the labelled rows that it scored."""
    labels = aligned.binary_labels()
    if labels is None:
        return {}
    quality = {}
    for model, scores in zip(aligned.models, scaled.scores, strict=True):
        rows = ~np.isnan(labels) & ~np.isnan(scores)
        label, score = labels[rows], scores[rows]
        request = np.unique(aligned.request[rows], return_inverse=True)[1]
        values = {
            "auc": auc(label, score),
            "gauc": gauc(label, score, request),
            f"ndcg@{k}": ndcg(label, score, request, k=k),
        }
        if scaled.has_probabilities:
            values["logloss"] = logloss(label, score)
        quality[model] = {"rows": float(rows.sum()), **values}
    return quality


def _odd(total: Comparison) -> tuple[OddOne, ...]:
    components = {
        replica: statistics["component"]
        for replica, statistics in total.replicas.items()
        if "component" in statistics
    }
    return tuple(odd_ones(components)) if len(components) >= 3 else ()


def _percent(interval: Interval) -> str:
    return f"{100 * interval.value:.3g}% (95%: {100 * interval.low:.3g} to {100 * interval.high:.3g})"
