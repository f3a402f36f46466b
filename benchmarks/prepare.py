"""`prepare` against the same work written in polars, on the same core; its memory, its growth, its second worker.

The same work: read 12 columns of delimited text, join two side tables, label, split by a hash, count the tokens of seven
categorical features, take moments and 101 quantiles of five numbers, put the training rows in a pseudo-random order
and write four shards of each split. polars cannot write TFRecord, so it writes Parquet.

    python benchmarks/prepare.py --rows 1000000 --growth 10 --runs 3

A ratio is the median of each round's ratio. Processor time is what a neighbour on the machine disturbs less.
"""

import argparse
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

RESULTS = Path(__file__).parent / "results"
USERS, ITEMS = 50_000, 20_000
CATEGORICAL = ("user_id", "gender", "device", "country", "hour", "item_id", "genre")
NUMERIC = ("age", "year", "price", "dwell", "position")
PLAIN = pa.csv.WriteOptions(quoting_style="none", quoting_header="none")


def generate(directory: Path, rows: int) -> None:
    random = np.random.default_rng(1)

    def names(prefix: str, count: int, size: int) -> np.ndarray:
        return np.array([f"{prefix}{i}" for i in range(count)])[random.integers(0, count, size)]

    directory.mkdir(parents=True)
    with (directory / "events.csv").open("wb") as sink:
        for start in range(0, rows, 500_000):
            size = min(500_000, rows - start)
            table = pa.table(
                {
                    "user_id": random.zipf(1.2, size) % USERS,
                    "item_id": random.zipf(1.3, size) % ITEMS,
                    "rating": random.integers(1, 6, size),
                    "timestamp": np.arange(start, start + size) + 1_000_000_000,
                    "device": names("device", 4, size),
                    "hour": random.integers(0, 24, size),
                    "price": random.gamma(2, 10, size).round(2),
                    "position": random.integers(0, 30, size),
                    "dwell": random.exponential(30, size).round(3),
                    "country": names("c", 60, size),
                    "session": random.integers(0, 5_000_000, size),
                    "score": random.normal(size=size).round(5),
                }
            )
            header = pa.csv.WriteOptions(
                include_header=start == 0, quoting_style="none", quoting_header="none"
            )
            pa.csv.write_csv(table, sink, header)
    users = {
        "user_id": np.arange(USERS),
        "age": random.integers(18, 80, USERS),
        "gender": names("g", 2, USERS),
    }
    items = {
        "item_id": np.arange(ITEMS),
        "genre": names("g", 20, ITEMS),
        "year": random.integers(1950, 2020, ITEMS),
    }
    pa.csv.write_csv(pa.table(users), directory / "users.csv", PLAIN)
    pa.csv.write_csv(pa.table(items), directory / "items.csv", PLAIN)


FORMATS = {
    "quoted.csv": "CSV, every field in quotes",
    "events.jsonl": "JSON lines",
    "nested.jsonl": "JSON lines with an object and a list in each",
    "events.parquet": "Parquet",
    "events.csv.gz": "CSV, gzip",
    "events.csv.zst": "CSV, zstd",
}
NESTED = ("user_id", "device", "country", "hour", "session")


