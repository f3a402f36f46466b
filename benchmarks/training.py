"""Training speed: plain Keras `fit`, one replica of ours, and eight stacked; on a prepared run, interleaved.

    python benchmarks/training.py RUN --config configs/movielens-1m-binary.yaml

Every rival trains the same TFRS model on the same rows from the same initial weights, one epoch in shuffled batches,
in its own process. Times are of whole trainings, tracing and compilation included, reading the examples not. Beside
them stand processor seconds, which neighbours on the machine change little.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

STACK = 8
RESULTS = Path(__file__).parent / "results"


def load(config: str, run: Path, rows: int | None):
    from ranker.architecture import design
    from ranker.config import load as load_config
    from ranker.inputs import plan
    from ranker.layout import shard_paths
    from ranker.training.rows.examples import Examples, read

    experiment = load_config(config)
    inputs = plan(experiment, run)
    examples = read(shard_paths(run, "train"), inputs, weighted=False)
    if rows:
        examples = Examples(*(getattr(examples, name)[:rows] for name in ("ids", "dense", "label", "weight")))
    return experiment, design(inputs, experiment.model), examples


def plain(experiment, architecture, examples) -> dict[str, float]:
    """`fit` as its users write it: tensors, shuffle, batch, prefetch."""
    from ranker.backend import keras, tf
    from ranker.model import RankingModel
    from ranker.seeds import derive

    training = experiment.training
    began, processor = time.perf_counter(), time.process_time()
    model = RankingModel(architecture)
    model.assign(architecture.initialise(derive(1, 0, ())))
    rate = training.optimizer.learning_rate
    model.compile(optimizer=keras.optimizers.Adagrad(rate, initial_accumulator_value=0.1))
    rows = tf.data.Dataset.from_tensor_slices(
        ({"ids": examples.ids, "dense": examples.dense}, examples.label)
    )
    window = training.shuffle_window
    rows = rows.shuffle(len(rows) if window == "full" else window).batch(training.batch_size).prefetch(4)
    model.fit(rows, epochs=1, verbose=0)
    return {"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - processor}


def ours(experiment, architecture, examples, count: int, lanes: int) -> dict[str, float]:
    """Replicas of ours in one stack."""
    from ranker.seeds import derive
    from ranker.training.step.stacking import Member, stack
    from ranker.training.trainer import train

    marks: list[tuple[float, int]] = []
    began, processor = time.perf_counter(), time.process_time()
    seeds = [derive(1, i, ("init", "shuffle")) for i in range(count)]
    training = experiment.training
    members = [Member(architecture, training, own) for own in seeds]
    train(
        stack(members, lanes),
        examples,
        training,
        seeds,
        report=lambda progress: marks.append((time.perf_counter(), progress.step)),
    )
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    (first, step), (last, end) = marks[0], marks[-1]
    steady = (end - step) * training.batch_size * count / (last - first) if end > step else float("nan")
    return {
        "seconds": seconds,
        "processor_seconds": processor,
        "examples_per_second_after_the_first_call": steady,
    }


def rival(arguments: argparse.Namespace) -> None:
    from ranker.training import threads

    lanes = {"stacked": arguments.threads, "stacked, one thread": 1}.get(arguments.rival, 1)
    if arguments.rival == "plain":
        threads.use(arguments.threads, arguments.threads)
    else:
        threads.use(1, lanes)
    setting = load(arguments.config, arguments.run, arguments.rows)
    if arguments.rival == "plain":
        found = plain(*setting)
    else:
        found = ours(*setting, STACK if arguments.rival.startswith("stacked") else 1, lanes)
    print(json.dumps(found | {"rows": int(setting[2].label.shape[0])}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--config", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rival", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rival:
        return rival(arguments)
    rivals = ("plain", "one replica", "stacked", "stacked, one thread")
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in rivals}
    for _ in range(arguments.rounds):
        for name in rivals:
            command = [sys.executable, __file__, *sys.argv[1:], "--rival", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rounds[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(name, rounds[name][-1], flush=True)
    save(rounds, arguments)


def save(rounds: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    seconds = {name: [found["seconds"] for found in own] for name, own in rounds.items()}

    def ratio(a: str, b: str, factor: float, kind: str) -> float:
        pairs = zip(rounds[a], rounds[b], strict=True)
        return statistics.median(x[kind] / (factor * y[kind]) for x, y in pairs)

    pairs = {
        "one replica: plain fit over ours (bar: at least 3)": ("plain", "one replica", 1),
        f"{STACK} stacked over {STACK} plain fits (bar: at most 0.25)": ("stacked", "plain", STACK),
        f"{STACK} stacked over {STACK} single trainings (bar: at most 0.65)": (
            "stacked",
            "one replica",
            STACK,
        ),
        f"{STACK} stacked on one thread over {STACK} single trainings": (
            "stacked, one thread",
            "one replica",
            STACK,
        ),
    }
    bars = {
        name: [ratio(*pair, kind) for kind in ("seconds", "processor_seconds")]
        for name, pair in pairs.items()
    }
    rows = int(rounds["plain"][0]["rows"])
    result = {
        "rows": rows,
        "rounds": arguments.rounds,
        "threads": arguments.threads,
        "python": platform.python_version(),
        "seconds": seconds,
        "ratios": bars,
        "raw": rounds,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    lines = [
        f"One epoch over {rows:,} rows; medians of {arguments.rounds} interleaved rounds; plain `fit` and the stack on "
        f"{arguments.threads} threads, one replica on one.",
        "",
        "| training | replicas | seconds | seconds a replica | examples/s | examples/s after the first call |",
        "|---|---|---|---|---|---|",
    ]
    for name, own in rounds.items():
        count = STACK if name.startswith("stacked") else 1
        middle = statistics.median(seconds[name])
        steady = statistics.median(
            f.get("examples_per_second_after_the_first_call", float("nan")) for f in own
        )
        lines.append(
            f"| {name} | {count} | {middle:.1f} | {middle / count:.2f} | {rows * count / middle:,.0f} | {steady:,.0f} |"
        )
    lines += ["", "| ratio, median over rounds | of time | of processor seconds |", "|---|---|---|"]
    lines += [f"| {name} | {wall:.2f} | {processor:.2f} |" for name, (wall, processor) in bars.items()]
    (RESULTS / "training.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
