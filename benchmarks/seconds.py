"""Where the seconds of a small run go: four replicas on 10,000 rows of 39 features, from the log to the report.

    python benchmarks/seconds.py

A log of Criteo's shape is generated (13 numbers, 26 categorical columns, requests of 5 rows), then `ranker run` runs on
it as its users start it. Beside the time by the clock stand processor seconds of all its processes, and the stages.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
NUMBERS, CATEGORIES, CANDIDATES = 13, 26, 5
BAR = 20.0
"""Seconds of the run that `--epochs 1` measures, at most."""


def write_log(directory: Path, rows: int) -> Path:
    """Writes the log and its experiment; returns the path of the experiment."""
    random = np.random.default_rng(39)
    directory.mkdir(parents=True, exist_ok=True)
    numbers = np.floor(random.lognormal(1.0, 1.5, size=(rows, NUMBERS)))
    # From a few values up to nearly as many as rows, frequent ones first, as in a log of clicks.
    sizes = np.geomspace(4, rows, CATEGORIES).astype(int)
    codes = np.stack([np.minimum(random.zipf(1.3, rows) - 1, size - 1) for size in sizes], axis=1)
    effects = [random.normal(0, 0.4, size) for size in sizes]
    logit = np.log1p(numbers) @ random.normal(0, 0.15, NUMBERS)
    logit += sum(effect[code] for effect, code in zip(effects, codes.T, strict=True))
    logit -= logit.mean() + 1.0
    label = random.random(rows) < 1 / (1 + np.exp(-logit))
    names = [f"i{k + 1}" for k in range(NUMBERS)] + [f"c{k + 1}" for k in range(CATEGORIES)]
    lines = [",".join(["request", "label", *names])]
    for row in range(rows):
        values = [f"{value:g}" for value in numbers[row]] + [f"{code:08x}" for code in codes[row]]
        lines.append(",".join([str(row // CANDIDATES), str(int(label[row])), *values]))
    (directory / "log.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    features = [f"  {name}: {{kind: numeric, role: item, transform: log1p}}" for name in names[:NUMBERS]]
    features += [f"  {name}: {{kind: categorical, role: item}}" for name in names[NUMBERS:]]
    experiment = [
        "name: seconds",
        "data:",
        f"  root: {directory}",
        "  events: {path: log.csv, format: delimited}",
        '  label: "label == 1"',
        "  request: [request]",
        "  item: c26",
        "  split: {by: hash, of: request, eval: 0.2}",
        "features:",
        *features,
        "replicas: {count: 4, seed: 1, vary: [init, shuffle]}",
    ]
    path = directory / "experiment.yaml"
    path.write_text("\n".join(experiment) + "\n", encoding="utf-8")
    return path


def run(experiment: Path, run_dir: Path, epochs: str) -> dict[str, float]:
    """One run as a user starts it: seconds by the clock, processor seconds, and seconds of each stage."""
    command = [
        sys.executable,
        "-m",
        "ranker.cli",
        "run",
        "--config",
        str(experiment),
        "--run-dir",
        str(run_dir),
    ]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, "--set", f"training.epochs={epochs}", "--json"], capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = sum(after[:2]) - sum(before[:2])
    result = json.loads(done.stdout.splitlines()[-1])
    return {"seconds": time.perf_counter() - began, "processor_seconds": processor, **result["stages"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", nargs="+", default=["1", "auto"], help="each is measured by itself")
    arguments = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        experiment = write_log(Path(directory) / "log", arguments.rows)
        for attempt in range(arguments.rounds):
            for epochs in arguments.epochs:
                measured = run(experiment, Path(directory) / f"run-{epochs}-{attempt}", epochs)
                rounds.setdefault(epochs, []).append(measured)
                print(epochs, measured, flush=True)
    save(rounds, arguments.rows)


def save(rounds: dict[str, list[dict[str, float]]], rows: int) -> None:
    medians = {
        epochs: {name: statistics.median(measured[name] for measured in of_epochs) for name in of_epochs[0]}
        for epochs, of_epochs in rounds.items()
    }
    result = {"rows": rows, "cores": os.cpu_count(), "python": platform.python_version(), "medians": medians}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({**result, "raw": rounds}, indent=1)
    (RESULTS / "seconds.json").write_text(text + "\n", encoding="utf-8")
    lines = [
        f"`ranker run` with four replicas on {rows:,} rows of {NUMBERS + CATEGORIES} features, {os.cpu_count()} cores;"
        f" medians of {len(next(iter(rounds.values())))} rounds. The bar is {BAR:g} s by the clock.",
        "",
        "| training.epochs | seconds | processor seconds | prepare | train | evaluate |",
        "|---|---|---|---|---|---|",
    ]
    columns = ("seconds", "processor_seconds", "prepare", "train", "evaluate")
    for epochs, median in medians.items():
        lines.append(f"| {epochs} | " + " | ".join(f"{median[column]:.1f}" for column in columns) + " |")
    (RESULTS / "seconds.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
