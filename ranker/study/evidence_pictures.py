"""The evidence's pictures: recipes on the plane of AUC and prediction difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from ranker.study import output

Rows = Sequence[Mapping[str, Any]]


def plane(points: Mapping[str, Rows], fronts: Mapping[str, Rows], useful: float) -> Figure:
    """Every recipe a dot, every activation's frontier a line with 95% intervals, from an AUC of `useful` on."""
    with mpl.rc_context(output.STYLE):
        drawn = output.figure(8, 4.8)
        axes = drawn.subplots()
        for (family, rows), colour in zip(points.items(), output.COLOURS, strict=False):
            seen = [r for r in rows if r["auc"] >= useful]
            axes.scatter(
                [r["auc"] for r in seen], [r["rpd_sym"] for r in seen], s=10, alpha=0.35, color=colour
            )
            front = [r for r in fronts[family] if r["auc"] >= useful]
            _points(axes, front, "auc", fmt="-o", color=colour, label=family)
        axes.set_xlabel("AUC (right is better)")
        _finish(axes)
    return drawn


def labelled(rows: Rows) -> Figure:
    """Every recipe a point with its number in the table, against its gain in AUC."""
    with mpl.rc_context(output.STYLE):
        drawn = output.figure(8, 4.8)
        axes = drawn.subplots()
        for i, row in enumerate(rows):
            family = next((c for n, c in _COLOUR.items() if n in row["recipe"]), output.COLOURS[7])
            _points(axes, [row], "auc_gain", fmt="o", color=family)
            axes.annotate(
                str(i + 1),
                (row["auc_gain"], row["rpd_sym"]),
                textcoords="offset points",
                xytext=(5, 4),
                fontsize=8,
                color=family,
            )
        axes.axvline(0.0, linewidth=0.8, color=output.INK)
        axes.set_xlabel("AUC against the first recipe (right is better)")
        _finish(axes)
    return drawn


_COLOUR = dict(zip(("relu", "smelu", "swish", "gelu"), output.COLOURS, strict=False))


def _points(axes: Any, rows: Rows, x: str, **style: Any) -> None:
    errors = [
        [max(0.0, r["rpd_sym"] - r["rpd_low"]) for r in rows],
        [max(0.0, r["rpd_high"] - r["rpd_sym"]) for r in rows],
    ]
    axes.errorbar(
        [r[x] for r in rows], [r["rpd_sym"] for r in rows], yerr=errors, markersize=4, elinewidth=0.8, **style
    )


def _finish(axes: Any) -> None:
    axes.set_ylabel("relative prediction difference (low is steady)")
    axes.set_ylim(bottom=0)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()
