"""The monitor's store after a month: its size, how fast its questions are answered, and whether memory stays flat.

    python benchmarks/monitor.py [--days 30] [--replicas 8] [--rounds 200]

Rounds are measured from simulated replicas (a pool of them, all different), written once a minute of simulated
time, and rolled up and dropped by the store's own code. Then the questions of each page are asked, the median of
several goes; and some rounds go the monitor's whole way, for their times and for the memory they leave.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import func, insert, select, text

from ranker.divergence import Settings
from serving.monitor.collection.answers import Answers, Collected
from serving.monitor.measurement.measure import measure
from serving.monitor.measurement.slices import slices
from serving.monitor.requests.probe import ProbeSet, probe_set
from serving.monitor.store import Store, open_store, packing, query
from serving.monitor.store.rollup import roll_up
from serving.monitor.store.schema import Cell, Count, RolledUp, Round, Series
from serving.monitor.store.selection import Selection
from serving.monitor.store.write import write_round

RESULTS = Path(__file__).parent / "results"
START = 1_700_006_400  # a midnight, UTC
POOL = 24


def probe_of(requests: int, candidates: int) -> ProbeSet:
    """Requests with one context feature of five values: five slices."""
    rows = requests * candidates
    return probe_set(
        np.repeat([f"request-{n}" for n in range(requests)], candidates),
        {
            "item_id": np.array([f"item-{n % 997}" for n in range(rows)], dtype=object),
            "city": np.repeat([f"city-{n % 5}" for n in range(requests)], candidates).astype(object),
        },
        "item_id",
    )


def answers(probe: ProbeSet, truth: np.ndarray, replica: int, random: np.random.Generator) -> Answers:
    """One replica's round: truth plus its own noise; asked again it differs in the last bits."""
    scores = 1 / (1 + np.exp(-(truth + random.normal(0, 0.1 + 0.02 * replica, len(truth)))))
    again = np.clip(scores * (1 + random.normal(0, 1e-7, len(truth))), 0, 1)
    everything = np.ones(len(probe), dtype=bool)
    labels = {"arm": "smelu", "replica": str(replica), "init_seed": "1", "shuffle_seed": str(replica)}
    return Answers(
        f"smelu-{replica}",
        labels,
        1,
        {"version": 1},
        scores,
        everything,
        again,
        everything,
        again,
        everything,
        Counter(),
    )


def round_at(
    probe: ProbeSet, truth: np.ndarray, replicas: int, at: float, random: np.random.Generator
) -> Collected:
    """One round of all replicas."""
    return Collected(probe, at, 1.0, tuple(answers(probe, truth, m, random) for m in range(replicas)))


def fill(
    store: Store, days: int, replicas: int, probe: ProbeSet, random: np.random.Generator
) -> dict[str, float]:
    """Writes a round a minute for some days, rolled up as it goes; returns seconds spent."""
    truth = random.normal(-2, 1, int(probe.offsets[-1]))
    cut = slices(probe, ("city",))
    pool = []
    for place in range(POOL):
        pool.append(
            measure(round_at(probe, truth, replicas, START + 60 * place, random), Settings(), cut, {}).record
        )
    write_round(
        store, pool[0]
    )  # makes subjects, series and layouts; its cells serve as the pattern of all others
    rows = [_cells_of(store, record) for record in pool]
    with store.read() as connection:
        everyone = connection.execute(select(Round.everyone)).scalar()
        counts = [
            {
                "stream": row.stream,
                "replica": row.replica,
                "kind": row.kind,
                "count": row.count,
                "resolution": 60,
            }
            for row in connection.execute(select(Count.__table__).where(Count.resolution == 60))
        ]
    spent = {"write": 0.0, "roll_up": 0.0}
    for ten in range(days * 144):
        began = time.perf_counter()
        cells, rounds, asked = [], [], []
        for minute in range(ten * 10, ten * 10 + 10):
            if minute == 0:
                continue
            at = START + minute * 60
            cells += [row | {"time": at} for row in rows[random.integers(POOL)]]
            rounds.append(
                {
                    "key": f"probe/{at}",
                    "stream": "probe",
                    "time": at,
                    "duration": 1.0,
                    "requests": len(probe),
                    "probe": probe.hash,
                    "everyone": everyone,
                }
            )
            asked += [row | {"time": at} for row in counts]
        with store.write() as connection:
            connection.execute(insert(Cell), cells)
            connection.execute(insert(Round), rounds)
            connection.execute(insert(Count), asked)
        spent["write"] += time.perf_counter() - began
        began = time.perf_counter()
        roll_up(store, START + ten * 600 + 600)
        spent["roll_up"] += time.perf_counter() - began
    return spent


def _cells_of(store: Store, record: object) -> list[dict[str, object]]:
    with store.read() as connection:
        ids = {
            (row.kind, row.a, row.b, row.feature, row.value): row.id
            for row in connection.execute(
                text(
                    "SELECT series.id, kind, x.replica AS a, y.replica AS b, feature, value FROM series "
                    "JOIN subject x ON x.id = series.a JOIN subject y ON y.id = series.b"
                )
            )
        }
    found = []
    for key, measured in record.statistics.items():  # type: ignore[attr-defined]
        sums, histogram = packing.to_arrays(measured)
        keep = key.kind in ("all", "pair") and not key.feature
        found.append(
            {
                "resolution": 60,
                "series": ids[key.kind, key.a.replica, key.b.replica, key.feature, key.value],
                "rounds": 1,
                "sums": packing.pack_sums(sums),
                "histogram": packing.pack_histograms(histogram) if keep else None,
            }
        )
    return found


