"""The way of rows into training: how fast they are read and encoded against what the trainer takes, and who waits for whom.

A log is generated and prepared. Then, interleaved and each on the same one core: all shards are read and encoded, and one
replica is trained on the rows from memory. Last, one replica is trained on segments read ahead from the shards, under
TensorFlow's profiler: a span for each compiled call of steps and one for each wait for rows. Rows a second of reading
and training are counted after their first block and call, which compile.

    python benchmarks/input.py --rows 1000000 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from prepare import experiment, generate, ours, ratio

RESULTS = Path(__file__).parent / "results"
STEPS, WAIT = "benchmark:steps", "benchmark:wait for rows"


def setting(source: Path, run: Path, segment_rows: int):
    from ranker.architecture import design
    from ranker.inputs import plan
    from ranker.layout import shard_paths, statistics_path

    own = experiment(source, training={"segment_rows": segment_rows})
    inputs = plan(own, run)
    rows = json.loads(statistics_path(run).read_text())["rows"]
    return own, inputs, design(inputs, own.model), shard_paths(run, "train"), rows


def read(source: Path, run: Path) -> dict[str, float]:
    """Reads and encodes every row once."""
    from ranker.training.rows.examples import blocks

    _, inputs, _, paths, _ = setting(source, run, 1)
    chunks = iter(blocks(paths, inputs, weighted=False))
    next(chunks)
    began, used = time.perf_counter(), time.process_time()
    rows = sum(len(chunk["label"]) for chunk in chunks)
    return {"rows": rows, "seconds": time.perf_counter() - began, "processor": time.process_time() - used}


def train(source: Path, run: Path) -> dict[str, float]:
    """Trains one replica for an epoch on rows in memory."""
    own, _, feed, program, seeds = prepared(source, run, 1 << 40)
    from ranker.training.trainer import train as fit

    marks: list[tuple[float, float, int]] = []
    fit(
        program,
        feed,
        own.training,
        [seeds],
        report=lambda now: marks.append((time.perf_counter(), time.process_time(), now.step)),
    )
    (began, used, first), (ended, all_used, last) = marks[0], marks[-1]
    rows = (last - first) * own.training.batch_size
    return {"rows": rows, "seconds": ended - began, "processor": all_used - used}


def prepared(source: Path, run: Path, segment_rows: int):
    from ranker.seeds import derive
    from ranker.training.rows.feed import of_shards
    from ranker.training.step.program import Program
    from ranker.training.step.stack import Stack

    own, inputs, architecture, paths, rows = setting(source, run, segment_rows)
    seeds = derive(1, 0, ("shuffle",))
    program = Stack([Program(architecture, own.training, [architecture.initialise(seeds)])])
    return own, rows, of_shards(paths, inputs, False, rows, own.training), program, seeds


class Watched:
    """A feed, and a program, whose waits and calls are spans of the profile."""

    def __init__(self, feed, program):
        self._feed, self._program = feed, program

    @property
    def rows(self) -> int:
        """As the feed's."""
        return self._feed.rows

    def parts(self, *arguments, **keywords) -> Iterator:
        """As the feed's, each wait for one a span."""
        from ranker.backend import tf

        parts = self._feed.parts(*arguments, **keywords)
        while True:
            with tf.profiler.experimental.Trace(WAIT):
                part = next(parts, None)
            if part is None:
                return
            yield part

    def watch_steps(self) -> None:
        """Makes a span of each of the program's calls."""
        from ranker.backend import tf

        run = self._program.run

        def traced(*arguments):
            with tf.profiler.experimental.Trace(STEPS):
                return run(*arguments)

        self._program.run = traced


