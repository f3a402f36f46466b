"""The embedded server against its bars: added latency, throughput, batching, swaps, a plain Python server, soak.

The load generator (`server_load.py`) runs on the same machine and takes processor time from the server.
Rivals take turns, several rounds; medians are reported. Results go to `results/server.json` and `.md`.

    python benchmarks/server.py --rounds 5 --seconds 5 [--soak-seconds 600]
        [--only latency,batching,swaps,soak]

With `--only` the other figures in the results stay as they were.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import psutil
from server_models import BATCHED_MODELS, CANDIDATES, request_body, save_model
from server_processes import bare, load, plain_python_server, server

HERE = Path(__file__).parent
_SWAP_SECONDS = 3


def median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def latency_and_throughput(
    base: Path, body: Path, json_body: Path, rounds: int, seconds: float
) -> dict[str, float]:
    """Bare session, this server over gRPC and REST, and the FastAPI server, in turns."""
    runs: dict[str, list[dict[str, float]]] = {
        name: [] for name in ("bare", "closed", "half", "one", "rest", "fastapi")
    }
    with server(base) as (_, port, rest), plain_python_server(base / "1") as fastapi:
        for _ in range(rounds):
            runs["bare"].append(bare(seconds, base / "1", body))
            runs["closed"].append(load(port, body, clients=8, seconds=seconds))
            runs["one"].append(load(port, body, clients=1, seconds=seconds))
            half = runs["closed"][-1]["calls_a_second"] / 2
            runs["half"].append(load(port, body, clients=8, seconds=seconds, rate=half))
            runs["rest"].append(
                load(rest, json_body, clients=8, seconds=seconds, path="/v1/models/m:predict")
            )
            runs["fastapi"].append(load(fastapi, json_body, clients=8, seconds=seconds, path="/predict"))
    return {
        "bare_calls_a_second": median(runs["bare"], "calls_a_second"),
        "bare_p50_ms": median(runs["bare"], "p50_ms"),
        "closed_loop_calls_a_second": median(runs["closed"], "calls_a_second"),
        "one_client_p50_ms": median(runs["one"], "p50_ms"),
        "half_load_p50_ms": median(runs["half"], "p50_ms"),
        "half_load_p99_ms": median(runs["half"], "p99_ms"),
        "added_p50_ms": statistics.median(
            a["p50_ms"] - b["p50_ms"] for a, b in zip(runs["half"], runs["bare"], strict=True)
        ),
        "added_p99_ms": statistics.median(
            a["p99_ms"] - b["p99_ms"] for a, b in zip(runs["half"], runs["bare"], strict=True)
        ),
        "rest_calls_a_second": median(runs["rest"], "calls_a_second"),
        "fastapi_calls_a_second": median(runs["fastapi"], "calls_a_second"),
        "times_fastapi": statistics.median(
            a["calls_a_second"] / b["calls_a_second"]
            for a, b in zip(runs["closed"], runs["fastapi"], strict=True)
        ),
        "rest_times_fastapi": statistics.median(
            a["calls_a_second"] / b["calls_a_second"]
            for a, b in zip(runs["rest"], runs["fastapi"], strict=True)
        ),
        "failures": sum(run.get("failures", 0) for group in runs.values() for run in group),
    }


def batching(body: Path, rounds: int, seconds: float, folder: Path) -> dict[str, float]:
    """Single rows at concurrency 32, with and without batching, for models of rising cost."""
    parameters = folder / "batching.config"
    parameters.write_text(
        "max_batch_size { value: 128 } batch_timeout_micros { value: 0 } max_enqueued_batches { value: 1000 } "
        "num_batch_threads { value: 1 }"
    )
    results = {}
    for name, hidden in BATCHED_MODELS.items():
        base = folder / name
        save_model(base / "1", hidden)
        with (
            server(base) as (_, plain, _),
            server(base, "--enable_batching", f"--batching_parameters_file={parameters}") as (_, batched, _),
        ):
            runs = [
                (
                    load(plain, body, clients=32, seconds=seconds),
                    load(batched, body, clients=32, seconds=seconds),
                )
                for _ in range(rounds)
            ]
        results[f"{name}_single_row_ms"] = bare(seconds, base / "1", body)["p50_ms"]
        results[f"{name}_single_rows_a_second"] = statistics.median(a["calls_a_second"] for a, _ in runs)
        results[f"{name}_single_rows_a_second_batched"] = statistics.median(
            b["calls_a_second"] for _, b in runs
        )
        results[f"{name}_batching_gain"] = statistics.median(
            b["calls_a_second"] / a["calls_a_second"] for a, b in runs
        )
        gain, alone = results[f"{name}_batching_gain"], results[f"{name}_single_row_ms"]
        print(
            f"{name}: a single row takes {alone:.2f} ms alone, batching gives {gain:.2f} times the rows",
            flush=True,
        )
    return results


def swaps(model: Path, body: Path, count: int, folder: Path) -> dict[str, float]:
    """Latency under constant load, without and with a new version every three seconds."""
    base = folder / "swaps"
    shutil.copytree(model, base / "1")
    with server(base, "--file_system_poll_wait_seconds=0.2") as (_, port, _):
        rate = load(port, body, clients=4, seconds=3)["calls_a_second"] / 3
        steady = load(port, body, clients=4, seconds=count * _SWAP_SECONDS / 2, rate=rate)
        results: list[dict[str, float]] = []
        thread = threading.Thread(
            target=lambda: results.append(
                load(port, body, clients=4, seconds=count * _SWAP_SECONDS + 1, rate=rate)
            )
        )
        thread.start()
        for version in range(2, count + 2):
            shutil.copytree(model, base / f".tmp-{version}")
            os.rename(base / f".tmp-{version}", base / str(version))
            time.sleep(_SWAP_SECONDS)
        thread.join()
    return {
        "swaps": count,
        "swap_failures": results[0]["failures"],
        "steady_p99_ms": steady["p99_ms"],
        "swap_p99_ms": results[0]["p99_ms"],
        "swap_p99_times_steady": results[0]["p99_ms"] / steady["p99_ms"],
    }


def soak(base: Path, body: Path, seconds: float) -> dict[str, float]:
    """Full load for a long time; memory after a tenth of it and at the end."""
    with server(base) as (process, port, _):
        load(port, body, clients=8, seconds=seconds / 10)
        before = psutil.Process(process.pid).memory_info().rss
        result = load(port, body, clients=8, seconds=seconds * 0.9)
        after = psutil.Process(process.pid).memory_info().rss
    return {
        "soak_seconds": seconds,
        "soak_calls": result["calls"],
        "soak_failures": result["failures"],
        "soak_memory_mib": after / 2**20,
        "soak_memory_growth": after / before - 1,
    }


BARS = [
    ("added p50 at half load, ms", "added_p50_ms", "<=", 1.0),
    ("added p99 at half load, ms", "added_p99_ms", "<=", 5.0),
    ("batching gain, single rows of the wide model, 32 clients", "wide_batching_gain", ">=", 4.0),
    ("batching gain, single rows of the deeper model, 32 clients", "deeper_batching_gain", ">=", 4.0),
    ("failed requests in 20 swaps", "swap_failures", "<=", 0),
    ("p99 during swaps / steady", "swap_p99_times_steady", "<=", 2.0),
    ("throughput / FastAPI server", "times_fastapi", ">=", 3.0),
    ("memory growth in the soak", "soak_memory_growth", "<=", 0.02),
]


def table(results: dict[str, float]) -> str:
    """The bars that were measured, as Markdown."""
    lines = ["| bar | measured | wanted | met |", "|---|---|---|---|"]
    for text, key, sign, bound in BARS:
        if key in results:
            met = results[key] <= bound if sign == "<=" else results[key] >= bound
            lines.append(f"| {text} | {results[key]:.3g} | {sign} {bound:g} | {'yes' if met else 'no'} |")
    measured = [name for name in BATCHED_MODELS if f"{name}_single_row_ms" in results]
    if measured:
        lines += [
            "",
            "Batching of single rows from 32 clients, by what a row costs the model alone:",
            "",
            "| model (hidden layers) | one row alone, ms | rows a second | batched | gain |",
            "|---|---|---|---|---|",
        ]
    for name in sorted(measured, key=lambda name: results[f"{name}_single_row_ms"]):
        hidden = BATCHED_MODELS[name]
        shape = f"{len(hidden)} of {hidden[0]}" if len(set(hidden)) == 1 else ", ".join(map(str, hidden))
        lines.append(
            f"| {name} ({shape}) | {results[f'{name}_single_row_ms']:.2f} "
            f"| {results[f'{name}_single_rows_a_second']:.0f} "
            f"| {results[f'{name}_single_rows_a_second_batched']:.0f} "
            f"| {results[f'{name}_batching_gain']:.2f} |"
        )
    lines += [
        "",
        f"The load generator ran on the same {results['cpus']} cores; their load average before the run was "
        f"{results['load_average_before']:.1f}. Written by `benchmarks/server.py`.",
    ]
    return "\n".join(lines) + "\n"


def save(output: Path, results: dict[str, float]) -> None:
    """Writes what is measured so far: a run that is cut off keeps its finished parts."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    output.with_suffix(".md").write_text(table(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--soak-seconds", type=float, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "server")
    parser.add_argument("--only", default="", help="comma-separated: latency, batching, swaps, soak")
    options = parser.parse_args()
    parts = set(filter(None, options.only.split(","))) or {"latency", "batching", "swaps", "soak"}
    file = options.output.with_suffix(".json")
    results: dict[str, float] = json.loads(file.read_text()) if options.only and file.exists() else {}
    if parts - {"soak"}:
        results |= {"rounds": options.rounds, "seconds": options.seconds}
    load_average = os.getloadavg()[0]
    results |= {"cpus": os.cpu_count() or 0, "candidates": CANDIDATES, "load_average_before": load_average}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = folder / "model"
        save_model(base / "1")
        many, many_json = request_body(CANDIDATES)
        single, _ = request_body(1)
        for file_name, data in (("many", many), ("many.json", many_json), ("one", single)):
            (folder / file_name).write_bytes(data)
        if "latency" in parts:
            results |= latency_and_throughput(
                base, folder / "many", folder / "many.json", options.rounds, options.seconds
            )
            save(options.output, results)
        if "batching" in parts:
            results |= batching(folder / "one", options.rounds, options.seconds, folder)
            save(options.output, results)
        if "swaps" in parts:
            results |= swaps(base / "1", folder / "many", options.swaps, folder)
            save(options.output, results)
        if "soak" in parts and options.soak_seconds:
            results |= soak(base, folder / "many", options.soak_seconds)
            save(options.output, results)
    print(table(results))


if __name__ == "__main__":
    main()
