"""The measures again, in plain Python straight from their formulas: what the fast ones must equal."""

import math
from itertools import combinations, pairwise


def order(scores, items):
    return sorted(range(len(scores)), key=lambda i: (-scores[i], items[i]))


def log_odds(p):
    p = min(max(p, 1e-7), 1 - 1e-7)
    return math.log(p / (1 - p))


def discount(rank):  # rank from 1
    return 1 / math.log2(1 + rank)


def regret(scores, consensus, items):
    best = sum(discount(r) * consensus[i] for r, i in enumerate(order(consensus, items), 1))
    got = sum(discount(r) * consensus[i] for r, i in enumerate(order(scores, items), 1))
    return (best - got) / best if best else 0.0


def disagreements(a, b, pairs):
    total = 0.0
    for i, j in pairs:
        left, right = a[i] - a[j], b[i] - b[j]
        total += 1.0 if left * right < 0 else 0.5 if (left == 0) != (right == 0) else 0.0
    return total


def measures(a, b, items, consensus, k):
    """Measure -> (value, weight) of one request."""
    n = len(a)
    size, expected = float(n), sum(a + b) / 2
    gaps = [abs(x - y) for x, y in zip(a, b, strict=True)]
    logit_gaps = [abs(log_odds(x) - log_odds(y)) for x, y in zip(a, b, strict=True)]
    relative = [2 * abs(x - y) / (x + y) if x + y else 0.0 for x, y in zip(a, b, strict=True)]
    found = {
        "pd_abs": (sum(gaps) / n, size),
        "rpd_sym": (sum(relative) / n, size),
        "rpd_ratio": (sum(gaps) / expected if expected else 0.0, expected),
        "pd_logit": (sum(logit_gaps) / n, size),
        "pd_logit_squared": (sum(x * x for x in logit_gaps) / n, size),
        "bias": (sum(x - y for x, y in zip(a, b, strict=True)) / expected if expected else 0.0, expected),
        "flip_rate@0.5": (sum((x > 0.5) != (y > 0.5) for x, y in zip(a, b, strict=True)) / n, size),
    }
    if n < 2:
        return found
    oa, ob = order(a, items), order(b, items)
    rank_a, rank_b = ({i: r for r, i in enumerate(o, 1)} for o in (oa, ob))
    depth = min(k, n)
    ka, kb = oa[:depth], ob[:depth]
    pairs = list(combinations(range(n), 2))
    visible = [(i, j) for i, j in pairs if {i, j} & (set(ka) | set(kb))]
    common = [len(set(oa[:x]) & set(ob[:x])) for x in range(1, depth + 1)]
    p = 0.9
    rbo = (1 - p) / p * sum(x / r * p**r for r, x in enumerate(common, 1)) + common[-1] / depth * p**depth
    kendall = 0.0
    for i, j in combinations(sorted(set(ka) | set(kb)), 2):
        in_a, in_b = (i in ka) + (j in ka), (i in kb) + (j in kb)
        if in_a == in_b == 2:
            kendall += (rank_a[i] - rank_a[j]) * (rank_b[i] - rank_b[j]) < 0
        elif in_a == 2 and in_b == 1:
            kendall += rank_a[j if i in kb else i] < rank_a[i if i in kb else j]
        elif in_a == 1 and in_b == 2:
            kendall += rank_b[j if i in ka else i] < rank_b[i if i in ka else j]
        elif in_a == in_b == 1:
            kendall += 1
        else:
            kendall += 0.5
    moved = [
        (discount(rank_a[i]) if i in ka else 0) - (discount(rank_b[i]) if i in kb else 0) for i in range(n)
    ]
    ideal = sum(discount(r) for r in range(1, depth + 1))
    neighbours = sum(rank_b[i] > rank_b[j] for i, j in pairwise(ka))
    neighbours += sum(rank_a[i] > rank_a[j] for i, j in pairwise(kb))
    values = {
        "top1_swap": float(oa[0] != ob[0]),
        f"set_churn@{k}": 1 - len(set(ka) & set(kb)) / depth,
        "pair_inversion": disagreements(a, b, pairs) / len(pairs),
        f"visible_inversion@{k}": disagreements(a, b, visible) / len(visible),
        f"adjacent_swap@{k}": neighbours / 2 / max(depth - 1, 1),
        f"slot_change@{k}": sum(x != y for x, y in zip(ka, kb, strict=True)) / depth,
        "rbo_ext": rbo,
        "kendall_topk": kendall / (depth**2 + depth * (depth - 1) / 2),
        f"med_dcg@{k}": max(sum(max(x, 0) for x in moved), sum(max(-x, 0) for x in moved)) / ideal,
        "tie_share": sum((a[i] == a[j]) + (b[i] == b[j]) for i, j in pairs) / 2 / len(pairs),
        "consensus_regret": (regret(a, consensus, items) + regret(b, consensus, items)) / 2,
    }
    return {**found, **{label: (value, 1.0) for label, value in values.items()}}
