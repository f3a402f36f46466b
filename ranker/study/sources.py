"""What each source of randomness contributes: initialisation, order, activation, depth and width.

Source: Snapp and Shamir, "Synthesizing irreproducibility in deep networks", 2021 (arXiv 2102.10696).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from ranker.config import Experiment
from ranker.study import output, rungs
from ranker.study.data import load
from ranker.study.measured import MeasuredRecipe
from ranker.study.options import Answer, Report, StudyOptions
from ranker.study.recipes import RELU, SMELU, Overrides, arms
from ranker.study.trainings import Trainings

LEVELS = {
    "order": ("L3", ["shuffle"]),
    "initialisation": ("L4", ["init"]),
    "both": ("L5", ["init", "shuffle"]),
}
"""Source to its level in the noise ladder, and what varies."""


def run(experiment: Experiment, run_dir: Path, out: Path, options: StudyOptions, report: Report) -> Answer:
    """Trains replicas that differ in one source or both, over windows, activations and tower shapes.

    Args:
        experiment: the recipe that the studied ones vary.
        run_dir: a prepared run.
        out: the output directory.
        options: how much to train.
        report: gets a line of progress now and then.
    """
    out.mkdir(parents=True, exist_ok=True)
    data = load(experiment, run_dir, options.rows)
    trainings = Trainings(options.cache_in(out), options.lanes, report)
    overrides = grid(options.quick)
    scores = trainings.scores(
        data,
        arms(experiment, {n: overrides_of_arm for n, (_, overrides_of_arm) in overrides.items()}),
        options.replicas,
    )
    rows = []
    for name, (place, _) in overrides.items():
        measured = MeasuredRecipe(data, np.ones(len(data.label), bool), scores[name].scores)
        pd, swap = measured.interval("rpd_sym"), measured.interval("top1_swap")
        rows.append(
            {
                **place,
                "level": LEVELS[place["source"]][0],
                "rpd_sym": pd.value,
                "rpd_sym_low": pd.low,
                "rpd_sym_high": pd.high,
                "top1_swap": swap.value,
                "top1_swap_low": swap.low,
                "top1_swap_high": swap.high,
                **measured.user_measures(),
                "auc": float(measured.aucs.mean()),
            }
        )
    output.save_table(out, "sources", rows)
    towers = list(dict.fromkeys(row["tower"] for row in rows))
    for tower in towers:
        output.save_picture(out, f"sources-{tower}", draw([r for r in rows if r["tower"] == tower]))
    machines = rungs.measure(experiment, run_dir, data, options.quick, report)
    output.save_table(out, "rungs", machines)
    text = f"{_say(rows)} {' '.join(rungs.verdicts(machines))}"
    sections = [
        output.PageSection(
            f"Relative prediction difference, tower {tower}",
            "Rows are shuffle windows (how far a row may move), columns what differs between two replicas.",
            f"sources-{tower}",
        )
        for tower in towers
    ]
    sections += [
        output.PageSection("Numbers", "Levels are those of the noise ladder.", "", rows),
        output.PageSection(
            "Between asked twice and retrained",
            "One pair a row, of equal seeds but in the last kind: another kind of machine, another precision, "
            "TensorFlow Lite.",
            "",
            machines,
        ),
    ]
    return Answer(text, output.save_page(out, "Where replicas' differences come from", text, sections))


def grid(quick: bool) -> dict[str, tuple[dict[str, Any], Overrides]]:
    """Name to (place in the grid, overrides)."""
    windows: list[int | str] = [256, "full"] if quick else [1, 16, 256, 4096, "full"]
    activations = {member.label: member.overrides for member in (RELU, SMELU)}
    towers = (
        {"128-64-32": [128, 64, 32]}
        if quick
        else {"32": [32], "128-64-32": [128, 64, 32], "256x4": [256] * 4}
    )
    recipes = {}
    for tower, hidden in towers.items():
        # Depth and width at the two ends of the order; windows in between for the usual tower.
        for window in windows if tower == "128-64-32" else [256, "full"]:
            for name, activation_overrides in activations.items():
                for source, (_, vary) in LEVELS.items():
                    if window == 1 and source == "order":
                        continue  # a window of 1 is the base order: nothing differs
                    place = {"tower": tower, "window": str(window), "activation": name, "source": source}
                    recipe = activation_overrides | {
                        "training.shuffle_window": window,
                        "replicas.vary": vary,
                        "model.hidden": hidden,
                    }
                    recipes["-".join(place.values())] = place, recipe
    return recipes


def draw(rows: list[dict[str, Any]]) -> mpl.figure.Figure:
    """A heat map: windows by (source, activation)."""
    windows = list(dict.fromkeys(row["window"] for row in rows))
    columns = [(s, a) for s in LEVELS for a in dict.fromkeys(row["activation"] for row in rows)]
    values = np.full((len(windows), len(columns)), np.nan)
    for row in rows:
        values[windows.index(row["window"]), columns.index((row["source"], row["activation"]))] = row[
            "rpd_sym"
        ]
    with mpl.rc_context(output.STYLE | {"axes.grid": False}):
        drawn = output.figure(8, 1.2 + 0.6 * len(windows))
        axes = drawn.subplots()
        image = axes.imshow(values, cmap="viridis", vmin=0, aspect="auto")
        axes.set_xticks(range(len(columns)), [f"{s}\n{a}" for s, a in columns])
        axes.set_yticks(range(len(windows)), windows)
        axes.set_ylabel("shuffle window")
        for (i, j), value in np.ndenumerate(values):
            bright = value > 0.6 * np.nanmax(values)
            text = "0" if np.isnan(value) else f"{value:.3f}"
            axes.text(j, i, text, ha="center", va="center", color="black" if bright else "white")
        image.cmap.set_bad("#3f4b57")
        drawn.colorbar(image, label="rpd_sym")
    return drawn


def _say(rows: list[dict[str, Any]]) -> str:
    def at(window: str, name: str, source: str) -> float:
        place = ("128-64-32", window, name, source)
        return next(
            r["rpd_sym"] for r in rows if (r["tower"], r["window"], r["activation"], r["source"]) == place
        )

    parts = []
    for source in LEVELS:
        near = at("256", "smelu-1", source) / at("256", "relu", source)
        far = at("full", "smelu-1", source) / at("full", "relu", source)
        parts.append(f"{source}: {near:.2f} at window 256 and {far:.2f} under a full shuffle")
    return f"SmeLU's relative prediction difference over ReLU's, by what differs between replicas: {'; '.join(parts)}."
