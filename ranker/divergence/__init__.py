"""How differently replicas predict and rank, how sure that is, and which replica is the odd one. NumPy only.

From answers to statistics: `RequestBatch` (checked answers), `compare` (statistics of every pair: `Comparison`),
`measure_requests` (a value a request: exemplars, slices), `Settings` (k, thresholds), `merge`, `Statistic`,
`Coverage`.

Two models, one function a measure, on scores [K] or [n, K]:
    prediction difference: pd_abs, rpd_sym, rpd_ratio, pd_logit, pd_logit_squared, bias, flip_rate;
        of M models d1, relative_d1
    swap rates: top1_swap, set_churn, pair_inversion, visible_inversion, adjacent_swap, slot_change, rbo_ext,
        kendall_topk, med_dcg, tie_share
    cost: consensus_regret, replica_regret, consensus
Ranking quality with labels: auc, logloss, ranking_loss, gauc, ndcg.
What a measure is: `CATALOGUE`, `definition`, `Definition`.

Uncertainty: `Interval`, wilson, difference, poisson_bootstrap_quantile, `Histogram`; holm, exceeds,
replicas_then_pairs.
Attribution: noise_components, odd_ones.
"""

from ranker.divergence.attribution import OddOne, noise_components, odd_ones
from ranker.divergence.catalogue import CATALOGUE, Definition, Settings, definition
from ranker.divergence.compare import RequestMeasures, compare, measure_requests
from ranker.divergence.comparison import Comparison, Coverage, merge
from ranker.divergence.histogram import Histogram
from ranker.divergence.intervals import Interval, difference, poisson_bootstrap_quantile, wilson
from ranker.divergence.multiple import exceeds, holm, replicas_then_pairs
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
from ranker.divergence.quality import auc, gauc, logloss, ndcg, ranking_loss
from ranker.divergence.regret import consensus, consensus_regret, replica_regret
from ranker.divergence.requests import RequestBatch
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
    "Comparison",
    "Coverage",
    "Definition",
    "Histogram",
    "Interval",
    "OddOne",
    "RequestBatch",
    "RequestMeasures",
    "Settings",
    "Statistic",
    "adjacent_swap",
    "auc",
    "bias",
    "compare",
    "consensus",
    "consensus_regret",
    "d1",
    "definition",
    "difference",
    "exceeds",
    "flip_rate",
    "gauc",
    "holm",
    "kendall_topk",
    "logloss",
    "measure_requests",
    "med_dcg",
    "merge",
    "ndcg",
    "noise_components",
    "odd_ones",
    "pair_inversion",
    "pd_abs",
    "pd_logit",
    "pd_logit_squared",
    "poisson_bootstrap_quantile",
    "ranking_loss",
    "rbo_ext",
    "relative_d1",
    "replica_regret",
    "replicas_then_pairs",
    "rpd_ratio",
    "rpd_sym",
    "set_churn",
    "slot_change",
    "tie_share",
    "top1_swap",
    "visible_inversion",
    "wilson",
]
