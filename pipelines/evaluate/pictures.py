"""The report's pictures as SVG that stands inside the page and takes its colours: readable in light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ranker import wording

_INK = "#010203"
"""Stands for the page's text colour; no picture uses it for anything else."""
COLOURS = ("#2f7ed8", "#e0731d", "#2aa46b", "#a35fd0", "#d6435b", "#8a8f1f")
"""One an arm; each has a contrast of 3 or more on white and on near-black."""
_MARKERS = "osD^vP"
_STYLE = {
    "svg.fonttype": "none",  # text stays text, in the page's own font
    "svg.hashsalt": "steady-ranker",  # the same input gives the same bytes
    "font.size": 10.0,
    "font.family": "sans-serif",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,  # a name may have dollar signs
}


def draw(report: Mapping[str, Any]) -> dict[str, str]:
    """The pictures that this report has data for.

    Args:
        report: as `report.json`.

    Returns:
        Name -> SVG: `disagreement`, `gap`, `plane`, `training`.
    """
    pictures = {}
    if any(_epochs(summary) > 1 for summary in report["arms"].values()):
        pictures["training"] = _svg(lambda figure: _training(figure.subplots(), report["arms"]), 7.2, 3.4)
    arms = {arm: summary for arm, summary in report["arms"].items() if summary["pairs"]}
    if not arms:
        return pictures
    pictures |= {
        "disagreement": _svg(lambda figure: _disagreement(figure, arms), 7.2, 0.62 * len(arms) + 1.1)
    }
    if any(summary["swap_by_gap"] for summary in arms.values()):
        pictures["gap"] = _svg(lambda figure: _gap(figure.subplots(), arms), 7.2, 3.4)
    if all(
        replica["quality"]["auc"] is not None for summary in arms.values() for replica in summary["replicas"]
    ):
        pictures["plane"] = _svg(lambda figure: _plane(figure.subplots(), report, arms), 7.2, 3.4)
    return pictures


def _epochs(summary: Mapping[str, Any]) -> int:
    """How many epochs there is a loss of, in an arm's training or its pilot."""
    training = summary["training"]
    return max(len(training["loss"]), len((training["pilot"] or {"validation": ()})["validation"]))


def _training(axes: Axes, arms: Mapping[str, Any]) -> None:
    """The loss of each arm after each epoch, and of the pilot that chose their number."""
    for position, (arm, summary) in enumerate(arms.items()):
        loss = summary["training"]["loss"]
        axes.plot(
            range(1, len(loss) + 1),
            loss,
            color=colour(position),
            marker=_MARKERS[position % len(_MARKERS)],
            ms=4,
            lw=1.4,
            label=f"{arm}, training rows",
        )
    pilot = next((s["training"]["pilot"] for s in arms.values() if s["training"]["pilot"]), None)
    if pilot is not None:
        for name, style in (("training", ":"), ("validation", "-")):
            label = "training rows" if name == "training" else f"{pilot['rows']:,} held-out rows"
            epochs = range(1, len(pilot[name]) + 1)
            axes.plot(epochs, pilot[name], color=_INK, lw=1.2, ls=style, label=f"pilot, {label}")
        axes.axvline(pilot["epochs"], color=_INK, lw=1, ls="--", alpha=0.6)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss, mean over an arm's replicas")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(0.05)
    axes.legend()


def colour(position: int) -> str:
    """The colour of the arm at a position."""
    return COLOURS[position % len(COLOURS)]


def _disagreement(figure: Figure, arms: Mapping[str, Any]) -> None:
    """How much each arm's replicas differ, with intervals and the range over pairs."""
    sides = figure.subplots(1, 2, sharey=True)
    for axes, measure in zip(sides, ("top1_swap", "rpd_sym"), strict=True):
        for row, (_, summary) in enumerate(arms.items()):
            at = summary["divergence"][measure]
            if at["value"] is None:
                continue
            if at["min"] is not None:
                axes.plot(
                    [at["min"], at["max"]],
                    [row, row],
                    color=colour(row),
                    lw=9,
                    alpha=0.25,
                    solid_capstyle="butt",
                )
            _error_bars(axes, [at["value"]], [row], [at], row, horizontal=True)
        axes.set_title(wording.title(measure), fontsize=10)
        axes.set_xlim(left=0)
        axes.margins(x=0.08)
        axes.xaxis.set_major_formatter(FuncFormatter(_percent))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_yticks(range(len(arms)), list(arms))
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)


