"""Training throughput of one DLRM: ours, facebookresearch/dlrm, plain torch, torchrec; and ours by size of the vocabulary.

    python benchmarks/dlrm.py --torch build/dlrm-venv/bin/python [--dlrm CHECKOUT]     (see requirements-dlrm.txt)

13 numbers, 26 ids, embeddings of 16, towers 256-64-16 and 512-256-1, dot interaction, ReLU, batch 1024, one thread each.
Every rival is a process that loads, warms up and then sleeps; in every round each trains 16 steps, in an order drawn anew.
A figure is the median over rounds of examples a second by the clock; `processor` is the same by processor time, which a
neighbour on the machine disturbs less. A ratio is the median of each round's ratio of ours to the rival's.
Rivals of one table use one optimizer; `sparse` and `dense` name the gradients of their embedding tables. Without
`--dlrm`, a checkout of facebookresearch/dlrm, that rival is left out. Without `--torch` only our part runs, and the results
are not written.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
EXAMPLES = 16 * 1024
OURS = "steady ranker"
FACEBOOK = "facebookresearch/dlrm"
RIVALS = {
    "sgd": {
        "torch, sparse": "plain_torch.py sgd {} sparse",
        "torchrec, dense": "torch_rec.py sgd {} dense",
        "torchrec, fused": "torch_rec.py sgd {} fused",
    },
    "adagrad": {
        "torch, sparse": "plain_torch.py adagrad {} sparse",
        "torch, dense": "plain_torch.py adagrad {} dense",
        "torchrec, dense": "torch_rec.py adagrad {} dense",
        "torchrec, fused": "torch_rec.py adagrad {} fused",
    },
}


class Worker:
    """A rival in a process of its own."""

    def __init__(self, python: str, command: str):
        script, *arguments = command.split()
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [python, str(HERE / "dlrm_workers" / script), *arguments],
            env={**os.environ, **threads, "CUDA_VISIBLE_DEVICES": "-1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        if self._line() != "ready":
            raise SystemExit(f"{command}: {self._process.stderr.read()[-2000:]}")

    def turn(self) -> tuple[float, float]:
        """Seconds of 16 steps, by the clock and of the processor."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        clock, processor, loss = map(float, self._line().split())
        if not 0 < loss < 0.8:
            raise SystemExit(f"{self._process.args}: does not learn, loss {loss}")
        return clock, processor

    def end(self) -> None:
        """Lets the process go."""
        self._process.stdin.close()
        self._process.wait()

    def _line(self) -> str:
        for line in self._process.stdout:
            if line[0] in "r0123456789":
                return line.strip()
        return ""


def compare(workers: dict[str, Worker], first: str, rounds: int, seed: int) -> dict[str, dict[str, float]]:
    """Interleaved rounds; figures by rival, ratios of `first` to each."""
    order = random.Random(seed)
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name in order.sample(list(workers), len(workers)):
            turns[name].append(workers[name].turn())

    def ratio(name: str, which: int) -> float:
        pairs = zip(turns[name], turns[first], strict=True)
        return statistics.median(theirs[which] / mine[which] for theirs, mine in pairs)

    return {
        name: {
            "examples_per_second": EXAMPLES / statistics.median(clock for clock, _ in own),
            "processor": EXAMPLES / statistics.median(processor for _, processor in own),
            "ratio": ratio(name, 0),
            "processor_ratio": ratio(name, 1),
        }
        for name, own in turns.items()
    }


def run(commands: dict[str, tuple[str, str]], first: str, rounds: int) -> dict[str, dict[str, float]]:
    workers: dict[str, Worker] = {}
    try:
        for name, (python, command) in commands.items():
            workers[name] = Worker(python, command)
        return compare(workers, first, rounds, seed=1)
    finally:
        for worker in workers.values():
            worker.end()


def table(title: str, figures: dict[str, dict[str, float]], ratio: str) -> str:
    lines = [
        f"**{title}**",
        "",
        f"| | examples/s | processor | {ratio} | processor |",
        "|---|---|---|---|---|",
    ]
    for name, own in figures.items():
        lines.append(
            f"| {name} | {own['examples_per_second']:,.0f} | {own['processor']:,.0f}"
            f" | {own['ratio']:.2f} | {own['processor_ratio']:.2f} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="Time one DLRM's training side by side.")
    parser.add_argument("--torch", help="a Python with the rivals")
    parser.add_argument("--dlrm", help="a checkout of facebookresearch/dlrm")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--vocabularies", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    arguments = parser.parse_args()
    results, tables = {}, []
    for optimizer, rivals in RIVALS.items():
        commands = {OURS: (sys.executable, f"ours.py {optimizer} 10000")}
        if arguments.torch:
            commands |= {name: (arguments.torch, command.format(10_000)) for name, command in rivals.items()}
        if arguments.torch and arguments.dlrm:
            commands[FACEBOOK] = (arguments.torch, f"facebook.py {optimizer} 10000 {arguments.dlrm}")
        results[optimizer] = run(commands, OURS, arguments.rounds)
        tables.append(table(f"{optimizer}, vocabulary 10,000", results[optimizer], "ours / theirs"))
        print(tables[-1], flush=True)
        if arguments.torch:  # what is measured stays, whatever happens to the rest
            save(arguments.rounds, results, tables)
    if arguments.vocabularies:
        sizes = {f"{size:,}": (sys.executable, f"ours.py adagrad {size}") for size in arguments.vocabularies}
        results["vocabulary"] = run(sizes, next(iter(sizes)), arguments.rounds)
        tables.append(table("ours, adagrad, by vocabulary", results["vocabulary"], "step time / first"))
        print(tables[-1])
    if arguments.torch:
        save(arguments.rounds, results, tables)


def save(rounds: int, results: dict, tables: list[str]) -> None:
    facts = {
        "rounds": rounds,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "load": os.getloadavg()[2],
    }
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "dlrm.json").write_text(json.dumps({**facts, **results}, indent=1) + "\n")
    heading = (
        f"# Training one DLRM\n\nMade by `python benchmarks/dlrm.py`, {rounds} rounds; load of the machine"
        f" over the last 15 minutes {facts['load']:.1f} on {facts['cpus']} processors.\n\n"
    )
    (HERE / "results" / "dlrm.md").write_text(heading + "\n".join(tables))


if __name__ == "__main__":
    main()