def convert(directory: Path) -> None:
    """The same log in every format of `FORMATS`."""
    table = pa.csv.read_csv(directory / "events.csv")
    pa.parquet.write_table(table, directory / "events.parquet", row_group_size=200_000)
    text = pa.table(
        {
            name: column.cast(pa.string())
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
    )
    pa.csv.write_csv(text, directory / "quoted.csv", pa.csv.WriteOptions(quoting_style="all_valid"))
    with (directory / "events.jsonl").open("w") as flat, (directory / "nested.jsonl").open("w") as nested:
        for batch in table.to_batches(50_000):
            rows = batch.to_pylist()
            flat.write("".join(json.dumps(row) + "\n" for row in rows))
            for row in rows:
                row["context"] = {name: row.pop(name) for name in NESTED}
                row["shown"] = [row["item_id"], row["position"]]
            nested.write("".join(json.dumps(row) + "\n" for row in rows))
    data = (directory / "events.csv").read_bytes()
    for ending, codec in ((".gz", "gzip"), (".zst", "zstd")):
        with pa.output_stream(str(directory / f"events.csv{ending}"), compression=codec) as stream:
            stream.write(data)


def experiment(source: Path, events: str = "events.csv", **sections):
    """The configuration of a generated log; further sections such as `training`."""
    from ranker.config import build

    kinds = {name: {"kind": "categorical"} for name in CATEGORICAL} | {
        name: {"kind": "numeric"} for name in NUMERIC
    }
    of_item = ("item_id", "genre", "year", "price", "dwell", "position")
    rename = {f"context.{name}": name for name in NESTED} if events == "nested.jsonl" else {}
    return build(
        {
            "name": "benchmark",
            "data": {
                "root": str(source),
                "events": {"path": events, "rename": rename},
                "tables": {
                    "users": {"path": "users.csv", "key": "user_id"},
                    "items": {"path": "items.csv", "key": "item_id"},
                },
                "label": "rating >= 4",
                "request": ["user_id"],
                "split": {"by": "hash", "of": "session", "eval": 0.1},
            },
            "features": {n: {**k, "role": "item" if n in of_item else "context"} for n, k in kinds.items()},
            **sections,
        },
        "benchmark",
    )


def ours(source: Path, output: Path, workers: int, events: str = "events.csv") -> None:
    from pipelines.prepare import prepare
    from pipelines.runner import RunnerOptions

    prepare(experiment(source, events), output, RunnerOptions(workers=workers))


def polars(source: Path, output: Path) -> None:
    import polars as pl

    rows = pl.read_csv(source / "events.csv", schema_overrides={"hour": pl.String})
    rows = rows.join(pl.read_csv(source / "users.csv"), on="user_id", how="left")
    rows = rows.join(pl.read_csv(source / "items.csv"), on="item_id", how="left")
    rows = rows.with_columns(
        (pl.col("rating") >= 4).cast(pl.Float32).alias("label"),
        (pl.col("session").hash(1) % 10 == 0).alias("held"),
        pl.int_range(pl.len()).hash(2).alias("order"),
        *[pl.col(name).cast(pl.String) for name in CATEGORICAL],
        *[pl.col(name).cast(pl.Float32) for name in NUMERIC],
    ).select("label", "held", "order", *CATEGORICAL, *NUMERIC)
    train, held = rows.filter(~pl.col("held")), rows.filter(pl.col("held"))
    output.mkdir(parents=True)
    for name in CATEGORICAL:
        counts = train[name].value_counts().sort("count", name, descending=[True, False])
        (output / f"{name}.txt").write_text("\n".join(counts[name]))
    levels, summary = np.linspace(0, 1, 101), {}
    for name in NUMERIC:
        column = train[name].cast(pl.Float64)
        logs = column.sign() * column.abs().log1p()
        ordered = column.sort()
        quantiles = ordered.gather((levels * (len(ordered) - 1)).astype(int)).to_list()
        summary[name] = [
            column.mean(),
            column.std(),
            logs.mean(),
            logs.std(),
            column.min(),
            column.max(),
            quantiles,
        ]
    (output / "statistics.json").write_text(json.dumps(summary))
    train, held = train.sort("order"), held.sort("user_id", "order")
    for index in range(4):
        size = -(-len(train) // 4)
        train.slice(index * size, size).write_parquet(
            output / f"train-{index}.parquet", compression="uncompressed"
        )
        size = -(-len(held) // 4)
        held.slice(index * size, size).write_parquet(
            output / f"eval-{index}.parquet", compression="uncompressed"
        )


def measure(what: str, source: Path, workers: int = 1) -> dict[str, float]:
    """Runs one variant in a process of its own: one core for one worker, all cores for more."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--child", what, str(source), f"{scratch}/run", str(workers)]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return json.loads(run.stdout.splitlines()[-1])


def child(what: str, source: str, output: str, workers: str) -> None:
    if int(workers) == 1:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    importlib.import_module("polars" if what == "polars" else "pipelines.prepare")  # not timed
    began, used = time.perf_counter(), time.process_time()
    if what == "ours":
        ours(Path(source), Path(output), int(workers))
    elif what in FORMATS:
        ours(Path(source), Path(output), int(workers), what)
    else:
        polars(Path(source), Path(output))
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "processor": processor, "peak_mb": peak}))


def median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--growth", type=int, default=10, help="how many times more rows the large log has")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", nargs=4)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    with tempfile.TemporaryDirectory() as scratch:
        small, large = Path(scratch, "small"), Path(scratch, "large")
        generate(small, options.rows)
        generate(large, options.rows * options.growth)
        convert(small)
        variants = {
            "small": ("ours", small, 1),
            "large": ("ours", large, 1),
            "polars": ("polars", large, 1),
            "two workers": ("ours", large, 2),
            **{name: (name, small, 1) for name in FORMATS},
        }
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
        for _ in range(options.runs):  # interleaved, so that a slow spell of the machine falls on all
            for name, (what, source, workers) in variants.items():
                runs[name].append(measure(what, source, workers))
    seconds = {name: median(found, "seconds") for name, found in runs.items()}
    rows = options.rows * options.growth
    figures = {
        "rows": rows,
        "runs": options.runs,
        "rows_per_second": round(rows / seconds["large"]),
        "polars_rows_per_second": round(rows / seconds["polars"]),
        "ratio_to_polars": ratio(runs, "polars", "large"),
        "ratio_to_polars_processor": ratio(runs, "polars", "large", "processor"),
        "peak_mb": round(median(runs["large"], "peak_mb")),
        "peak_mb_small": round(median(runs["small"], "peak_mb")),
        "peak_mb_polars": round(median(runs["polars"], "peak_mb")),
        "peak_growth": round(median(runs["large"], "peak_mb") / median(runs["small"], "peak_mb"), 3),
        "time_growth": ratio(runs, "large", "small"),
        "time_growth_processor": ratio(runs, "large", "small", "processor"),
        "speedup_two_workers": ratio(runs, "large", "two workers"),
        "formats": {
            name: {
                "rows_per_second": round(options.rows / seconds[name]),
                "processor_to_csv": ratio(runs, name, "small", "processor"),
            }
            for name in FORMATS
        },
        "load": round(os.getloadavg()[2], 1),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "prepare.json").write_text(json.dumps(figures, indent=2) + "\n")
    (RESULTS / "prepare.md").write_text(table(figures, options.growth))
    print((RESULTS / "prepare.md").read_text())


def ratio(runs: dict[str, list[dict[str, float]]], above: str, below: str, key: str = "seconds") -> float:
    """Median over the rounds: each has its own spell of the machine's weather."""
    pairs = zip(runs[above], runs[below], strict=True)
    return round(statistics.median(a[key] / b[key] for a, b in pairs), 3)


def table(figures: dict, growth: int) -> str:
    lines = [
        f"| prepare, {figures['rows']:,} rows, medians of {figures['runs']} | measured | by processor time | bar |",
        "|---|---|---|---|",
        f"| rows a second, one worker | {figures['rows_per_second']:,} | | |",
        f"| rows a second, polars on the same core | {figures['polars_rows_per_second']:,} | | |",
        f"| ratio to polars | {figures['ratio_to_polars']} | {figures['ratio_to_polars_processor']} | at least 0.5 |",
        f"| peak memory, MB (polars {figures['peak_mb_polars']:,}) | {figures['peak_mb']:,} | | |",
        f"| peak memory against a {growth}th of the rows | {figures['peak_growth']} | | at most 1.3 |",
        f"| time against a {growth}th of the rows | {figures['time_growth']} | {figures['time_growth_processor']}"
        f" | at most {growth * 1.1:g} |",
        f"| speed-up with two workers | {figures['speedup_two_workers']} | | at least 1.6 |",
        "",
        f"| {figures['rows'] // growth:,} rows as | rows a second, one worker | processor time against plain CSV |",
        "|---|---|---|",
        *[
            f"| {title} | {figures['formats'][name]['rows_per_second']:,} | {figures['formats'][name]['processor_to_csv']} |"
            for name, title in FORMATS.items()
        ],
        "",
        f"Load of the machine over the last 15 minutes: {figures['load']} on {os.cpu_count()} processors.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
