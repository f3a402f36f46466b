"""Measures and numbers in words, the same in reports, on the dashboard and in messages. Pure."""

from __future__ import annotations

import math

from ranker.divergence import CATALOGUE, Interval, definition
from ranker.errors import UserError

_SENTENCES = {
    "top1_swap": "replicas swap the top item on {} of requests",
    "consensus_regret": "replicas lose {} of expected clicks against their consensus",
    "rpd_sym": "predictions of two replicas differ by {} of their size",
    "rpd_ratio": "predictions of two replicas differ by {} of their mean",
    "set_churn@k": "{} of the top {k} differs from replica to replica",
    "pair_inversion": "replicas invert {} of item pairs",
    "visible_inversion@k": "replicas invert {} of the item pairs a user can see",
}
_TITLES = {
    "rpd_sym": "Relative PD",
    "top1_swap": "Top-1 swap",
    "set_churn@k": "Top-{k} churn",
    "consensus_regret": "Expected clicks lost",
    "component": "Own noise",
    "pd_abs": "Absolute PD",
    "rpd_ratio": "Relative PD, ratio of means",
    "pd_logit": "Log-odds PD",
    "pd_logit_squared": "Squared log-odds PD",
    "bias": "Bias",
    "flip_rate@t": "Flip rate at {k}",
    "pair_inversion": "Pair inversion",
    "visible_inversion@k": "Visible inversion, top {k}",
    "adjacent_swap@k": "Adjacent swap, top {k}",
    "slot_change@k": "Slot change, top {k}",
    "rbo_ext": "Rank-biased overlap",
    "kendall_topk": "Top-k Kendall distance",
    "med_dcg@k": "Largest DCG difference",
    "tie_share": "Ties",
    "auc": "AUC",
    "logloss": "Log loss",
    "rmse": "RMSE",
    "mae": "MAE",
    "ranking_loss": "Ranking loss",
    "gauc": "GAUC",
    "ndcg@k": "NDCG@{k}",
}
TERMS = {
    "95% interval": "The interval that holds the value with a confidence of 95%; the request is the sampling unit.",
    "Above floor": "The value less the floor: what one replica differs from itself.",
    "Arm": "A recipe under comparison; its replicas are trained alike.",
    "Between replicas": "What replicas of one version differ from one another, for comparison.",
    "Churn": "How far a replica's new version differs from the one before.",
    "Coverage": "Share of the requests asked that were answered well.",
    "First rank": "The first place at which the two lists differ.",
    "Floor": "What one replica differs from itself.",
    "Init seed": "The seed of the weights with which training began.",
    "Measure": "What is measured between two models, or of one model against labels; Methods has each.",
    "Newest round": "Share of the newest round's requests that were answered well.",
    "Pair": "Two replicas whose answers to the same requests are compared.",
    "Replica": "One trained copy of the model.",
    "Rule": "The alert's rule; Alerts in the documents has what each means.",
    "Shuffle seed": "The seed of the order in which training saw the rows.",
    "Version": "A numbered export of a replica, as TF Serving counts.",
}
"""Terms that are no measures -> what they mean: headings of the report and of the dashboard."""
MISSING = "n/a"
"""What stands where a value is not defined."""
_SAME, _MINUS = "\u00b1", "\u2212"
_LEAST_SHARE = 1e-5
"""A share below this is shown as "under"."""
_AS_NUMBER = ("log-odds", "log-odds squared", "nats", "similarity", "distance")


def statement(label: str, value: Interval) -> str:
    """A sentence that says what a measure over all pairs came to.

    Example:
        >>> statement("top1_swap", Interval(0.018, 0.016, 0.02))
        'replicas swap the top item on 1.8% (95%: 1.6 to 2.0) of requests'
    """
    stem, depth = _stem(label)
    sentence = _SENTENCES.get(stem, "{name} is {}")
    return sentence.format(with_interval(label, value), k=depth, name=title(label).lower())


def _stem(label: str) -> tuple[str, str]:
    try:
        name = definition(label).name
    except UserError:
        return label, ""
    return name, label.partition("@")[2]


def title(label: str) -> str:
    """A measure's name for people.

    Example:
        >>> title("set_churn@10")
        'Top-10 churn'
    """
    stem, depth = _stem(label)
    return _TITLES.get(stem, stem).format(k=depth)


def meaning(label: str) -> str:
    """What a measure is, in one sentence of the catalogue; empty: it is none.

    Example:
        >>> meaning("top1_swap")
        'Whether the two lists start with different items.'
    """
    try:
        return definition(label).title.replace("`", "")
    except UserError:
        return ""


def is_share(label: str) -> bool:
    """Whether a measure reads as a percentage."""
    stem, _ = _stem(label)
    return stem in CATALOGUE and CATALOGUE[stem].unit not in _AS_NUMBER


