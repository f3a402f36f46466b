"""A fleet of simulated replicas: what a round costs, what the store holds after 30 days, how often a page is false.

    python benchmarks/fleet.py round --replicas 1000
    python benchmarks/fleet.py store --replicas 1000
    python benchmarks/fleet.py pages --replicas 1000

Seconds are processor seconds of this process. Each part prints one JSON object, and puts it into `results/fleet.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ranker.divergence import Design, Settings, Statistic, odd_ones, replica_effects
from ranker.divergence.fleet import effect_variances, remainder
from serving.monitor.collection.answers import Answers, Collected
from serving.monitor.measurement.measure import Served, measure
from serving.monitor.requests.probe import ProbeSet, probe_set
from serving.monitor.store import open_store
from serving.monitor.store.rollup import Retention, roll_up
from serving.monitor.store.schema import DAY, HOUR, MINUTE
from serving.monitor.store.write import write_round

START = 1_767_225_600
"""A midnight (UTC), seconds since 1970."""
QUARTER = 91 * DAY
RESULTS = Path(__file__).parent / "results/fleet.json"


def probe_of(requests: int, candidates: int) -> ProbeSet:
    """Requests with as many candidates each."""
    return probe_set(
        np.repeat([f"r{n}" for n in range(requests)], candidates),
        {
            "user": np.repeat([f"u{n}" for n in range(requests)], candidates).astype(object),
            "item": np.array([f"i{n}" for n in range(candidates)] * requests, dtype=object),
        },
        "item",
    )


def answers_of(probe: ProbeSet, noise: np.ndarray, seed: int, floor: int = 50) -> list[Answers]:
    """Replicas whose log-odds are a truth and noise of their own; asked again they say the same but for rounding."""
    random = np.random.default_rng(seed)
    rows = int(probe.offsets[-1])
    truth = random.normal(-1.0, 1.0, rows)
    everything, asked_again = np.ones(len(probe), dtype=bool), np.arange(len(probe)) < floor
    answers = []
    for m, scale in enumerate(noise):
        logit = truth + random.normal(0.0, scale, rows)
        scores = 1 / (1 + np.exp(-logit))
        batched = 1 / (1 + np.exp(-logit - random.normal(0.0, 1e-6, rows)))
        answers.append(
            Answers(
                replica=f"replica-{m:04d}",
                labels={"arm": "smelu", "replica": str(m), "shuffle_seed": str(m)},
                version=1,
                description={},
                scores=scores,
                answered=everything,
                again=scores,
                again_answered=asked_again,
                batched=batched,
                batched_answered=asked_again,
                errors=Counter(),
            )
        )
    return answers


def noise_of(replicas: int) -> np.ndarray:
    """Standard deviations of healthy replicas: their variances spread by a factor of about 2 around 0.04."""
    return 0.2 * np.random.default_rng(0).lognormal(0.0, 0.1, replicas)


def measure_round(arguments: argparse.Namespace) -> dict[str, Any]:
    """Processor seconds and memory of one round, one odd replica, and who is named."""
    noise = noise_of(arguments.replicas)
    noise[arguments.replicas // 3] = 0.6
    probe = probe_of(arguments.requests, arguments.candidates)
    collected = Collected(probe, float(START), 1.0, tuple(answers_of(probe, noise, 1)))
    begun = time.process_time()
    measured = measure(collected, Settings(), (), {}, interval=60.0)
    measuring = time.process_time() - begun
    with tempfile.TemporaryDirectory() as directory:
        store = open_store(Path(directory) / "monitor.db")
        begun = time.process_time()
        write_round(store, measured.record)
        writing = time.process_time() - begun
        store.close()
    fleet = measured.record.fleet
    assert fleet is not None
    component = {
        member.replica: Statistic.of([]) if not row[0] else _statistic(row)
        for member, row in zip(fleet.members, fleet.sums["component"], strict=True)
    }
    return {
        "replicas": arguments.replicas,
        "requests": arguments.requests,
        "candidates": arguments.candidates,
        "measuring_processor_seconds": round(measuring, 1),
        "writing_processor_seconds": round(writing, 2),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "named": [odd.replica for odd in odd_ones(component, alpha=0.001)],
        "odd": f"replica-{arguments.replicas // 3:04d}",
    }


def _statistic(row: np.ndarray) -> Statistic:
    return replace(_TWO, **dict(zip(_COLUMNS, (int(row[0]), *row[1:].tolist()), strict=True)))


_TWO = Statistic.of([0.0, 0.0])
"""What a statistic of given sums is made from."""
_COLUMNS = ("n", "total", "total_sq", "weight", "weight_sq", "cross")


def fill_store(arguments: argparse.Namespace) -> dict[str, Any]:
    """Bytes of a SQLite store after 30 days of rounds a minute.

    The newest 49 hours are written a minute apart. Of the days before only the ten-minute, hour and day cells are kept,
    so that of them a round every ten minutes is written, which gives the same cells.
    """
    noise = noise_of(arguments.replicas)
    probe = probe_of(60, 10)
    served: dict[str, Served] = {}
    rounds = []
    for seed in range(arguments.different):
        collected = Collected(probe, float(START + seed), 1.0, tuple(answers_of(probe, noise, 1)))
        measured = measure(collected, Settings(), (), served, interval=60.0)
        rounds.append(measured.record)
    end = START + arguments.days * DAY
    recent = end - 49 * HOUR
    times = [*range(START, recent, 10 * MINUTE), *range(recent, end, MINUTE)]
    silent = f"replica-{arguments.replicas // 2:04d}"
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        path = arguments.store or Path(directory) / "monitor.db"
        store = open_store(path)
        begun, sizes = time.process_time(), {}
        for position, moment in enumerate(times):
            record = rounds[position % len(rounds)]
            counts = dict(record.counts)
            if position % 7 == 0:  # now and then one does not answer
                counts[silent, "answered"], counts[silent, "deadline"] = 30, 30
            write_round(store, replace(record, key=f"round/{moment}", time=moment, marks=(), counts=counts))
            if moment % HOUR == 0:
                roll_up(store, moment, Retention())
            if (moment - START) % (5 * DAY) == 0:
                sizes[f"day {(moment - START) // DAY}"] = _bytes(path)
                print(json.dumps(sizes), file=sys.stderr)
        roll_up(store, end, Retention())
        with store.write() as connection:
            connection.exec_driver_sql("SELECT 1")
        seconds = time.process_time() - begun
        store.close()
        total = _bytes(path)
    written = (recent - START) / MINUTE + (end - recent) / MINUTE
    return {
        "replicas": arguments.replicas,
        "days": arguments.days,
        "rounds_written": len(times),
        "rounds_of_the_time": int(written),
        "bytes": total,
        "gigabytes": round(total / 1e9, 3),
        "processor_seconds": round(seconds, 1),
    }


def _bytes(path: Path) -> int:
    return sum(os.path.getsize(file) for file in path.parent.glob(path.name + "*"))


def simulate_pages(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rounds of a quarter with healthy replicas, then of fleets with one odd replica.

    A pair's difference is the sum of its replicas' noises, known only from `rows` rows that the replicas' noises share, so
    that its remainder has the standard deviation 2 sqrt(v_i v_j / rows); it is drawn anew each round, as if the probe
    were, which gives false pages the most chances. A page is a replica that is named in two rounds in a row, as the rule
    `odd-replica` waits for a minute.
    """
    random = np.random.default_rng(arguments.seed)
    variance = noise_of(arguments.replicas) ** 2
    # the noisiest of the healthy ones is just at the factor
    variance[0] = arguments.factor * np.median(variance) * arguments.edge
    rounds = arguments.rounds or QUARTER // int(arguments.interval)
    pages, named_before, named_rounds = 0, set(), 0
    for number in range(rounds):
        named = _named(random, variance, number, arguments)
        named_rounds += bool(named)
        pages += len(named & named_before)
        named_before = named
        if number % 2000 == 1999:
            print(f"{number + 1} of {rounds} rounds: {pages} false pages", file=sys.stderr)
    detected = []
    for trial in range(arguments.trials):
        odd = variance.copy()
        odd[7] = arguments.odd * np.median(variance)
        first = next((n + 1 for n in range(10) if 7 in _named(random, odd, 10 * trial + n, arguments)), None)
        detected.append(first)
    return {
        "replicas": arguments.replicas,
        "interval_seconds": arguments.interval,
        "rounds": rounds,
        "days": round(rounds * arguments.interval / DAY, 1),
        "rounds_that_named_a_healthy_replica": named_rounds,
        "false_pages": pages,
        "odd_over_median": arguments.odd,
        "trials": arguments.trials,
        "rounds_until_the_odd_one_was_named": max((n for n in detected if n), default=None),
        "never_named_in_10_rounds": sum(n is None for n in detected),
    }


