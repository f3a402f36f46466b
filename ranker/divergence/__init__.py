"""How differently replicas predict and rank, how sure that is, and which replica is the odd one. NumPy only.

From answers to statistics: `RequestBatch` (checked answers), `compare` (a frame to a
`ModelComparison`, a batch to a `Comparison` of every pair),
`measure_requests` (a value a request: exemplars, slices), `Settings` (k, thresholds), `merge`, `Statistic`,
`Coverage`.

Two models, one function a measure, on scores [K] or [n, K]:
    prediction difference: pd_abs, rpd_sym, rpd_ratio, pd_logit, pd_logit_squared, bias, flip_rate;
        of M models d1, relative_d1
    swap rates: top1_swap, set_churn, pair_inversion, visible_inversion, adjacent_swap, slot_change, rbo_ext,
        kendall_topk, med_dcg, tie_share
    cost: consensus_regret, replica_regret, consensus
Ranking quality with labels, weighted or not: auc, logloss, ranking_loss, gauc, ndcg, calibration, ece; of values rmse, mae.
What a measure is: `CATALOGUE`, `definition`, `Definition`.

Uncertainty: `Interval`, wilson, measure_interval, `PairedDifference`, `RatioDifference`, difference, standing (an interval
against a limit), poisson_bootstrap_quantile, `Histogram`, confidence_sequence; holm, exceeds, replicas_then_pairs.
Attribution: noise_components, odd_ones; level, LEVELS, FLOOR; near_ties, `NearTies`, gap_deciles, gap_noise,
inversion_probability, inversion_probability_given_mean.
Fleets: `Design` (a random regular graph of pairs), measure_design, estimate_fleet, `FleetEstimate`, replica_effects.
Who answered: `AnswerCoverage`, answer_coverage.
Gate: decide, decide_quality, decide_coverage, overall_verdict, `Decision`, `GateOutcome`.
"""

from ranker.divergence.attribution import OddOne, noise_components, odd_ones
from ranker.divergence.catalogue import CATALOGUE, Definition, Settings, definition, measure_interval
from ranker.divergence.compare import RequestMeasures, compare_batch, measure_requests
from ranker.divergence.comparison import Comparison, Coverage, merge
from ranker.divergence.coverage import AnswerCoverage, LeftOut, answer_coverage
from ranker.divergence.fleet import (
    COMPONENT,
    Design,
    FleetEstimate,
    estimate_fleet,
    measure_design,
    replica_effects,
)
from ranker.divergence.front import compare
from ranker.divergence.gaps import gap_deciles, gap_noise
from ranker.divergence.gate import (
    Decision,
    GateOutcome,
    aside,
    decide,
    decide_coverage,
    decide_quality,
    overall_verdict,
)
from ranker.divergence.histogram import Histogram
from ranker.divergence.intervals import Interval, difference, poisson_bootstrap_quantile, standing, wilson
from ranker.divergence.ladder import FLOOR, LEVELS, level
from ranker.divergence.multiple import exceeds, holm, replicas_then_pairs
from ranker.divergence.near_ties import (
    NearTies,
    inversion_probability,
    inversion_probability_given_mean,
    near_ties,
)
from ranker.divergence.paired import PairedDifference, RatioDifference
from ranker.divergence.prediction import (
    bias,
    d1,
    flip_rate,
    pd_abs,
    pd_logit,
    pd_logit_squared,
    relative_d1,
    rpd_ratio,
    rpd_sym,
)
from ranker.divergence.quality import auc, calibration, ece, gauc, logloss, mae, ndcg, ranking_loss, rmse
from ranker.divergence.regret import consensus, consensus_regret, replica_regret
from ranker.divergence.requests import RequestBatch
from ranker.divergence.sequence import confidence_sequence
from ranker.divergence.statistics import Statistic
from ranker.divergence.swaps import (
    adjacent_swap,
    kendall_topk,
    med_dcg,
    pair_inversion,
    rbo_ext,
    set_churn,
    slot_change,
    tie_share,
    top1_swap,
    visible_inversion,
)

__all__ = [
    "CATALOGUE",
    "COMPONENT",
    "FLOOR",
    "LEVELS",
    "AnswerCoverage",
    "Comparison",
    "Coverage",
    "Decision",
    "Definition",
    "Design",
    "FleetEstimate",
    "GateOutcome",
    "Histogram",
    "Interval",
    "LeftOut",
    "NearTies",
    "OddOne",
    "PairedDifference",
    "RatioDifference",
    "RequestBatch",
    "RequestMeasures",
    "Settings",
    "Statistic",
    "adjacent_swap",
    "answer_coverage",
    "aside",
    "auc",
    "bias",
    "calibration",
    "compare",
    "compare_batch",
    "confidence_sequence",
    "consensus",
    "consensus_regret",
    "d1",
    "decide",
    "decide_coverage",
    "decide_quality",
    "definition",
    "difference",
    "ece",
    "estimate_fleet",
    "exceeds",
    "flip_rate",
    "gap_deciles",
    "gap_noise",
    "gauc",
    "holm",
    "inversion_probability",
    "inversion_probability_given_mean",
    "kendall_topk",
    "level",
    "logloss",
    "mae",
    "measure_design",
    "measure_interval",
    "measure_requests",
    "med_dcg",
    "merge",
    "ndcg",
    "near_ties",
    "noise_components",
    "odd_ones",
    "overall_verdict",
    "pair_inversion",
    "pd_abs",
    "pd_logit",
    "pd_logit_squared",
    "poisson_bootstrap_quantile",
    "ranking_loss",
    "rbo_ext",
    "relative_d1",
    "replica_effects",
    "replica_regret",
    "replicas_then_pairs",
    "rmse",
    "rpd_ratio",
    "rpd_sym",
    "set_churn",
    "slot_change",
    "standing",
    "tie_share",
    "top1_swap",
    "visible_inversion",
    "wilson",
]
