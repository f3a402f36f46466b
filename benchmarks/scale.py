"""What the stages cost as a log grows: rows, bytes, processor seconds and peak memory of each, at every size.

    python benchmarks/scale.py --rows 1000000 10000000

A narrow log is generated (a user, an item, a number, a label; requests of ten rows), then `ranker prepare`, `train` and
`evaluate` run on it, each a command of its own, on one worker of this machine. A size of `--prepare-only` runs its first
stage alone. Processor seconds are user and system time of the command and all its processes. Peak memory is the largest of
any of its processes. The number of epochs, of replicas and of features is fixed: seconds are of one pass of one replica.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from ranker import layout

RESULTS = Path(__file__).parent / "results"
USERS, ITEMS, CANDIDATES = 50_000, 50_000, 10
PART = 1_000_000
STAGES = ("prepare", "train", "evaluate")
BAR = 1.1
"""Processor seconds a row of a size over those of the size before, at most."""
WORKERS = (10, 100, 1000)
BILLION = 1_000_000_000


def write_log(directory: Path, rows: int) -> Path:
    """Writes the log in parts, so that its size does not matter; returns the path of the experiment."""
    directory.mkdir(parents=True)
    options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
    with (directory / "log.csv").open("wb") as sink:
        sink.write(b"request,user,item,price,label\n")
        for start in range(0, rows, PART):
            random = np.random.default_rng([20, start])
            count = min(PART, rows - start)
            request = (start + np.arange(count)) // CANDIDATES
            item = np.minimum(random.zipf(1.2, count), ITEMS) - 1
            price = random.gamma(2.0, 10.0, count).round(2)
            logit = 0.8 * np.sin(item) + 0.02 * price - 2.0
            label = (random.random(count) < 1 / (1 + np.exp(-logit))).astype(np.int64)
            columns = [request, (request * 7919) % USERS, item, price, label]
            pa.csv.write_csv(pa.table(columns, names=["r", "u", "i", "p", "l"]), sink, options)
    path = directory / "experiment.yaml"
    path.write_text(
        f"""name: scale
data:
  root: {directory}
  events: {{path: log.csv, format: delimited}}
  label: "label == 1"
  request: [request]
  item: item
  split: {{by: hash, of: request, eval: 0.1}}
  shards: 8
features:
  user: {{kind: categorical, role: context}}
  item: {{kind: categorical, role: item}}
  price: {{kind: numeric, role: item}}
model: {{embedding_dim: 8, hidden: [16]}}
training: {{epochs: 1, batch_size: 4096}}
replicas: {{count: 2, seed: 1, vary: [init, shuffle]}}
""",
        encoding="utf-8",
    )
    return path


def measure(command: list[str]) -> dict[str, float]:
    """Processor seconds and peak memory of a command and all its processes."""
    watched = (
        "import json, resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "usage = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))\n"
        "sys.exit(done.returncode)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", watched, *command], stdout=subprocess.PIPE, text=True, check=True
    )
    processor, peak = json.loads(done.stdout)
    return {"processor_seconds": round(processor, 1), "peak_mb": round(peak)}


def run(rows: int, stages: tuple[str, ...], scratch: Path) -> dict[str, Any]:
    """One size: what each stage cost, and the bytes of what it wrote."""
    directory = scratch / str(rows)
    experiment, run_dir = write_log(directory / "log", rows), directory / "run"
    result: dict[str, Any] = {"rows": rows, "bytes": {"log": _bytes(directory / "log")}}
    for stage in stages:
        command = [sys.executable, "-m", "ranker.cli", stage, "--config", str(experiment)]
        result[stage] = measure([*command, "--run-dir", str(run_dir), "--workers", "1", "--json"])
        print(rows, stage, result[stage], file=sys.stderr, flush=True)
    result["bytes"]["examples"] = _bytes(layout.split_dir(run_dir, "train")) + _bytes(
        layout.split_dir(run_dir, "eval")
    )
    if "evaluate" in stages:
        result["bytes"]["replicas"] = _bytes(layout.replicas_dir(run_dir))
        result["bytes"]["predictions"] = _bytes(layout.predictions_dir(run_dir))
    shutil.rmtree(directory)
    return result


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def slopes(sizes: list[dict[str, Any]], stage: str) -> tuple[float, float]:
    """Processor seconds a million rows and those of the start, by the two largest sizes of a stage."""
    measured = [size for size in sizes if stage in size][-2:]
    if len(measured) < 2:
        return measured[0][stage]["processor_seconds"] / measured[0]["rows"] * 1e6, 0.0
    (small, large) = measured
    seconds = [size[stage]["processor_seconds"] for size in measured]
    slope = (seconds[1] - seconds[0]) / (large["rows"] - small["rows"]) * 1e6
    return slope, seconds[0] - slope * small["rows"] / 1e6


def page(result: dict[str, Any]) -> str:
    """The figures as tables."""
    sizes = result["sizes"]
    lines = [
        "| rows | stage | processor seconds | a million rows | peak memory, MB | seconds a row against the size before |",
        "|---|---|---|---|---|---|",
    ]
    for stage in STAGES:
        before = None
        for size in sizes:
            if stage not in size:
                continue
            cost = size[stage]
            each = cost["processor_seconds"] / size["rows"] * 1e6
            ratio = "" if before is None else f"{each / before:.2f}"
            lines.append(
                f"| {size['rows']:,} | {stage} | {cost['processor_seconds']:,.1f} | {each:.2f} |"
                f" {cost['peak_mb']:,} | {ratio} |"
            )
            before = each
    lines += [
        "",
        "| rows | bytes a row of the log | of the examples | of the predictions, per evaluated row |",
        "|---|---|---|---|",
    ]
    for size in sizes:
        written, rows = size["bytes"], size["rows"]
        predictions = f"{written['predictions'] / (rows * 0.1):.1f}" if "predictions" in written else ""
        lines.append(
            f"| {rows:,} | {written['log'] / rows:.1f} | {written['examples'] / rows:.1f} | {predictions} |"
        )
    lines += [
        "",
        "A billion rows by these slopes, processor hours in all, and hours by the clock where the work is divided evenly:",
        "",
        "| stage | processor hours | " + " | ".join(f"{count:,} workers" for count in WORKERS) + " |",
        "|---|---|" + "---|" * len(WORKERS),
    ]
    for stage in STAGES:
        slope, start = slopes(sizes, stage)
        hours = slope * BILLION / 1e6 / 3600
        if stage == "train":
            # A replica trains in one process, whatever the number of workers.
            clock = [hours / result["replicas"] * -(-result["replicas"] // count) for count in WORKERS]
        else:
            clock = [hours / count + start / 3600 for count in WORKERS]
        lines.append(f"| {stage} | {hours:.2f} | " + " | ".join(f"{value:.3f}" for value in clock) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Reads the command line, measures, and writes the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument(
        "--prepare-only", type=int, nargs="*", default=[], help="sizes that are prepared alone"
    )
    parser.add_argument("--directory", default=None, help="where the logs are generated")
    arguments = parser.parse_args()
    planned = dict.fromkeys(arguments.rows, STAGES) | dict.fromkeys(arguments.prepare_only, STAGES[:1])
    with tempfile.TemporaryDirectory(dir=arguments.directory) as scratch:
        sizes = [run(rows, stages, Path(scratch)) for rows, stages in sorted(planned.items())]
    result = {"cores": os.cpu_count(), "python": platform.python_version(), "replicas": 2, "sizes": sizes}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scale.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "scale.md").write_text(page(result), encoding="utf-8")
    print(page(result))


if __name__ == "__main__":
    main()
