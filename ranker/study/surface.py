"""Loss surfaces over a two-dimensional input as the transition widens from ReLU to smooth, and their local minima.

A small random network maps two numbers to a prediction; the surface is its loss for a positive label, over the plane
of the two numbers. The more local minima, the more places for replicas to go apart.

Source: Shamir et al., "Smooth activations and reproducibility in deep networks", 2020 (arXiv 2010.09931), section 3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from ranker import activations
from ranker.backend import tf
from ranker.config import Experiment
from ranker.divergence import Statistic
from ranker.study import output
from ranker.study.options import Answer, Report, StudyOptions

BETAS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Half the width of SmeLU's transition; 0 is ReLU."""
_HIDDEN = (64, 64, 64)
_REACH = 4.0


def run(
    experiment: Experiment | None, run_dir: Path | None, out: Path, options: StudyOptions, report: Report
) -> Answer:
    """Counts local minima over random networks. Needs neither an experiment nor data."""
    out.mkdir(parents=True, exist_ok=True)
    networks, side = (4, 101) if options.quick else (20, 201)
    rows: list[dict[str, Any]] = []
    shown: dict[float, np.ndarray] = {}
    for beta in BETAS:
        report(f"surfaces of {networks} networks at beta {beta:g}")
        surfaces = [surface(beta, seed, side) for seed in range(networks)]
        counts = np.array([local_minima(values) for values in surfaces], np.float64)
        minima = Statistic.of(counts).interval()
        rows.append(
            {
                "beta": beta,
                "minima": minima.value,
                "minima_low": minima.low,
                "minima_high": minima.high,
            }
        )
        shown[beta] = surfaces[0]
    output.save_table(out, "surface", rows)
    output.save_picture(out, "surface", draw(shown, rows))
    output.save_picture(out, "minima", draw_counts(rows))
    mean = {row["beta"]: row["minima"] for row in rows}
    text = (
        f"A random network with ReLU has {mean[0.0]:.1f} local minima on the plane; with SmeLU "
        f"{mean[1.0]:.1f} at beta 1 and {mean[BETAS[-1]]:.1f} at beta {BETAS[-1]:g}."
    )
    sections = [
        output.PageSection("One network's loss, from ReLU to smooth", "", "surface"),
        output.PageSection(f"Local minima, mean over {networks} networks", "", "minima", rows),
    ]
    return Answer(text, output.save_page(out, "Loss surfaces", text, sections))


def surface(beta: float, seed: int, side: int) -> np.ndarray:
    """The loss over the plane, float32 [side, side], of one random network."""
    random = np.random.default_rng(seed)
    axis = np.linspace(-_REACH, _REACH, side, dtype=np.float32)
    x = tf.constant(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2))
    function = activations.get({"name": "smelu", "beta": beta})
    for width in _HIDDEN:
        kernel = random.normal(size=(x.shape[1], width)) * np.sqrt(2.0 / x.shape[1])
        bias = random.normal(size=width)
        x = function(tf.matmul(x, tf.constant(kernel, tf.float32)) + tf.constant(bias, tf.float32))
    last = random.normal(size=(x.shape[1], 1)) / np.sqrt(x.shape[1])
    logit = tf.matmul(x, tf.constant(last, tf.float32))[:, 0]
    return tf.reshape(tf.nn.softplus(-logit), [side, side]).numpy()


def local_minima(values: np.ndarray) -> int:
    """Inner points that lie below all eight neighbours."""
    inner = values[1:-1, 1:-1]
    below = np.ones(inner.shape, bool)
    height, width = values.shape
    for i in range(3):
        for j in range(3):
            if (i, j) != (1, 1):
                below &= inner < values[i : i + height - 2, j : j + width - 2]
    return int(below.sum())


def draw(shown: dict[float, np.ndarray], rows: list[dict[str, Any]]) -> mpl.figure.Figure:
    """The same network at every beta, seen from above."""
    with mpl.rc_context(output.STYLE | {"axes.grid": False}):
        drawn = output.figure(12, 3.6)
        for axes, (beta, values) in zip(drawn.subplots(1, len(shown)), shown.items(), strict=True):
            axes.contourf(values, levels=24, cmap="viridis")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_aspect("equal")
            axes.set_title("ReLU" if beta == 0 else f"beta {beta:g}", fontsize=9)
    return drawn


def draw_counts(rows: list[dict[str, Any]]) -> mpl.figure.Figure:
    """Local minima against beta, with 95% intervals over networks."""
    with mpl.rc_context(output.STYLE):
        drawn = output.figure(7, 4)
        axes = drawn.subplots()
        minima = np.array([r["minima"] for r in rows])
        errors = [minima - [r["minima_low"] for r in rows], [r["minima_high"] for r in rows] - minima]
        axes.errorbar(range(len(rows)), minima, yerr=errors, fmt="-o", color=output.COLOURS[0])
        axes.set_xticks(range(len(rows)), [f"{r['beta']:g}" for r in rows])
        axes.set_xlabel("beta (0 is ReLU)")
        axes.set_ylabel("local minima")
        axes.set_ylim(bottom=0)
    return drawn