def _gap(axes: Axes, arms: Mapping[str, Any]) -> None:
    """Swaps of the first item by how close the race was."""
    edges = _edges(arms)
    for position, (arm, summary) in enumerate(arms.items()):
        bins = [b for b in summary["swap_by_gap"] if b["value"] is not None]
        # The arms stand side by side within a bin, not on top of each other.
        shift = (position - (len(arms) - 1) / 2) * 0.12
        x = [edges.index((b["from"], b["to"])) + shift for b in bins]
        axes.plot(x, [b["value"] for b in bins], color=colour(position), lw=1, alpha=0.6)
        _error_bars(axes, x, [b["value"] for b in bins], bins, position, label=arm)
    axes.set_xticks(range(len(edges)), [_bin_name(low, high) for low, high in edges], fontsize=8)
    axes.set_xlabel("how far the second item is behind the first, in log-odds of the replicas' mean score")
    axes.set_ylabel(wording.title("top1_swap"))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    axes.legend()


def _plane(axes: Axes, report: Mapping[str, Any], arms: Mapping[str, Any]) -> None:
    """Each replica's quality against its distance to its siblings."""
    for position, (arm, summary) in enumerate(arms.items()):
        points = [
            (r["divergence"]["rpd_sym"], r["quality"]["auc"]) for r in summary["replicas"] if r["divergence"]
        ]
        _error_bars(
            axes,
            [i["value"] for i, _ in points],
            [auc for _, auc in points],
            [i for i, _ in points],
            position,
            horizontal=True,
            label=arm,
        )
    baseline = report["baseline"].get("auc")
    if baseline is not None:
        axes.axhline(baseline, color=_INK, lw=1, ls="--", alpha=0.6, label="logistic regression")
    axes.set_xlabel(f"{wording.title('rpd_sym')} to the other replicas of the arm (left is steadier)")
    axes.set_ylabel("AUC (up is better)")
    axes.margins(0.08)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(_percent))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.legend()


def _error_bars(
    axes: Axes,
    x: list[float],
    y: list[float],
    intervals: list[Mapping[str, Any]],
    arm: int,
    *,
    horizontal: bool = False,
    label: str | None = None,
) -> None:
    # An unknown end (one request alone) has no bar. Half a bar is never negative but for rounding.
    below = [max(i["value"] - (i["value"] if i["low"] is None else i["low"]), 0.0) for i in intervals]
    above = [max((i["value"] if i["high"] is None else i["high"]) - i["value"], 0.0) for i in intervals]
    bars = [below, above]
    axes.errorbar(
        x,
        y,
        xerr=bars if horizontal else None,
        yerr=None if horizontal else bars,
        fmt=_MARKERS[arm % len(_MARKERS)],
        color=colour(arm),
        ms=5.5,
        lw=1.6,
        capsize=3,
        label=label,
    )


def _edges(arms: Mapping[str, Any]) -> list[tuple[float, float | None]]:
    edges = {(b["from"], b["to"]) for arm in arms.values() for b in arm["swap_by_gap"]}
    return sorted(edges, key=lambda edge: edge[0])


def _bin_name(low: float, high: float | None) -> str:
    return f"{low:g}+" if high is None else f"{low:g} to {high:g}"


def _percent(value: float, _: Any = None) -> str:
    return f"{100 * value:.4g}%"


def _svg(fill: Callable[[Figure], None], width: float, height: float) -> str:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        fill(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    # Neither an XML head nor metadata nor fixed sizes belong inside a page.
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    head, rest = text.split(">", 1)
    head = head.replace(f'width="{width * 72:g}pt" height="{height * 72:g}pt"', 'width="100%"')
    return f"{head}>{rest}"