def profile(source: Path, run: Path, segment_rows: int) -> dict[str, float]:
    """Trains on segments under the profiler: what the trainer's thread does, in shares of the time after the first call."""
    from ranker.backend import tf
    from ranker.training.trainer import train as fit

    own, rows, feed, program, seeds = prepared(source, run, segment_rows)
    watched = Watched(feed, program)
    watched.watch_steps()
    with tempfile.TemporaryDirectory() as log:
        # Our spans alone: with every operation among them the profile is full after the first calls.
        options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=1)
        with tf.profiler.experimental.Profile(log, options):
            fit(program, watched, own.training, [seeds])
        [trace] = Path(log).rglob("*.xplane.pb")
        return {"rows": rows, "segments": -(-rows // segment_rows), **spans(trace)}


def spans(trace: Path) -> dict[str, float]:
    """What a profile says of the thread that trains."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace.FromString(trace.read_bytes())
    for plane in space.planes:
        names = {key: metadata.name for key, metadata in plane.event_metadata.items()}
        for line in plane.lines:
            events = [(names[event.metadata_id], event.offset_ps, event.duration_ps) for event in line.events]
            steps = sorted((start, start + length) for name, start, length in events if name == STEPS)
            if len(steps) > 2:
                return shares(steps, events)
    raise SystemExit("the profile has too few calls of steps to say who waits: more rows are needed")


def shares(steps: list[tuple[int, int]], events: list[tuple[str, int, int]]) -> dict[str, float]:
    began, ended = steps[1][0], steps[-1][1]
    whole = ended - began
    waited = sum(length for name, start, length in events if name == WAIT and began <= start < ended)
    return {
        "calls": len(steps),
        "seconds": whole / 1e12,
        "in_steps": sum(b - a for a, b in steps[1:]) / whole,
        "waiting_for_rows": waited / whole,
    }


def child(what: str, arguments: list[str]) -> None:
    from ranker.training import threads

    source, run = Path(arguments[0]), Path(arguments[1])
    if what != "profile":
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    threads.use(1, 1)
    found = (
        {"read": read, "train": train}[what](source, run)
        if what != "profile"
        else profile(source, run, int(arguments[2]))
    )
    print(json.dumps(found))


def measure(*arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--segment-rows", type=int, default=100_000)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.child[0], options.child[1:])
    with tempfile.TemporaryDirectory() as scratch:
        source, run = Path(scratch, "log"), Path(scratch, "run")
        generate(source, options.rows)
        ours(source, run, 1)
        runs: dict[str, list[dict[str, float]]] = {"read": [], "train": []}
        for _ in range(options.rounds):
            for name, found in runs.items():
                found.append(measure(name, source, run))
                print(name, found[-1], flush=True)
        traced = measure("profile", source, run, options.segment_rows)
    for found in [one for own in runs.values() for one in own]:  # from here on: a row's
        found["seconds"] /= found["rows"]
        found["processor"] /= found["rows"]
    figures = {
        "rows": options.rows,
        "rounds": options.rounds,
        "load": round(os.getloadavg()[2], 1),
        "read_rows_per_second": round(1 / statistics.median(one["seconds"] for one in runs["read"])),
        "train_rows_per_second": round(1 / statistics.median(one["seconds"] for one in runs["train"])),
        "read_against_train": ratio(runs, "train", "read"),
        "read_against_train_processor": ratio(runs, "train", "read", "processor"),
        "profile": traced,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "input.json").write_text(json.dumps(figures, indent=2) + "\n")
    (RESULTS / "input.md").write_text(table(figures))
    print(table(figures))


def table(figures: dict) -> str:
    traced = figures["profile"]
    lines = [
        f"| input of training, {figures['rows']:,} rows generated, medians of {figures['rounds']} | measured"
        " | by processor time | bar |",
        "|---|---|---|---|",
        f"| rows read and encoded a second, one core | {figures['read_rows_per_second']:,} | | |",
        f"| rows trained a second, one replica on the same core | {figures['train_rows_per_second']:,} | | |",
        f"| reading against training | {figures['read_against_train']} | {figures['read_against_train_processor']}"
        " | at least 2 |",
        "",
        f"Profile of a training on {traced['segments']} segments read ahead ({traced['seconds']:.1f} s after the first"
        f" of {traced['calls']} calls of compiled steps):",
        "",
        "| the trainer's thread | share of the time |",
        "|---|---|",
        f"| in compiled steps | {traced['in_steps']:.1%} |",
        f"| waiting for rows, between calls | {traced['waiting_for_rows']:.2%} |",
        "",
        f"Load of the machine over the last 15 minutes: {figures['load']} on {os.cpu_count()} processors.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
