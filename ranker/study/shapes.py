"""Every activation and its slope, for several parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from ranker import activations
from ranker.backend import tf
from ranker.config import Experiment
from ranker.study import output
from ranker.study.options import Answer, Report, StudyOptions

PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "smelu": [{"beta": b} for b in (0.0, 0.5, 1.0, 2.0)],
    "gsmelu": [
        {"alpha": 1.0, "beta": 2.0},
        {"alpha": 1.0, "beta": 1.0, "slope_left": 0.1},
        {"alpha": 0.5, "beta": 2.0, "slope_left": -0.1, "level": -0.2},
    ],
    "rescu": [{"kernel": k} for k in ("box", "triangular", "cosine")],
    "swish": [{"beta": b} for b in (1.0, 2.0, 4.0)],
    "softplus": [{"beta": b} for b in (1.0, 2.0, 4.0)],
}
"""Activations with parameters worth showing; the others have none."""


def run(
    experiment: Experiment | None, run_dir: Path | None, out: Path, options: StudyOptions, report: Report
) -> Answer:
    """Draws all of them. Needs neither an experiment nor data."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [row for name in activations.names() for row in _values(name)]
    output.save_table(out, "shapes", rows)
    output.save_picture(out, "shapes", draw(rows))
    jumps = sorted({row["activation"] for row in rows if row["activation"] == row["curve"]})
    text = (
        f"{len(activations.names())} activations, {len({row['curve'] for row in rows})} curves: ReLU's slope jumps at 0; "
        "SmeLU's, gSmeLU's and RESCU's climb through a transition of chosen width and shape."
    )
    sections = [
        output.PageSection(
            "Values (solid) and slopes (dashed)", f"Without parameters: {', '.join(jumps)}.", "shapes"
        )
    ]
    return Answer(text, output.save_page(out, "The shapes of activations", text, sections))


def _values(name: str) -> list[dict[str, Any]]:
    x = np.linspace(-4, 4, 401, dtype=np.float32)
    rows = []
    for parameters in PARAMETERS.get(name, [{}]):
        point = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(point)
            y = activations.get({"name": name, **parameters})(point)
        slope = tape.gradient(y, point).numpy()
        values = ", ".join(f"{key} {value}" for key, value in parameters.items())
        curve = f"{name} {values}".strip()
        rows += [
            {"activation": name, "curve": curve, "x": float(a), "y": float(b), "slope": float(c)}
            for a, b, c in zip(x, y.numpy(), slope, strict=True)
        ]
    return rows


def draw(rows: list[dict[str, Any]]) -> mpl.figure.Figure:
    """A small picture an activation: curves solid, slopes dashed."""
    by_name: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for row in rows:
        points = by_name.setdefault(row["activation"], {}).setdefault(row["curve"], [])
        points.append((row["x"], row["y"], row["slope"]))
    count = len(by_name)
    with mpl.rc_context(output.STYLE):
        drawn = output.figure(11, 2.4 * -(-count // 4))
        grid = drawn.subplots(-(-count // 4), 4, sharex=True, sharey=True).ravel()
        for axes, (name, curves) in zip(grid, by_name.items(), strict=False):
            for i, (curve, values) in enumerate(curves.items()):
                x, y, slope = np.array(values).T
                axes.plot(x, y, color=output.COLOURS[i], label=curve.removeprefix(name).strip() or name)
                axes.plot(x, slope, "--", color=output.COLOURS[i], linewidth=0.9)
            axes.set_ylim(-1.2, 3)
            axes.set_title(name, fontsize=10)
            if len(curves) > 1:
                axes.legend(fontsize=6, loc="upper left")
        for axes in grid[count:]:
            axes.set_visible(False)
    return drawn
