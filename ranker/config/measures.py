"""Which measure names a budget may use, without loading the measures."""

from __future__ import annotations

import re

MEASURES = (
    "pd_abs",
    "rpd_sym",
    "rpd_ratio",
    "pd_logit",
    "bias",
    "flip_rate",
    "top1_swap",
    "set_churn",
    "pair_inversion",
    "visible_inversion",
    "adjacent_swap",
    "slot_change",
    "rbo_ext",
    "kendall_topk",
    "consensus_regret",
    "med_dcg",
)


def check_measure(name: str) -> None:
    """Checks a measure's name, with or without its depth or threshold (`set_churn@10`).

    Raises:
        ValueError: the name is not one of the measures.
    """
    if re.sub(r"@.*$", "", name) not in MEASURES:
        raise ValueError(f"must name measures, of {', '.join(MEASURES)}. Received: {name!r}")
