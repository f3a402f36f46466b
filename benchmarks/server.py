"""The embedded server against its bars: added latency, throughput, batching, swaps, a plain Python server, soak.

The load generator (`server_load.py`) runs on the same machine and takes processor time from the server.
Rivals take turns, several rounds; medians are reported. Results go to `results/server.json` and `.md`.

    python benchmarks/server.py --rounds 5 --seconds 5 [--soak-seconds 600]
        [--only latency,batching,swaps,soak]

With `--only` the other figures in the results stay as they were.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

import serving.server  # noqa: F401 - chooses Keras 2 before anything imports TensorFlow

HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(HERE.parent),
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
CANDIDATES = 100
_SWAP_SECONDS = 3


def save_model(path: Path, hidden: tuple[int, ...] = (128, 64, 32)) -> None:
    """A ranking model: two vocabularies, embeddings of 16, fully connected layers; with a warm-up record."""
    from tensorflow_serving.apis import prediction_log_pb2

    from ranker.backend import tf

    class Ranker(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            random = np.random.default_rng(0)
            self.tables = {}
            self.embeddings = {}
            for name, size in (("user_id", 1000), ("item_id", 2000)):
                initializer = tf.lookup.KeyValueTensorInitializer(
                    [f"{name}-{i}" for i in range(size)], list(range(size)), tf.string, tf.int64
                )
                self.tables[name] = tf.lookup.StaticHashTable(initializer, 0)
                self.embeddings[name] = tf.Variable(random.normal(size=(size, 16)).astype("f4"))
            widths = (33, *hidden, 1)
            self.layers = [
                tf.Variable(random.normal(size=pair).astype("f4") * 0.1)
                for pair in itertools.pairwise(widths)
            ]

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.string, name="user_id"),
                tf.TensorSpec([None], tf.string, name="item_id"),
                tf.TensorSpec([None], tf.float32, name="age"),
            ]
        )
        def serve(self, user_id, item_id, age):
            x = tf.concat(
                [
                    tf.gather(self.embeddings["user_id"], self.tables["user_id"].lookup(user_id)),
                    tf.gather(self.embeddings["item_id"], self.tables["item_id"].lookup(item_id)),
                    age[:, None],
                ],
                1,
            )
            for layer in self.layers[:-1]:
                x = tf.nn.swish(x @ layer)
            return {"score": tf.sigmoid(x @ self.layers[-1])}

    module = Ranker()
    tf.saved_model.save(module, str(path), signatures=module.serve)
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.ParseFromString(request_body(CANDIDATES)[0])
    (path / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(path / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def request_body(rows: int) -> tuple[bytes, bytes]:
    """A Predict as a serialised PredictRequest and as JSON."""
    from tensorflow_serving.apis import predict_pb2

    from ranker.backend import tf

    values = {
        "user_id": ["user_id-5"] * rows,
        "item_id": [f"item_id-{index}" for index in range(rows)],
        "age": [0.5] * rows,
    }
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    for name, column in values.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(column))
    return request.SerializeToString(), json.dumps({"inputs": values}).encode()


@contextmanager
def server(base: Path, *arguments: str):
    """A server process; gives (process, gRPC port, REST port)."""
    descriptor, log = tempfile.mkstemp(suffix=".log")
    command = [sys.executable, "-m", "serving.server", "--port=0", "--rest_api_port=-1", "--model_name=m"]
    process = subprocess.Popen(
        [*command, f"--model_base_path={base}", *arguments], stderr=descriptor, env=ENVIRONMENT
    )
    os.close(descriptor)
    try:
        ports: list[str] = []
        for _ in range(1800):
            ports = re.findall(r"(?:ModelServer at|REST API at:) ?127\.0\.0\.1:(\d+)", Path(log).read_text())
            if len(ports) == 2 or process.poll() is not None:
                break
            time.sleep(0.1)
        if len(ports) != 2:
            raise RuntimeError(f"the server did not start: {Path(log).read_text()[-2000:]}")
        yield process, int(ports[0]), int(ports[1])
    finally:
        process.terminate()
        process.wait(60)
        os.unlink(log)


@contextmanager
def plain_python_server(model: Path):
    """The FastAPI rival; gives its port."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "server_rivals.py"), "fastapi", str(port), str(model)], env=ENVIRONMENT
    )
    try:
        for _ in range(1800):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(60)


def load(port: int, body: Path, **options: object) -> dict[str, float]:
    """Runs the load generator in its own process."""
    flags = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, str(HERE / "server_load.py"), str(port), str(body), *flags]
    return json.loads(
        subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout
    )


def bare(seconds: float, model: Path, body: Path) -> dict[str, float]:
    """The session alone, in its own process."""
    command = [sys.executable, str(HERE / "server_rivals.py"), "bare", str(seconds), str(model), str(body)]
    out = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout
    return json.loads(out.strip().splitlines()[-1])


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
        "closed_loop_share_of_bare": statistics.median(
            a["calls_a_second"] / b["calls_a_second"]
            for a, b in zip(runs["closed"], runs["bare"], strict=True)
        ),
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


BATCHED_MODELS = {
    "small": (128, 64, 32),
    "deep": (16,) * 150,
    "deeper": (16,) * 600,
    "wide": (2048, 2048, 2048),
}
"""Hidden layers of the models that batching is measured on.

Batching saves what a run costs whatever its size, and never what a request costs: taking it in, answering
it, and the load generator's own part. So the gain is a function of what a single row costs the model alone,
and of how little more a batch costs. A deep model of narrow layers is nearly all fixed cost, as graphs of
hundreds of features with an operation or two each are; a wide one (34 MB of weights) has fixed cost too, but
its arithmetic, which a batch does not save, soon takes over.
"""


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
    ("8 clients, share of the bare session's calls", "closed_loop_share_of_bare", ">=", 0.5),
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
    wanted = set(filter(None, options.only.split(","))) or {"latency", "batching", "swaps", "soak"}
    kept = options.output.with_suffix(".json")
    results: dict[str, float] = json.loads(kept.read_text()) if options.only and kept.exists() else {}
    if wanted - {"soak"}:
        results |= {"rounds": options.rounds, "seconds": options.seconds}
    others = os.getloadavg()[0]
    results |= {"cpus": os.cpu_count() or 0, "candidates": CANDIDATES, "load_average_before": others}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = folder / "model"
        save_model(base / "1")
        many, many_json = request_body(CANDIDATES)
        one, _ = request_body(1)
        for file, data in (("many", many), ("many.json", many_json), ("one", one)):
            (folder / file).write_bytes(data)
        if "latency" in wanted:
            results |= latency_and_throughput(
                base, folder / "many", folder / "many.json", options.rounds, options.seconds
            )
            save(options.output, results)
        if "batching" in wanted:
            results |= batching(folder / "one", options.rounds, options.seconds, folder)
            save(options.output, results)
        if "swaps" in wanted:
            results |= swaps(base / "1", folder / "many", options.swaps, folder)
            save(options.output, results)
        if "soak" in wanted and options.soak_seconds:
            results |= soak(base, folder / "many", options.soak_seconds)
            save(options.output, results)
    print(table(results))


if __name__ == "__main__":
    main()