def amount(label: str, value: float | None) -> str:
    """A measure's value.

    Example:
        >>> amount("top1_swap", 0.018), amount("top1_swap", 0.00042), amount("pd_logit", 0.1234)
        ('1.8%', '0.042%', '0.123')
        >>> amount("consensus_regret", 3e-6)
        'under 0.001%'
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if is_share(label) and 0 < abs(value) < _LEAST_SHARE:
        return f"under {100 * _LEAST_SHARE:g}%"
    return f"{percent(value)}%" if is_share(label) else number(value)


def with_interval(label: str, interval: Interval) -> str:
    """A value with its 95% interval.

    Example:
        >>> with_interval("top1_swap", Interval(0.013, 0.0, 0.026))
        '1.3% (95%: 0.0 to 2.6)'
    """
    return f"{amount(label, interval.value)} (95%: {between(label, interval)})"


def between(label: str, interval: Interval) -> str:
    """An interval without its value, in the value's unit: `1.6 to 2.0`."""
    ends = (interval.low, interval.high)
    if not all(math.isfinite(end) for end in ends):
        return "interval unknown"
    value, low, high = clipped(label, interval)
    if not is_share(label):
        return f"{number(low)} to {number(high)}"
    # as many decimals as the value has, unless it is so near 0 that the upper end would show none
    decimals = _decimals(100 * (value or high))
    return f"{100 * low:.{decimals}f} to {100 * high:.{decimals}f}"


def clipped(label: str, interval: Interval) -> Interval:
    """The interval within what the measure can be: a normal approximation may reach beyond."""
    stem, _ = _stem(label)
    if stem not in CATALOGUE:
        return interval
    least, most = CATALOGUE[stem].bounds
    return Interval(interval.value, max(interval.low, least), min(interval.high, most))


def limit(label: str, value: float) -> str:
    """A number that somebody chose, as they wrote it.

    Example:
        >>> limit("top1_swap", 0.03)
        '3%'
    """
    return f"{100 * value:.6g}%" if is_share(label) else f"{value:g}"


def percent(value: float) -> str:
    """A share times 100, with two digits that count and at least one decimal below 10.

    Example:
        >>> percent(0.018), percent(0.123), percent(0.00042), percent(0.0)
        ('1.8', '12.3', '0.042', '0')
    """
    hundred = 100 * value
    return "0" if abs(hundred) < 1e-6 else f"{hundred:.{_decimals(hundred)}f}"


def _decimals(value: float) -> int:
    size = abs(value)
    return 1 if size >= 1 or size < 1e-6 else min(1 - math.floor(math.log10(size)), 6)


def number(value: float) -> str:
    """A number with three digits that count."""
    if value == 0:
        return "0"
    return f"{value:.3g}" if 1e-4 <= abs(value) < 1e6 else f"{value:.1e}"


def change(label: str, now: float, before: float) -> str:
    """How far a measure has moved, in its unit; empty where one is unknown.

    Example:
        >>> change("top1_swap", 0.021, 0.018)
        '+0.3 pp'
    """
    if not (math.isfinite(now) and math.isfinite(before)):
        return ""
    moved = now - before
    sign = "+" if moved > 0 else _MINUS if moved < 0 else _SAME
    if not is_share(label):
        return f"{sign}{number(abs(moved))}"
    size = f"{100 * abs(moved):.{_decimals(100 * max(abs(now), abs(before)))}f}"
    return f"{sign}{size} pp" if float(size) else f"{_SAME}0"


def difference(label: str, interval: Interval) -> str:
    """A signed difference of a measure with its 95% interval, in its unit.

    Example:
        >>> difference("top1_swap", Interval(-0.012, -0.015, -0.009))
        '\u22121.2 pp (95%: \u22121.5 to \u22120.9)'
    """
    if not math.isfinite(interval.value):
        return MISSING
    is_percent = is_share(label)
    decimals = _decimals(100 * (interval.value or interval.high))

    def signed(value: float) -> str:
        size = f"{100 * abs(value):.{decimals}f}" if is_percent else number(abs(value))
        return f"{'+' if value > 0 else _MINUS if value < 0 else ''}{size}"

    ends = (interval.low, interval.high)
    between_ends = " to ".join(map(signed, ends)) if all(map(math.isfinite, ends)) else "interval unknown"
    return f"{signed(interval.value)}{' pp' if is_percent else ''} (95%: {between_ends})"


def count(number_of: int, noun: str, plural: str = "") -> str:
    """A number with its noun.

    Example:
        >>> count(1, "pair"), count(2, "pair"), count(3, "refresh", "refreshes"), count(1200, "request")
        ('1 pair', '2 pairs', '3 refreshes', '1,200 requests')
    """
    return f"{number_of:,} {noun if number_of == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """A length of time in one unit, or two.

    Example:
        >>> duration(42), duration(150), duration(5400), duration(200000)
        ('42 s', '2 min', '1 h 30 min', '2 d 7 h')
    """
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"
