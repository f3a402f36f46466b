"""What SmeLU costs in PyTorch under torch.compile, beside GELU and ReLU.

    build/frameworks-venv/bin/python benchmarks/activations_torch.py

Run with the repository's root on PYTHONPATH. 4096 x 1024 float32, value and gradient. Rivals take turns
in every round, in an order drawn anew for each; a turn is the quickest of three calls after one that is
not counted. A ratio is the median over rounds of a turn's ratio to GELU's turn in that round.
"""

import argparse
import json
import os
import random
import statistics
import time
from pathlib import Path

import torch

from ranker.activations.torch import get

RESULTS = Path(__file__).parent / "results"
SHAPE = (4096, 1024)
RIVALS = {
    "gelu": "gelu",
    "relu": "relu",
    "swish": "swish",
    "smelu 1": "smelu",
    "smelu 0.5": {"name": "smelu", "beta": 0.5},
    "smelu 1 centred": {"name": "smelu", "centred": True},
    "gsmelu": {"name": "gsmelu", "alpha": 0.5, "beta": 1.5},
}


def turn(function, x, upstream) -> float:
    """Milliseconds of forward and backward, the quickest of three."""
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        y = function(x)
        torch.autograd.grad(y, x, upstream)
        seconds.append(time.perf_counter() - start)
    return 1000 * min(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the activations in PyTorch.")
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
    load_before = round(os.getloadavg()[0], 1)
    torch.manual_seed(0)
    x, upstream = torch.randn(SHAPE, requires_grad=True), torch.randn(SHAPE)
    compiled = {name: torch.compile(get(spec), dynamic=False) for name, spec in RIVALS.items()}
    milliseconds: dict[str, list[float]] = {name: [] for name in RIVALS}
    order = random.Random(1)
    for _ in range(arguments.rounds):
        for name in order.sample(list(RIVALS), len(RIVALS)):
            milliseconds[name].append(turn(compiled[name], x, upstream))
    rows = {
        name: {
            "milliseconds": statistics.median(times),
            "ratio_to_gelu": statistics.median(
                a / b for a, b in zip(times, milliseconds["gelu"], strict=True)
            ),
        }
        for name, times in milliseconds.items()
    }
    lines = ["| activation | milliseconds | ratio to GELU |", "|---|---|---|"]
    lines += [
        f"| {name} | {row['milliseconds']:.2f} | {row['ratio_to_gelu']:.2f} |" for name, row in rows.items()
    ]
    facts = {
        "shape": list(SHAPE),
        "rounds": arguments.rounds,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "load_before": load_before,
    }
    heading = (
        "# Cost of the activations in PyTorch\n\nMade by `python benchmarks/activations_torch.py`: "
        + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items())
        + ". A load above the number of CPUs is a busy machine.\n\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "activations_torch.json").write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    (RESULTS / "activations_torch.md").write_text(heading + "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
