"""What the stages cost as a log grows: rows, bytes, processor seconds and peak memory of each, at every size.

    python benchmarks/scale.py --rows 1000000 3000000 10000000
    python benchmarks/scale.py --add --rows 100000000

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
"""Seconds of a row more over those between the sizes before, at most."""
SCALE_LOG = """
A narrow log: a user of 50,000, an item of 50,000, a number, a label, requests of ten rows, a tenth of them evaluated;
two replicas of a small model, one pass.
"""
EVAL_SHARE = 0.1
REPLICAS = 2
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
  split: {{by: hash, of: request, eval: {EVAL_SHARE}}}
  shards: 8
features:
  user: {{kind: categorical, role: context}}
  item: {{kind: categorical, role: item}}
  price: {{kind: numeric, role: item}}
model: {{embedding_dim: 8, hidden: [16]}}
training: {{epochs: 1, batch_size: 4096}}
replicas: {{count: {REPLICAS}, seed: 1, vary: [init, shuffle]}}
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


def slope(sizes: list[dict[str, Any]], stage: str) -> float:
    """Processor seconds of a row more, by the two largest sizes of a stage; nan with one size."""
    measured = [size for size in sizes if stage in size][-2:]
    if len(measured) < 2:
        return float("nan")
    small, large = measured
    seconds = large[stage]["processor_seconds"] - small[stage]["processor_seconds"]
    return seconds / (large["rows"] - small["rows"])


def costs(sizes: list[dict[str, Any]]) -> list[str]:
    """A line of the table for each stage and size."""
    lines = []
    for stage in STAGES:
        measured = [size for size in sizes if stage in size]
        for number, size in enumerate(measured):
            further = [slope(measured[: n + 1], stage) * 1e6 for n in (number - 1, number) if n > 0]
            each = f"{further[-1]:.2f}" if further else ""
            # A start costs more than a few rows: a difference of two small logs may be nothing.
            ratio = f"{further[1] / further[0]:.2f}" if len(further) == 2 and further[0] > 0 else ""
            cost = size[stage]
            lines.append(
                f"| {stage} | {size['rows']:,} | {cost['processor_seconds']:,.1f} | {each} | {ratio} | {cost['peak_mb']:,} |"
            )
    return lines


def billion(sizes: list[dict[str, Any]], replicas: int) -> list[str]:
    """A line of the table for each stage: hours of a billion rows."""
    lines = []
    for stage in STAGES:
        hours = slope(sizes, stage) * BILLION / 3600
        # A replica trains in one process, whatever the number of workers.
        divided = [min(count, replicas) if stage == "train" else count for count in WORKERS]
        clock = " | ".join(f"{hours / count:.3f}" for count in divided)
        lines.append(f"| {stage} | {hours:.2f} | {clock} |")
    return lines


def page(result: dict[str, Any], compared: str) -> str:
    """docs/scale.md."""
    sizes, replicas = result["sizes"], result["replicas"]
    largest = max((size for size in sizes if "evaluate" in size), key=lambda size: size["rows"])
    written = largest["bytes"]
    hours = slope(sizes, "train") * BILLION / 3600 / replicas
    bytes_a_row = ", ".join(
        f"{figure:.1f} {what}"
        for what, figure in {
            "of the log": written["log"] / largest["rows"],
            "of the examples": written["examples"] / largest["rows"],
            "of the predictions (a row that is evaluated)": written["predictions"]
            / largest["rows"]
            / EVAL_SHARE,
        }.items()
    )
    note = f"{result['note']}\n\n" if "note" in result else ""
    return f"""# Scale

What the stages cost as a log grows, and what a billion rows would. `python benchmarks/scale.py` measures it and
writes this page; `python benchmarks/compare.py` measures `CompareReplicas`. Processor time depends on the machine, and
is higher on one that others use too.

## Stages

{SCALE_LOG.strip()}
One worker of one machine with {result["cores"]} cores. Processor seconds are user and system time of the command and all its
processes. *A million rows more* is the difference to the size before, without the seconds that a start takes. *Against
the one before* is how much that grows: the bar is {BAR}. Peak memory is that of the largest process.

| stage | rows | processor seconds | a million rows more | against the one before | peak memory, MB |
|---|---|---|---|---|---|
{chr(10).join(costs(sizes))}

{note}Bytes a row at {largest["rows"]:,} rows: {bytes_a_row}.
Nothing above {max(size["rows"] for size in sizes):,} rows has been measured.

## A billion rows

An extrapolation, not a measurement: a row more costs what it costs between the two largest sizes, and work is divided
evenly. It leaves out starts, the network and the store. Hours of processors, and by the clock:

| stage | processor hours | {" | ".join(f"{count:,} workers" for count in WORKERS)} |
|---|---|{"---|" * len(WORKERS)}
{chr(10).join(billion(sizes, replicas))}

What breaks first:

1. *The time of one replica.* A replica trains in one process (or on the machines of `multi_worker`): a pass over a
   billion rows takes {hours:.2f} hours of this narrow model, and more workers than replicas change nothing.
2. *The disk of a worker in `prepare`.* The rows of a shard wait on the disk of the worker that writes it: `data.shards`
   must grow with the log. The last step gathers one small result a block in one worker.
3. *The disk of the process that ends `evaluate`.* AUC and calibration are exact: each shard's rows, added up by score, come
   to its disk, 24 bytes a row and model, and are merged from there, some rows in memory at a time.
4. *The sorted runs of `prepare`.* A run is 4 MB of the log. A shard opens each run once for every 64 MB of its rows: a
   tenth of a millisecond each, and as the square of the log.

Training holds at most `training.segment_rows` rows in memory, of a larger log a third of that at a time. A log of at most
a million training rows is trained by one process, a larger one by a process a replica: so a start costs more from there.

## CompareReplicas

Rows of two models, requests whose sizes have a heavy tail, and one of 100,000 candidates. The cost of generating the
rows is subtracted. On this machine Beam's local runner holds all that it shuffles in memory; on Flink the engine does,
on its workers and their disks. Batches are compressed since the 100,000,000 rows; the other sizes were measured before.

{compared}"""


def main() -> None:
    """Reads the command line, measures, and writes the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000, 3_000_000, 10_000_000])
    parser.add_argument(
        "--prepare-only", type=int, nargs="*", default=[], help="sizes that are prepared alone"
    )
    parser.add_argument("--directory", default=None, help="where the logs are generated")
    parser.add_argument("--add", action="store_true", help="keep the sizes that were measured before")
    arguments = parser.parse_args()
    planned = dict.fromkeys(arguments.rows, STAGES) | dict.fromkeys(arguments.prepare_only, STAGES[:1])
    path = RESULTS / "scale.json"
    sizes = {size["rows"]: size for size in json.loads(path.read_text())["sizes"]} if arguments.add else {}
    with tempfile.TemporaryDirectory(dir=arguments.directory) as scratch:
        for rows, stages in sorted(planned.items()):
            measured, before = run(rows, stages, Path(scratch)), sizes.get(rows, {})
            # A size that is prepared alone keeps what was measured of its other stages.
            sizes[rows] = before | measured | {"bytes": before.get("bytes", {}) | measured["bytes"]}
    result = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "replicas": REPLICAS,
        "sizes": [sizes[rows] for rows in sorted(sizes)],
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    compared = (RESULTS / "compare.md").read_text(encoding="utf-8")
    (Path(__file__).parents[1] / "docs/scale.md").write_text(page(result, compared), encoding="utf-8")


if __name__ == "__main__":
    main()
