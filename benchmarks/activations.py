"""What an activation costs: forward, and forward with backward, with XLA and without.

    python benchmarks/activations.py

4096 x 1024 float32. Rivals take turns in every round, in an order drawn anew for each. A turn is one
call to bring the memory allocator to the rival's state and three that are timed, of which the quickest
counts (the others met a neighbour). A figure is the median over rounds; a ratio is the median of each
round's ratio to ReLU's turn. Three programs are timed, each with XLA and without:

    forward     the value
    training    value and gradient, both handed out, the upstream gradient given: a hidden layer's share
    gradient    the gradient alone, of a sum: TensorFlow drops what of the value is not needed

`stock` rows are TensorFlow's own functions; `fused` rows compile the activation and nothing around it.
"""

import argparse
import gc
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from ranker.activations import fused, get
from ranker.backend import tf

RESULTS = Path(__file__).parent / "results"
SHAPE = (4096, 1024)
PROGRAMS = ("forward", "training", "gradient")


def rivals() -> dict[str, Callable[[tf.Tensor], tf.Tensor]]:
    smelu = get({"name": "smelu", "beta": 1.0})
    return {
        "relu": tf.nn.relu,
        "smelu 1": smelu,
        "smelu 1 centred": get({"name": "smelu", "beta": 1.0, "centred": True}),
        "smelu 0.5": get({"name": "smelu", "beta": 0.5}),
        "smelu 1, fused": fused(smelu),
        "swish": get("swish"),
        "swish, stock": tf.nn.silu,
        "gelu": get("gelu"),
        "gelu, stock": lambda x: tf.nn.gelu(x, approximate=False),
        "softplus": get("softplus"),
        "softplus, stock": tf.nn.softplus,
    }


def programs(function: Callable[[tf.Tensor], tf.Tensor], xla: bool) -> dict[str, Callable[..., object]]:
    def training(x: tf.Tensor, upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return y, tape.gradient(y, x, upstream)

    def gradient(x: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(function(x))
        return tape.gradient(total, x)

    table = {"forward": lambda x, upstream: function(x), "training": training, "gradient": gradient}
    return {name: tf.function(body, jit_compile=xla, autograph=False) for name, body in table.items()}


Report = dict[str, dict[str, dict[str, dict[str, float]]]]


def measure(rounds: int, seed: int) -> Report:
    """Mode -> program -> rival -> milliseconds and ratio to ReLU."""
    tf.get_logger().setLevel("ERROR")  # it takes the rivals for one function that is traced again and again
    x = tf.random.stateless_normal(SHAPE, [seed, 1])
    upstream = tf.random.stateless_normal(SHAPE, [seed, 2])
    order = random.Random(seed)
    report: Report = {}
    for mode, xla in (("without XLA", False), ("with XLA", True)):
        ready = {
            name: programs(function, xla)
            for name, function in rivals().items()
            if not (xla and name.endswith("fused"))  # it would be compiled twice over
        }
        times: dict[tuple[str, str], list[float]] = {(p, name): [] for p in PROGRAMS for name in ready}
        gc.disable()
        for _ in range(rounds):
            for program in PROGRAMS:
                for name in order.sample(list(ready), len(ready)):
                    times[program, name].append(turn(lambda: ready[name][program](x, upstream)))  # noqa: B023
        gc.enable()
        report[mode] = {
            program: {name: summary(times[program, name], times[program, "relu"]) for name in ready}
            for program in PROGRAMS
        }
        for program, by_rival in report[mode].items():
            by_rival["smelu 1 centred"]["ratio_to_smelu"] = paired(
                times[program, "smelu 1 centred"], times[program, "smelu 1"]
            )
    return report


def turn(call: Callable[[], object]) -> float:
    """Milliseconds of the quickest of three calls, after one that is not counted."""
    call()
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        spent.append(1000 * (time.perf_counter() - start))
    return min(spent)


def summary(times: list[float], relu: list[float]) -> dict[str, float]:
    return {"milliseconds": statistics.median(times), "ratio": paired(times, relu)}


def paired(times: list[float], base: list[float]) -> float:
    """The median over rounds of a turn's ratio to the base's turn in that round."""
    return statistics.median(a / b for a, b in zip(times, base, strict=True))


def table(report: Report) -> str:
    lines = []
    for mode, by_program in report.items():
        lines += [
            f"**{mode}**: milliseconds (ratio to ReLU)",
            "",
            "| activation | " + " | ".join(PROGRAMS) + " |",
            "|---|" + "---|" * len(PROGRAMS),
        ]
        for name in by_program["forward"]:
            figures = [by_program[program][name] for program in PROGRAMS]
            cells = [f"{figure['milliseconds']:.2f} ({figure['ratio']:.2f})" for figure in figures]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        centred = [f"{p} {by_program[p]['smelu 1 centred']['ratio_to_smelu']:.3f}" for p in PROGRAMS]
        lines += ["", f"Centred SmeLU 1 over SmeLU 1: {', '.join(centred)}.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the activations side by side.")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    load_before = round(os.getloadavg()[0], 1)
    report = measure(arguments.rounds, arguments.seed)
    facts = {
        "shape": list(SHAPE),
        "dtype": "float32",
        "rounds": arguments.rounds,
        "tensorflow": tf.__version__,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "load_before": load_before,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "activations.json").write_text(json.dumps({**facts, "modes": report}, indent=1) + "\n")
    heading = (
        "# Cost of the activations\n\nMade by `python benchmarks/activations.py`: "
        + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items())
        + ". A load above the number of CPUs is a busy machine.\n\n"
    )
    (RESULTS / "activations.md").write_text(heading + table(report))
    print(table(report))


if __name__ == "__main__":
    main()
