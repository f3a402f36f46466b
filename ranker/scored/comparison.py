"""Models compared by what they scored: measures, coverage, quality, examples, and a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ranker.divergence import (
    AnswerCoverage,
    Comparison,
    Interval,
    OddOne,
    RequestMeasures,
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
from ranker.layout import REQUEST_SEPARATOR
from ranker.scored.align import AlignedScores
from ranker.scored.scale import NEEDS_PROBABILITIES, ScaledScores, to_probabilities
from ranker.slices import MISSING, MOST_VALUES, Cut
from ranker.text import arrow_texts

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

EXAMPLES = 5
EXAMPLE_DEPTH = 10


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


@dataclass(frozen=True)
class ExampleRequest:
    """A request in which the models' lists differ much.

    Attributes:
        request: its id; several columns side by side.
        candidates: items ranked.
        disagreement: the measure that chose it, the mean over pairs.
        lists: model -> its first items with their scores as given.
    """

    request: str
    candidates: int
    disagreement: float
    lists: dict[str, list[tuple[str, float]]]


@dataclass(frozen=True, eq=False)
class SliceComparison:
    """The measures of a part of the rows.

    Attributes:
        column: by which the rows are divided.
        value: of the column in this part; a range of numbers, `(other)` or `(missing)`.
        by_request: the column has one value in each request. If not, a request's candidates of this value are compared
            as a list of their own.
        rows: of the part.
        comparison: statistics of the pairs and of the mean over pairs, of the part's requests.
    """

    column: str
    value: str
    by_request: bool
    rows: int
    comparison: Comparison

    @property
    def requests(self) -> int:
        """Requests with at least two candidates in the part that a pair of models scored completely."""
        return _rankable(self.comparison)


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
        return _rankable(self.comparison)

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
    cuts = [_ColumnCut.of(aligned, name) for name in dict.fromkeys(slices)]
    total = Comparison.empty()
    examples: list[ExampleRequest] = []
    answered = [AnswerCoverage(0, 0)] * len(aligned.models)
    for batch in aligned.request_batches(scaled.scores):
        measured = measure_requests(batch, settings)
        total = total.merge(measured.summarise())
        for cut in cuts:
            cut.add(measured)
        names = [
            _request_name(aligned, request) for request in batch.requests[: 0 if batch.valid.all() else None]
        ]
        answered = [
            coverage.merge(answer_coverage(batch, model, names))
            for coverage, model in zip(answered, aligned.models, strict=True)
        ]
        examples = _largest([*examples, *_examples(measured, aligned)])
    return ModelComparison(
        models=aligned.models,
        rows=len(aligned),
        scale=scaled.scale,
        k=k,
        comparison=total,
        coverage=_coverage(aligned, answered),
        quality=_quality(aligned, scaled, k),
        left_out=left_out,
        notes=(*([scaled.note] if scaled.note else []), *(note for cut in cuts for note in cut.notes)),
        odd=_odd(total) if scaled.has_probabilities else (),
        examples=tuple(examples),
        budget=limits,
        slices=tuple(part for cut in cuts for part in cut.slices()),
    )


def _rankable(comparison: Comparison) -> int:
    statistic = comparison.means.get("top1_swap")
    return statistic.n if statistic is not None else 0


@dataclass(eq=False)
class _ColumnCut:
    """A column's parts, and their comparisons so far.

    Attributes:
        cut: how the values fall into parts.
        names: of the parts, in the order in which they are shown.
        parts: position of each row's part in `names`, int64 [R].
        bounds: first row of each request, int64 [N + 1].
        comparisons: of each part.
        notes: what a reader should know of the column.
    """

    cut: Cut
    names: list[str]
    parts: np.ndarray
    bounds: np.ndarray
    comparisons: list[Comparison]
    notes: tuple[str, ...]

    @staticmethod
    def of(aligned: AlignedScores, name: str) -> _ColumnCut:
        if name not in aligned.columns:
            columns = ", ".join(aligned.columns) or "none"
            raise UserError(f"a slice must be by a column of the rows. Received: {name}, of {columns}")
        column = aligned.columns[name]
        codes = column.codes
        bounds = aligned.request_bounds()
        lowest, highest = (extreme.reduceat(codes, bounds[:-1]) for extreme in (np.minimum, np.maximum))
        by_request = bool((lowest == highest).all())
        if not pa.types.is_string(column.values.type) and len(column.values) > MOST_VALUES:
            distinct = column.values.cast(pa.float64()).to_numpy()
            cut = Cut.of_numbers(name, by_request, distinct[codes[codes >= 0]])
            shown = cut.parts(distinct)
        else:
            texts = arrow_texts(column.values).to_numpy(zero_copy_only=False)
            counts = np.bincount(codes[codes >= 0], minlength=len(texts))
            ascending = np.argsort(texts) if len(texts) else np.zeros(0, np.int64)
            cut = Cut.of_texts(name, by_request, texts[ascending], counts[ascending])
            shown = cut.parts(texts)
        names = list(cut.part_names)
        place = {part: position for position, part in enumerate(names)}
        of_value = np.array([*(place[part] for part in shown), place[MISSING]], np.int64)
        note = f"column {name}: {column.contradicted:,} rows have another value than the first row of their request and item"
        return _ColumnCut(
            cut=cut,
            names=names,
            parts=of_value[codes],
            bounds=bounds,
            comparisons=[Comparison.empty()] * len(names),
            notes=(note,) if column.contradicted else (),
        )

    def add(self, measured: RequestMeasures) -> None:
        """Adds a batch, whose requests are positions in those of all rows, one after the other."""
        batch = measured.batch
        first = self.bounds[batch.requests]
        parts = self.parts[first[0] + batch.rows] if len(batch) else self.parts[:0]
        for position in np.unique(parts).tolist():
            if self.cut.by_request:
                part = measured.summarise(self.parts[first] == position)
            else:
                part = measure_requests(batch.take_rows(parts == position), measured.settings).summarise()
            self.comparisons[position] = self.comparisons[position].merge(part)

    def slices(self) -> list[SliceComparison]:
        """The parts that have rows."""
        rows = np.bincount(self.parts, minlength=len(self.names)).tolist()
        return [
            SliceComparison(self.cut.feature, name, self.cut.by_request, count, comparison)
            for name, count, comparison in zip(self.names, rows, self.comparisons, strict=True)
            if count
        ]


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


def _coverage(aligned: AlignedScores, answered: Sequence[AnswerCoverage]) -> tuple[ModelCoverage, ...]:
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


def _examples(measured: RequestMeasures, aligned: AlignedScores) -> list[ExampleRequest]:
    batch = measured.batch
    if not measured.pairs or not len(batch):
        return []
    values = np.nan_to_num(measured.request_mean(measured.settings.cost), nan=0.0)
    bounds = aligned.request_bounds()
    examples = []
    for position in np.argsort(-values, kind="stable")[:EXAMPLES]:
        if values[position] <= 0:
            break
        request = int(batch.requests[position])
        rows = slice(int(bounds[request]), int(bounds[request + 1]))
        lists = {
            model: [
                (aligned.item_ids[int(aligned.item[rows][place])].as_py(), float(scores[place]))
                for place in np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[:EXAMPLE_DEPTH]
                if not np.isnan(scores[place])
            ]
            for model, scores in zip(aligned.models, aligned.scores[:, rows], strict=True)
        }
        name = _request_name(aligned, request)
        examples.append(ExampleRequest(name, int(batch.sizes[position]), float(values[position]), lists))
    return examples


def _request_name(aligned: AlignedScores, request: int) -> str:
    return aligned.request_ids[int(request)].as_py().replace(REQUEST_SEPARATOR, " / ")


def _largest(examples: Sequence[ExampleRequest]) -> list[ExampleRequest]:
    return sorted(examples, key=lambda example: (-example.disagreement, example.request))[:EXAMPLES]


def _percent(interval: Interval) -> str:
    return f"{100 * interval.value:.3g}% (95%: {100 * interval.low:.3g} to {100 * interval.high:.3g})"
