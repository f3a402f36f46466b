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
        title: what it is, in one sentence; first line of the function's docstring, as the next three are its sections.
        formula: how it is computed.
        range: its values, and what the ends mean.
        source: the publication, or why it is measured.
        better: which way is steadier (quality: better); "zero" for a signed one, "none" for context only.
        bounds: smallest and largest value.
        weight: what weighs a request in the mean: 1, its candidates, or its expected prediction.
        at_least: candidates that a request must have.
        symmetric: exchanging the models does not change it.
    """

    name: str
    function: Callable[..., Any]
    family: Family
    unit: str
    title: str
    formula: str
    range: str
    source: str
    better: Literal["lower", "higher", "zero", "none"] = "lower"
    bounds: tuple[float, float] = (0.0, 1.0)
    weight: Weight = "request"
    at_least: int = 2
    symmetric: bool = True

    @property
    def needs_probabilities(self) -> bool:
        """Whether scores that only order do not define it."""
        return self.family in ("prediction", "regret") or self.name == "logloss"


def _example(name: str, function: Callable[..., Any], unit: str, **options: Any) -> Definition:
    return Definition(
        name, function, "prediction", unit, weight=options.pop("weight", "example"), at_least=1, **options
    )


def _swap(name: str, function: Callable[..., Any], unit: str, **options: Any) -> Definition:
    return Definition(name, function, "swap", unit, **options)


def _quality(name: str, function: Callable[..., Any], unit: str, **options: Any) -> Definition:
    return Definition(name, function, "quality", unit, symmetric=False, **options)


_ALL = (
    _example(
        "pd_abs",
        prediction.pd_abs,
        "probability",
        title="Mean absolute difference of the predictions.",
        formula="pd_abs = mean |a - b|",
        range="[0, 1]. 0: equal predictions. 1: one model says 0 wherever the other says 1.",
        source='Shamir and Coviello, "Anti-Distillation: Improving Reproducibility of Deep Networks", 2020.',
    ),
    _example(
        "rpd_sym",
        prediction.rpd_sym,
        "relative",
        bounds=(0.0, 2.0),
        title=(
            "Relative prediction difference, symmetric: the difference over the two models' expected "
            "prediction."
        ),
        formula="rpd_sym = mean 2 |a - b| / (a + b), 0 where both are 0",
        range="[0, 2]. 0: equal predictions. 2: one model says 0 wherever the other does not.",
        source=(
            'Shamir and Lin, "Real World Large Scale Recommendation Systems Reproducibility and Smooth '
            "Activations\", 2022; the same number as TFMA's SymmetricPredictionDifference."
        ),
    ),
    _example(
        "rpd_ratio",
        prediction.rpd_ratio,
        "relative",
        bounds=(0.0, 2.0),
        weight="prediction",
        title="Relative prediction difference as a ratio of means: robust where predictions are near 0.",
        formula="rpd_ratio = mean |a - b| / mean (a + b) / 2",
        range="[0, 2]. 0: equal predictions. 2: wherever one model predicts anything, the other says 0.",
        source='ratio estimator, Cochran, "Sampling Techniques", 1977, chapter 6.',
    ),
    _example(
        "pd_logit",
        prediction.pd_logit,
        "log-odds",
        bounds=(0.0, 32.3),
        title="Mean absolute difference of the log-odds; probabilities are clipped to [1e-7, 1 - 1e-7].",
        formula="pd_logit = mean |logit a - logit b|",
        range="[0, 32.3]. 0: equal predictions. 1: the odds differ by a factor of e.",
        source="the scale on which replicas of one recipe differ by about the same amount for every prediction.",
    ),
    _example(
        "pd_logit_squared",
        prediction.pd_logit_squared,
        "log-odds squared",
        bounds=(0.0, 1040.0),
        title="Mean squared difference of the log-odds, D2 in the attribution of noise to replicas.",
        formula="pd_logit_squared = mean (logit a - logit b)^2",
        range="[0, 1040]. 0: equal predictions. In expectation the sum of the two replicas' noise variances.",
        source='two-way layout, Searle, Casella and McCulloch, "Variance Components", 1992.',
    ),
    _example(
        "bias",
        prediction.bias,
        "relative",
        better="zero",
        bounds=(-2.0, 2.0),
        weight="prediction",
        symmetric=False,
        title="Signed difference of the mean predictions: tells a calibration shift from irreproducibility.",
        formula="bias = (mean a - mean b) / mean (a + b) / 2",
        range="[-2, 2]. 0: the same mean prediction. 1: a predicts three times what b does. Antisymmetric.",
        source='ratio estimator, Cochran, "Sampling Techniques", 1977, chapter 6.',
    ),
    _example(
        "flip_rate@t",
        prediction.flip_rate,
        "share of examples",
        title="Share of examples that the two models put on different sides of a threshold.",
        formula="flip_rate@t = mean 1[(a > t) != (b > t)]",
        range="[0, 1]. 0: every decision is the same. 1: every decision differs.",
        source='"churn" of Milani Fard et al., "Launch and Iterate: Reducing Prediction Churn", 2016.',
    ),
    _swap(
        "top1_swap",
        swaps.top1_swap,
        "share of requests",
        title="Whether the two lists start with different items.",
        formula="top1_swap = 1[A_1 != B_1]",
        range="0 or 1. 0: the same first item. 1: another first item.",
        source="the swap that a user sees first; as a mean over requests the headline swap rate.",
    ),
    _swap(
        "set_churn@k",
        swaps.set_churn,
        "share of the top k",
        title="Share of the top k that the other list does not have in its top k.",
        formula="set_churn@k = 1 - |A_k n B_k| / min(k, K)",
        range="[0, 1]. 0: the same items, in any order. 1: no item in common.",
        source=(
            'one minus the overlap at depth k, Webber, Moffat and Zobel, "A similarity measure for '
            'indefinite rankings", 2010, section 2.'
        ),
    ),
    _swap(
        "pair_inversion",
        swaps.pair_inversion,
        "share of item pairs",
        title="Share of item pairs that the two lists put in opposite orders; a tie in one counts one half.",
        formula=(
            "pair_inversion = (D + T1/2) / (K (K - 1) / 2); D discordant pairs, T1 pairs tied in "
            "exactly one list"
        ),
        range="[0, 1]. 0: the same order. 1: the reversed order.",
        source=(
            'Kendall distance with penalty 1/2, Fagin, Kumar, Mahdian, Sivakumar and Vee, "Comparing '
            'and aggregating rankings with ties", 2004. Tau-b is another number: it is not a swap rate.'
        ),
    ),
    _swap(
        "visible_inversion@k",
        swaps.visible_inversion,
        "share of visible item pairs",
        title=(
            "`pair_inversion` over the item pairs that a user can see: an item of the pair is in either"
            " top k."
        ),
        formula="visible_inversion@k = (D + T1/2) / pairs, over pairs with an item in A_k or B_k",
        range="[0, 1]. 0: the same order wherever it shows. 1: every visible pair is reversed.",
        source=(
            'as `pair_inversion`, restricted as in Fagin, Kumar and Sivakumar, "Comparing top k lists", 2003.'
        ),
    ),
    _swap(
        "adjacent_swap@k",
        swaps.adjacent_swap,
        "share of neighbours",
        title="Share of neighbours in one top k that the other list inverts; the mean of both directions.",
        formula="adjacent_swap@k = mean_(r < k) 1[b puts A_(r+1) before A_r], averaged with a and b exchanged",
        range="[0, 1]. 0: all neighbours keep their order. 1: the top k is reversed.",
        source="descents of a permutation; cheap, and the most sensitive of the swap rates.",
    ),
    _swap(
        "slot_change@k",
        swaps.slot_change,
        "share of places",
        title="Share of the first k places that hold another item. One insertion at the top changes them all.",
        formula="slot_change@k = (1/min(k, K)) sum_r 1[A_r != B_r]",
        range=(
            "[0, 1]. 0: the same items in the same places. 1: every place changed. For colour, not for "
            "alerts."
        ),
        source="Hamming distance of two top-k lists.",
    ),
    _swap(
        "rbo_ext",
        swaps.rbo_ext,
        "similarity",
        better="higher",
        title=(
            "Rank-biased overlap of the top k, extrapolated, with persistence p = 0.9. A similarity: 1 "
            "is best."
        ),
        formula="rbo_ext = (1-p)/p sum_(d<=k) (X_d/d) p^d + (X_k/k) p^k; X_d items in common at depth d",
        range="[0, 1]. 0: no item in common. 1: the same list.",
        source='Webber, Moffat and Zobel, "A similarity measure for indefinite rankings", 2010, equation 32.',
    ),
    _swap(
        "kendall_topk",
        swaps.kendall_topk,
        "distance",
        title="Kendall distance of two top-k lists, penalty 1/2, over its largest value.",
        formula="kendall_topk = (inverted pairs + pairs known to one list only / 2) / (k^2 + k (k - 1) / 2)",
        range="[0, 1]. 0: the same top k in the same order. 1: no item in common.",
        source='K^(1/2) of Fagin, Kumar and Sivakumar, "Comparing top k lists", 2003, section 3.',
    ),
    _swap(
        "med_dcg@k",
        swaps.med_dcg,
        "share of ideal DCG",
        title="Largest difference in DCG@k that any relevance in [0, 1] of the items could give. A metric.",
        formula="med_dcg@k = max(sum of positive, of negative differences of an item's discounts) / ideal DCG@k",
        range="[0, 1]. 0: the same top k in the same order. 1: no item in common.",
        source=(
            'maximised effectiveness difference, Tan and Clarke, "A family of rank similarity measures '
            'based on maximized effectiveness difference", 2015. Discount of rank r <= k: 1 / log2(1 + '
            "r)."
        ),
    ),
    _swap(
        "tie_share",
        swaps.tie_share,
        "share of item pairs",
        better="none",
        title="Share of item pairs with equal scores, the mean of both lists: how much the tie-break decides.",
        formula="tie_share = mean over the two lists of tied pairs / (K (K - 1) / 2)",
        range="[0, 1]. 0: no ties. 1: all scores equal in both lists.",
        source="reported beside the swap rates, which count a tie in one list as half a swap.",
    ),
    Definition(
        "consensus_regret",
        regret.consensus_regret,
        "regret",
        "share of expected clicks",
        title="Share of expected clicks that a replica loses against the consensus order, the mean of the two.",
        formula=(
            "sum_r w_r (pbar at consensus rank r - pbar at m's rank r) / sum_r w_r pbar at consensus "
            "rank r, w_r = 1 / log2(1 + r); mean of m = a, b. pbar is the mean over all replicas (here:"
            " of a and b)"
        ),
        range="[0, 1). 0: both order as the consensus does. 0.01: one expected click in a hundred is lost.",
        source=(
            "regret of a ranking under discounted cumulative gain, Jarvelin and Kekalainen, 2002; the "
            "headline cost, since it weighs a swap by what it costs."
        ),
    ),
    _quality(
        "auc",
        quality.auc,
        "probability",
        better="higher",
        title="Probability that a positive scores above a negative, ties one half; exact, from ranks.",
        formula=(
            "auc = (D + T/2) / (positives negatives); D pairs in the right order, T tied pairs; with "
            "weights a pair counts w_i w_j"
        ),
        range="[0, 1]. 0.5: no better than chance. 1: every positive above every negative.",
        source="Mann and Whitney, 1947. Not from 200 bins: gaps between replicas are 1e-4.",
    ),
    _quality(
        "logloss",
        quality.logloss,
        "nats",
        bounds=(0.0, 16.2),
        title="Mean negative log-likelihood, in nats; probabilities are clipped to [1e-7, 1 - 1e-7].",
        formula="logloss = - mean (y ln p + (1 - y) ln(1 - p)); with weights the weighted mean",
        range="[0, 16.2]. 0: certain and right. ln 2 = 0.693: always one half.",
        source='Good, "Rational decisions", 1952.',
    ),
    _quality(
        "rmse",
        quality.rmse,
        "label's unit",
        bounds=(0.0, math.inf),
        title="Root of the mean squared error of values that a regression predicts, in the label's unit.",
        formula="rmse = sqrt(mean (p - y)^2); with weights the weighted mean",
        range=(
            "[0, infinity). 0: every value is right. The label's standard deviation: no better than its mean."
        ),
        source="TFRS' ranking tutorial, `RootMeanSquaredError`.",
    ),
    _quality(
        "mae",
        quality.mae,
        "label's unit",
        bounds=(0.0, math.inf),
        title="Mean absolute error of values that a regression predicts, in the label's unit.",
        formula="mae = mean |p - y|; with weights the weighted mean",
        range="[0, infinity). 0: every value is right.",
        source="Willmott and Matsuura, 2005.",
    ),
    _quality(
        "ranking_loss",
        quality.ranking_loss,
        "nats",
        bounds=(0.0, 32.3),
        title="Pairwise logistic loss over pairs of a higher and a lower label, the mean over requests that have one.",
        formula=(
            "ranking_loss = mean_n mean_(i, j of n with y_i > y_j) ln(1 + exp(l_j - l_i)), l "
            "log-odds; with weights a pair counts w_i w_j, a request the mean weight of its rows"
        ),
        range="[0, 32.3]. 0: positives far above negatives. ln 2 = 0.693: all equal.",
        source='RankNet, Burges et al., "Learning to rank using gradient descent", 2005.',
    ),
    _quality(
        "gauc",
        quality.gauc,
        "probability",
        better="higher",
        title=(
            "AUC within each group, averaged with the group's impressions as weights; one-class groups "
            "are left out."
        ),
        formula=(
            "gauc = sum_n K_n auc_n / sum_n K_n over groups n with both classes; with weights auc_n is "
            "the weighted one and K_n the sum of the group's weights"
        ),
        range="[0, 1]. 0.5: no better than chance within a group. 1: every positive on top of its group.",
        source='Zhou et al., "Deep interest network for click-through rate prediction", 2018, section 6.2.',
    ),
    _quality(
        "ndcg@k",
        quality.ndcg,
        "share of ideal DCG",
        better="higher",
        title="Normalised discounted cumulative gain of the top k, the mean over requests that can be ranked.",
        formula=(
            "ndcg@k = mean_n sum_(r<=k) y_r / log2(1 + r) / (the same for the best order); with weights"
            " a request counts the mean weight of its rows"
        ),
        range="[0, 1]. 0: no positive in any top k. 1: positives first in every request.",
        source=(
            'Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR techniques", 2002; gain = '
            'label. Ties: McSherry and Najork, "Computing information retrieval performance measures '
            'efficiently in the presence of tied scores", 2008.'
        ),
    ),
    _quality(
        "calibration",
        quality.calibration,
        "ratio",
        better="none",
        bounds=(0.0, math.inf),
        title=(
            "Predicted over observed: how far the level of all predictions is off, which a ranking does"
            " not show."
        ),
        formula="calibration = sum w p / sum w y",
        range=(
            "[0, infinity). 1: as many clicks predicted as there were. 1.1: a tenth too many. nan "
            "without positives."
        ),
        source='He et al., "Practical lessons from predicting clicks on ads at Facebook", 2014, section 3.',
    ),
    _quality(
        "ece",
        quality.ece,
        "probability",
        title=(
            "Expected calibration error: how far predicted and observed rates are apart, within 15 bins"
            " of equal weight."
        ),
        formula=(
            "ece = sum_b W_b / W |mean p - mean y in bin b|; rows sorted by p are cut where the weight "
            "reaches b/15 of all, equal predictions are never cut apart"
        ),
        range="[0, 1]. 0: in every bin as many clicks as predicted.",
        source=(
            'Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian '
            'binning", 2015; bins of equal weight since click rates crowd near 0.'
        ),
    ),
)

CATALOGUE: dict[str, Definition] = {definition.name: definition for definition in _ALL}
"""Name -> definition, in the order of a page: prediction difference, swaps, regret, quality."""


def definition(label: str) -> Definition:
    """The definition of a measure by name or by label: `set_churn@10` finds `set_churn@k`.

    Raises:
        UserError: no such measure.

    Example:
        >>> definition("set_churn@10").formula
        'set_churn@k = 1 - |A_k n B_k| / min(k, K)'
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
    """Parameters of the measures.

    Attributes:
        k: how deep the top of a list is.
        thresholds: of `flip_rate@t`.
        order_only: scores only order: measures that need probabilities are left out.

    Example:
        >>> [label for label in Settings(k=5).measures if "@" in label][:2]
        ['flip_rate@0.5', 'set_churn@5']
    """

    k: int = 10
    thresholds: tuple[float, ...] = (0.5,)
    order_only: bool = False
    measures: dict[str, tuple[Definition, Callable[[Pair], Array]]] = field(
        init=False, repr=False, compare=False
    )
    """Label -> definition and function of a `Pair`, for every measure of two models."""

    @property
    def cost(self) -> str:
        """Label of the measure that says which requests to look at."""
        return f"visible_inversion@{self.k}" if self.order_only else "consensus_regret"

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise UserError(f"`k` must be an integer >= 1. Received: k={self.k!r}")
        if not all(0 <= t <= 1 for t in self.thresholds):
            raise UserError(f"`thresholds` must be in [0, 1]. Received: thresholds={self.thresholds!r}")
        measures: dict[str, tuple[Definition, Callable[[Pair], Array]]] = {}
        for name, measure in CATALOGUE.items():
            if measure.family == "quality" or (self.order_only and measure.needs_probabilities):
                continue
            if name.endswith("@t"):
                for t in self.thresholds:
                    measures[f"{name[:-1]}{t:g}"] = measure, partial(measure.function, threshold=t)
            else:
                measures[f"{name[:-1]}{self.k}" if name.endswith("@k") else name] = measure, measure.function
        object.__setattr__(self, "measures", measures)
