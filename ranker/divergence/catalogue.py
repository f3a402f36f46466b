"""Every measure by name: what it means, its unit, bounds and weight. For pages, exports and checks."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Literal

from ranker.divergence import prediction, quality, regret, swaps
from ranker.divergence.bits import Array
from ranker.divergence.intervals import Interval, nonnegative
from ranker.divergence.pairs import Pair
from ranker.divergence.statistics import Statistic
from ranker.errors import UserError

Family = Literal["prediction", "swap", "regret", "quality"]
Weight = Literal["request", "example", "prediction"]


@dataclass(frozen=True)
class Definition:
    """One measure.

    Attributes:
        name: as in code, store, dashboard and Prometheus; `@k` and `@t` stand for a depth and a threshold.
        function: the public function; for two models it takes a `Pair` and returns a value a request.
        family: prediction difference, swap rate, regret, or ranking quality with labels.
        unit: of its values.
        better: which way is steadier (quality: better); "zero" for a signed one, "none" for context only.
        bounds: smallest and largest value.
        weight: what weighs a request in the mean: 1, its candidates, or its expected prediction.
        at_least: candidates that a request must have.
        symmetric: exchanging the models does not change it.
        headline: belongs on a first screen.
    """

    name: str
    function: Callable[..., Any]
    family: Family
    unit: str
    better: Literal["lower", "higher", "zero", "none"] = "lower"
    bounds: tuple[float, float] = (0.0, 1.0)
    weight: Weight = "request"
    at_least: int = 2
    symmetric: bool = True
    headline: bool = False

    @property
    def title(self) -> str:
        """What it is, in one sentence, from the docstring."""
        return (self.function.__doc__ or "").split("\n\n")[0].strip()

    @property
    def formula(self) -> str:
        """The formula, from the docstring."""
        return self._section("Formula")

    @property
    def range(self) -> str:
        """The range and what its ends mean, from the docstring."""
        return self._section("Range")

    @property
    def source(self) -> str:
        """The publication, from the docstring."""
        return self._section("Source")

    def _section(self, heading: str) -> str:
        lines: list[str] = []
        for line in (self.function.__doc__ or "").splitlines():
            text = line.strip()
            if text.startswith(f"{heading}: "):
                lines = [text.removeprefix(f"{heading}: ")]
            elif lines and line.startswith(" " * 8) and text:  # a continuation is indented further
                lines.append(text)
            elif lines:
                break
        return " ".join(lines)


def _example(name: str, function: Callable[..., Any], unit: str, **options: Any) -> Definition:
    return Definition(
        name, function, "prediction", unit, weight=options.pop("weight", "example"), at_least=1, **options
    )


def _swap(name: str, function: Callable[..., Any], unit: str, **options: Any) -> Definition:
    return Definition(name, function, "swap", unit, **options)


def _quality(name: str, function: Callable[..., Any], unit: str, **options: Any) -> Definition:
    return Definition(name, function, "quality", unit, symmetric=False, **options)


_ALL = (
    _example("pd_abs", prediction.pd_abs, "probability"),
    _example("rpd_sym", prediction.rpd_sym, "relative", bounds=(0.0, 2.0), headline=True),
    _example("rpd_ratio", prediction.rpd_ratio, "relative", bounds=(0.0, 2.0), weight="prediction"),
    _example("pd_logit", prediction.pd_logit, "log-odds", bounds=(0.0, 32.3)),
    _example("pd_logit_squared", prediction.pd_logit_squared, "log-odds squared", bounds=(0.0, 1040.0)),
    _example(
        "bias",
        prediction.bias,
        "relative",
        better="zero",
        bounds=(-2.0, 2.0),
        weight="prediction",
        symmetric=False,
    ),
    _example("flip_rate@t", prediction.flip_rate, "share of examples"),
    _swap("top1_swap", swaps.top1_swap, "share of requests", headline=True),
    _swap("set_churn@k", swaps.set_churn, "share of the top k", headline=True),
    _swap("pair_inversion", swaps.pair_inversion, "share of item pairs"),
    _swap("visible_inversion@k", swaps.visible_inversion, "share of visible item pairs"),
    _swap("adjacent_swap@k", swaps.adjacent_swap, "share of neighbours"),
    _swap("slot_change@k", swaps.slot_change, "share of places"),
    _swap("rbo_ext", swaps.rbo_ext, "similarity", better="higher"),
    _swap("kendall_topk", swaps.kendall_topk, "distance"),
    _swap("med_dcg@k", swaps.med_dcg, "share of ideal DCG"),
    _swap("tie_share", swaps.tie_share, "share of item pairs", better="none"),
    Definition(
        "consensus_regret", regret.consensus_regret, "regret", "share of expected clicks", headline=True
    ),
    _quality("auc", quality.auc, "probability", better="higher", headline=True),
    _quality("logloss", quality.logloss, "nats", bounds=(0.0, 16.2)),
    _quality("ranking_loss", quality.ranking_loss, "nats", bounds=(0.0, 32.3)),
    _quality("gauc", quality.gauc, "probability", better="higher"),
    _quality("ndcg@k", quality.ndcg, "share of ideal DCG", better="higher"),
    _quality("calibration", quality.calibration, "ratio", better="none", bounds=(0.0, math.inf)),
    _quality("ece", quality.ece, "probability"),
)

CATALOGUE: dict[str, Definition] = {definition.name: definition for definition in _ALL}
"""Name -> definition, in the order of a page: prediction difference, swaps, regret, quality."""


def definition(label: str) -> Definition:
    """The definition of a measure by name or by label: `set_churn@10` finds `set_churn@k`.

    Raises:
        UserError: no such measure.

    Example:
        >>> definition("set_churn@10").formula
        'set_churn@k = 1 - |A_k n B_k| / k'
    """
    stem, _, parameter = label.partition("@")
    for name in (label, f"{stem}@k", f"{stem}@t") if parameter else (label,):
        if name in CATALOGUE:
            return CATALOGUE[name]
    raise UserError(f"a measure must be one of {', '.join(CATALOGUE)}. Received: {label!r}")


def measure_interval(label: str, statistic: Statistic, level: float = 0.95) -> Interval:
    """A measure's mean with its confidence interval, which holds no value that the measure cannot have.

    Of 0/1 values it is Wilson's, of others that are never negative `nonnegative`, of signed ones Student's.

    Args:
        label: a measure's; of another statistic (a noise component, say) the interval is Student's.
        statistic: of the measure.
        level: of the interval.

    Example:
        >>> [round(x, 3) for x in measure_interval("set_churn@10", Statistic.of([0.0, 0.0, 0.1, 0.0]))]
        [0.025, 0.002, 0.105]
    """
    least, most = _bounds(label)
    interval = statistic.interval(level)
    if least == 0 and statistic.value > 0 and not statistic.zero_or_one:
        interval = nonnegative(statistic.value, statistic.standard_error, statistic.n, level)
    return Interval(interval.value, max(interval.low, least), min(interval.high, most))


@lru_cache(maxsize=256)
def _bounds(label: str) -> tuple[float, float]:
    try:
        return definition(label).bounds
    except UserError:
        return -math.inf, math.inf


@dataclass(frozen=True)
class Settings:
    """What the measures leave open.

    Attributes:
        k: how deep the top of a list is.
        thresholds: of `flip_rate@t`.

    Example:
        >>> [label for label in Settings(k=5).measures if "@" in label][:2]
        ['flip_rate@0.5', 'set_churn@5']
    """

    k: int = 10
    thresholds: tuple[float, ...] = (0.5,)
    measures: dict[str, tuple[Definition, Callable[[Pair], Array]]] = field(
        init=False, repr=False, compare=False
    )
    """Label -> definition and function of a `Pair`, for every measure of two models."""

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise UserError(f"`k` must be an integer >= 1. Received: k={self.k!r}")
        if not all(0 <= t <= 1 for t in self.thresholds):
            raise UserError(f"`thresholds` must be in [0, 1]. Received: thresholds={self.thresholds!r}")
        measures: dict[str, tuple[Definition, Callable[[Pair], Array]]] = {}
        for name, measure in CATALOGUE.items():
            if measure.family == "quality":
                continue
            if name.endswith("@t"):
                for t in self.thresholds:
                    measures[f"{name[:-1]}{t:g}"] = measure, partial(measure.function, threshold=t)
            else:
                measures[f"{name[:-1]}{self.k}" if name.endswith("@k") else name] = measure, measure.function
        object.__setattr__(self, "measures", measures)
