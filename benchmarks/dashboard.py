"""How fast the dashboard's pages are made from a month of rounds, and whether they stay so with longer windows.

    python benchmarks/dashboard.py [--days 30] [--replicas 8]
    python benchmarks/dashboard.py --replicas 1000 --store FILE --name dashboard_fleet --repeats 3

The store is that of `benchmarks/monitor.py`, or with `--store` that of `benchmarks/fleet.py store --store FILE`: a round a
minute, rolled up and dropped by the store's own code. A page is
made and serialised in this process, as the server does for a browser; the median of several goes, pages interleaved.
Beside the time on the clock stands the processor's, which a busy machine does not stretch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from monitor import fill, probe_of
from plotly.utils import PlotlyJSONEncoder
from sqlalchemy import func, select

from ranker.divergence.fleet import ALL_PAIRS_UP_TO, DEGREE
from serving.dashboard import DashboardSettings
from serving.dashboard.figures.style import LIGHT
from serving.dashboard.layout.address import Address
from serving.dashboard.layout.context import Context
from serving.dashboard.layout.frame import rendered
from serving.dashboard.pages import PAGES
from serving.monitor.store import Store, open_store
from serving.monitor.store.schema import Round

RESULTS = Path(__file__).parent / "results"
BARS = {"overview": 300.0}
OTHERS = 1000.0
OF_FLEETS = 2000.0
"""Milliseconds of a page, at most."""


def views() -> dict[str, Address]:
    """Every page as it opens, and those with charts over a month."""
    found = {name: Address(name) for name in PAGES}
    for name in ("overview", "pair", "attribution", "data-quality"):
        found[f"{name}, 30 days"] = Address(name, window="30d")
    return found


def make(store: Store, settings: DashboardSettings, address: Address, now: float) -> int:
    """Makes a page; returns its size in bytes."""
    page, _ = rendered(Context(store, settings, address, LIGHT, now))
    return len(json.dumps(page, cls=PlotlyJSONEncoder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--store", type=Path, help="A store made here before; made if it is not there.")
    parser.add_argument("--name", default="dashboard", help="of the results' files")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    probe = probe_of(options.requests, options.candidates)
    with tempfile.TemporaryDirectory() as directory:
        path = options.store or Path(directory) / "monitor.db"
        if not path.exists():
            store = open_store(path)
            fill(store, options.days, options.replicas, probe, random)
            store.close()
        store = open_store(path)
        settings = DashboardSettings(path)
        with store.read() as connection:
            now = connection.execute(select(func.max(Round.time))).scalar_one() + 30
        goes: dict[str, list[float]] = {name: [] for name in views()}
        work: dict[str, list[float]] = {name: [] for name in views()}
        sizes: dict[str, int] = {}
        for go in range(options.repeats + 1):
            for name, address in views().items():
                began, used = time.perf_counter(), time.process_time()
                sizes[name] = make(store, settings, address, now)
                if go:  # the first one warms up
                    goes[name].append((time.perf_counter() - began) * 1e3)
                    work[name].append((time.process_time() - used) * 1e3)
        store.close()
    is_fleet = options.replicas > ALL_PAIRS_UP_TO
    pairs = options.replicas * (DEGREE if is_fleet else options.replicas - 1) // 2
    result = {
        "days": options.days,
        "replicas": options.replicas,
        "pairs": pairs,
        "repeats": options.repeats,
        "pages": {
            name: {
                "median_ms": statistics.median(times),
                "worst_ms": max(times),
                "processor_ms": statistics.median(work[name]),
                "kilobytes": sizes[name] / 1e3,
                "bar_ms": OF_FLEETS if is_fleet else BARS.get(name, OTHERS),
            }
            for name, times in goes.items()
        },
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{options.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    lines = [
        f"{options.replicas} replicas, {pairs} pairs, a round a minute for {options.days} days.",
        "",
        "| page | median | worst | processor | bar | size |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {one['median_ms']:.0f} ms | {one['worst_ms']:.0f} ms | {one['processor_ms']:.0f} ms |"
        f" {one['bar_ms']:.0f} ms | {one['kilobytes']:.0f} kB |"
        for name, one in result["pages"].items()
    ]
    table = "\n".join(lines)
    (RESULTS / f"{options.name}.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