def pages(store: Store, now: float, days: int) -> dict[str, Callable[[], object]]:
    """The questions behind each page."""
    day, month = 86_400, days * 86_400
    pair: dict[str, Any] = {"kind": "pair", "a": "smelu-0", "b": "smelu-7"}

    def overview() -> None:
        query.snapshot(store, Selection(now))
        query.matrix(store, Selection(now, measure="top1_swap"))
        query.lines(store, Selection.between(now - day, now + 60, measure="top1_swap", points=300))
        query.odd_one_out(store, Selection(now))
        query.events(store, Selection.between(now - day, now))
        query.alerts(store, state="firing")

    return {
        "overview": overview,
        "verdict": lambda: query.snapshot(store, Selection(now)),
        "matrix": lambda: query.matrix(store, Selection(now, measure="top1_swap")),
        "pair, a day": lambda: query.lines(
            store, Selection.between(now - day, now + 60, measure="top1_swap", **pair)
        ),
        "pair, all days": lambda: query.lines(
            store, Selection.between(now - month, now + 60, measure="top1_swap", **pair)
        ),
        "all pairs, a day": lambda: query.lines(
            store, Selection.between(now - day, now + 60, measure="rpd_sym", kind="pair", points=200)
        ),
        "slices": lambda: query.slices(store, Selection(now, measure="top1_swap")),
        "ladder": lambda: query.ladder(store, Selection(now, measure="rpd_sym")),
        "error kinds, all days": lambda: query.error_kinds(store, Selection.between(now - month, now + 60)),
        "metrics": lambda: query.totals(store),
    }


def resident() -> float:
    """Resident memory of this process, megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def whole_way(
    days: int, rounds: int, replicas: int, probe: ProbeSet, random: np.random.Generator
) -> dict[str, object]:
    """Rounds through measuring, writing and roll-up, one simulated minute apart: times and memory."""
    truth = random.normal(-2, 1, int(probe.offsets[-1]))
    cut = slices(probe, ("city",))
    times: dict[str, list[float]] = {"measure": [], "write": []}
    memory = []
    with tempfile.TemporaryDirectory() as directory:
        store = open_store(Path(directory) / "monitor.db")
        served: dict = {}
        for place in range(rounds):
            collected = round_at(probe, truth, replicas, START + 60 * place, random)
            began = time.perf_counter()
            measured = measure(collected, Settings(), cut, served)
            middle = time.perf_counter()
            served = measured.served
            write_round(store, measured.record)
            roll_up(store, START + 60 * place)
            times["measure"].append(middle - began)
            times["write"].append(time.perf_counter() - middle)
            memory.append(resident())
        store.close()
    quarter = max(rounds // 4, 1)
    return {
        "rounds": rounds,
        "measure_ms": statistics.median(times["measure"]) * 1e3,
        "write_ms": statistics.median(times["write"]) * 1e3,
        "memory_mb_after_a_quarter": memory[quarter - 1],
        "memory_mb_at_the_end": memory[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    probe = probe_of(options.requests, options.candidates)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "monitor.db"
        store = open_store(path)
        spent = fill(store, options.days, options.replicas, probe, random)
        store.close()  # writes the log back: the file is all there is
        store = open_store(path)
        size = sum(part.stat().st_size for part in Path(directory).iterdir())
        with store.read() as connection:
            cells = dict(
                connection.execute(select(Cell.resolution, func.count()).group_by(Cell.resolution)).all()
            )
            series = connection.execute(select(func.count()).select_from(Series)).scalar_one()
            rolled = dict(connection.execute(select(RolledUp.resolution, RolledUp.until)).all())
        now = START + options.days * 86_400 - 30
        timings = {}
        for name, ask in pages(store, now, options.days).items():
            ask()
            goes = []
            for _ in range(options.repeats):
                began = time.perf_counter()
                ask()
                goes.append((time.perf_counter() - began) * 1e3)
            timings[name] = statistics.median(goes)
        store.close()
    flat = whole_way(options.days, options.rounds, options.replicas, probe, random)
    result = {
        "days": options.days,
        "replicas": options.replicas,
        "pairs": options.replicas * (options.replicas - 1) // 2,
        "measures": len(Settings().measures),
        "slices": 5,
        "size_mb": size / 1e6,
        "series": series,
        "cells": {str(key): value for key, value in cells.items()},
        "rolled_up_to": {str(k): v for k, v in rolled.items()},
        "fill_seconds": spent,
        "query_ms": timings,
        "whole_way": flat,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "monitor.json").write_text(json.dumps(result, indent=1) + "\n")
    lines = ["| what | value |", "|---|---|"]
    scale = ", ".join(f"{result[name]} {name}" for name in ("replicas", "pairs", "measures", "slices"))
    lines.append(
        f"| store after {options.days} days of a round a minute ({scale}) | {result['size_mb']:.0f} MB |"
    )
    lines += [f"| query: {name} | {value:.0f} ms |" for name, value in timings.items()]
    lines.append(f"| a round: measuring / writing | {flat['measure_ms']:.0f} / {flat['write_ms']:.0f} ms |")
    lines.append(
        f"| memory after {options.rounds // 4} and {options.rounds} rounds | "
        f"{flat['memory_mb_after_a_quarter']:.0f} / {flat['memory_mb_at_the_end']:.0f} MB |"
    )
    table = "\n".join(lines)
    (RESULTS / "monitor.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