def _named(
    random: np.random.Generator, variance: np.ndarray, seed: int, arguments: argparse.Namespace
) -> set[int]:
    design = Design.regular(len(variance), seed)
    a, b = design.pairs.T
    values = (variance[a] + variance[b]) * (1 + random.normal(0, np.sqrt(2 / arguments.rows), len(a)))
    values = (values + 2 * np.sqrt(variance[a] * variance[b] / arguments.rows) * random.normal(size=len(a)))[
        :, None
    ]
    effects, _ = replica_effects(design, values)
    effect = effects[:, 0]
    scale = np.maximum(effect, 0.1 * np.median(effect))
    spread = effect_variances(design, remainder(design, values, np.ones_like(values)), scale)
    n = arguments.requests
    # of n requests the sums that have this mean and this standard error
    statistics = {
        str(m): _statistic(np.array([n, n * v, n * v * v + s * n * (n - 1), n, n, n * v]))
        for m, (v, s) in enumerate(zip(effect.tolist(), spread.tolist(), strict=True))
    }
    return {int(odd.replica) for odd in odd_ones(statistics, factor=arguments.factor, alpha=arguments.alpha)}


def main() -> None:
    """Reads the command line and prints a part's result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["round", "store", "pages"])
    parser.add_argument("--replicas", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument(
        "--different", type=int, default=40, help="different rounds that the store is filled with"
    )
    parser.add_argument("--directory", default=None, help="where the store is made, and removed at the end")
    parser.add_argument("--store", type=Path, help="a file that is not there: the store stays in it")
    parser.add_argument("--interval", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=0, help="rounds in place of a quarter")
    parser.add_argument("--rows", type=float, default=2000.0, help="independent rows of a round")
    parser.add_argument("--factor", type=float, default=3.0)
    parser.add_argument("--alpha", type=float, default=0.001)
    parser.add_argument(
        "--edge", type=float, default=0.95, help="the noisiest healthy replica, of factor x median"
    )
    parser.add_argument(
        "--odd", type=float, default=5.0, help="the odd replica's noise variance over the median"
    )
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    part = {"round": measure_round, "store": fill_store, "pages": simulate_pages}[arguments.part]
    result = part(arguments)
    print(json.dumps(result))
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**results, arguments.part: result}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
