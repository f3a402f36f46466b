"""What measuring costs: every measure of 28 pairs, against the usual ways to count inversions alone.

    python benchmarks/divergence.py

1,000 requests x 50 candidates x 8 replicas, one thread. Ours is `RequestBatch.from_rows` and `compare`: from
flat arrays to statistics of all measures. The rivals count inversions only, a request and a pair at a time:
`scipy.stats.kendalltau`, and a loop in Python. Rivals take turns in every round; a rival does every eighth
request and its time is scaled. A figure is the median over rounds; a ratio is the median of each round's.
"""

import argparse
import json
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # read when NumPy is loaded

import numpy as np  # noqa: E402
from scipy.stats import kendalltau  # noqa: E402

from ranker.divergence import RequestBatch, compare  # noqa: E402

RESULTS = Path(__file__).parent / "results"
REQUESTS, CANDIDATES, REPLICAS = 1000, 50, 8
PAIRS = list(combinations(range(REPLICAS), 2))
SHARE = 8
BARS = {"seconds": 2.0, "ratio": 30.0}


def answers(requests: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.normal(-2, 1, (requests, CANDIDATES))
    logits = truth + rng.normal(0, 0.2, (REPLICAS, requests, CANDIDATES))
    request, item = np.divmod(np.arange(requests * CANDIDATES), CANDIDATES)
    return request, item, (1 / (1 + np.exp(-logits))).reshape(REPLICAS, -1)


def ours(request: np.ndarray, item: np.ndarray, scores: np.ndarray) -> float:
    return compare(RequestBatch.from_rows(request, item, scores)).overall["pair_inversion"].value


def by_kendalltau(scores: np.ndarray) -> float:
    rates = [
        (1 - kendalltau(a, b).statistic) / 2
        for i, j in PAIRS
        for a, b in zip(scores[i], scores[j], strict=True)
    ]
    return float(np.mean(rates))


def by_python(scores: np.ndarray) -> float:
    rates = []
    lists = scores.tolist()
    for i, j in PAIRS:
        for a, b in zip(lists[i], lists[j], strict=True):
            inverted = 0
            for x in range(CANDIDATES):
                for y in range(x):
                    if (a[x] - a[y]) * (b[x] - b[y]) < 0:
                        inverted += 1
            rates.append(inverted / (CANDIDATES * (CANDIDATES - 1) / 2))
    return float(np.mean(rates))


def timed(work: Callable[[], float]) -> tuple[float, float]:
    begin = time.perf_counter()
    value = work()
    return time.perf_counter() - begin, value


def peak_memory(requests: int) -> int:
    rows = answers(requests)
    batch = RequestBatch.from_rows(*rows)
    tracemalloc.start()
    compare(batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    request, item, scores = answers(REQUESTS)
    few = scores.reshape(REPLICAS, REQUESTS, CANDIDATES)[:, ::SHARE]
    ours(request, item, scores)
    seconds: dict[str, list[float]] = {"all measures": [], "scipy.stats.kendalltau": [], "Python loop": []}
    for _ in range(rounds):
        best = min(timed(lambda: ours(request, item, scores)) for _ in range(3))
        seconds["all measures"].append(best[0])
        values = [best[1]]
        for name, rival in (("scipy.stats.kendalltau", by_kendalltau), ("Python loop", by_python)):
            taken, value = timed(lambda rival=rival: rival(few))
            seconds[name].append(taken * SHARE)
            values.append(value)
        if abs(values[1] - values[2]) > 1e-9 or abs(values[0] - values[1]) > 0.01:
            raise SystemExit(f"the rivals must agree on the inversion rate. Received: {values}")
    mine = seconds["all measures"]
    result = {
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "numpy": np.__version__,
        "requests": REQUESTS,
        "candidates": CANDIDATES,
        "replicas": REPLICAS,
        "pairs": len(PAIRS),
        "measures": len(compare(RequestBatch.from_rows(request, item, scores)).overall),
        "rounds": rounds,
        "seconds": {name: statistics.median(taken) for name, taken in seconds.items()},
        "ratio": {
            name: statistics.median(theirs / own for theirs, own in zip(taken, mine, strict=True))
            for name, taken in seconds.items()
            if name != "all measures"
        },
        "peak_megabytes": {
            str(n): round(peak_memory(n) / 1e6, 1) for n in (REQUESTS, 10 * REQUESTS, 40 * REQUESTS)
        },
        "bars": BARS,
    }
    result["met"] = {
        "seconds": result["seconds"]["all measures"] <= BARS["seconds"],
        **{name: ratio >= BARS["ratio"] for name, ratio in result["ratio"].items()},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "divergence.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "divergence.md").write_text(table(result))
    print(table(result))


def table(result: dict) -> str:
    lines = [
        f"{result['requests']:,} requests x {result['candidates']} candidates x {result['replicas']} replicas "
        f"({result['pairs']} pairs), one thread, median of {result['rounds']} rounds.",
        "",
        "| | seconds | times ours |",
        "|---|---|---|",
    ]
    for name, taken in result["seconds"].items():
        ratio = result["ratio"].get(name, 1.0)
        what = (
            f"Steady Ranker, {result['measures']} measures"
            if name == "all measures"
            else f"{name}, inversions only"
        )
        lines.append(f"| {what} | {taken:.3g} | {ratio:.3g} |")
    peaks = ", ".join(f"{int(n):,} requests {peak} MB" for n, peak in result["peak_megabytes"].items())
    lines += ["", f"Peak memory beside the input: {peaks}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
