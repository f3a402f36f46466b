"""Where the recipe helps and where not: logs whose properties are turned one by one, and logs with several turned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ranker.study import claims
from ranker.study.comparison import Row, comparison
from ranker.study.data import UNCHANGED, LogChange, StudyData, load
from ranker.study.evidence_pictures import labelled
from ranker.study.recipes import RELU, SMELU, Overrides

if TYPE_CHECKING:
    from ranker.study.evidence import Evidence

ROWS = 40_000
"""Training rows of the map's middle, at most."""
_FEWER, _MORE, _LONGER = 4, 2, 3
_EPOCHS = 4
"""Epochs of the map's middle."""
_PLAIN = str.maketrans({" ": "-", ",": "", "%": ""})
"""Arms have names without these."""


class MapCell(NamedTuple):
    """A log with one property, or several, turned away from the map's middle.

    Attributes:
        prop: the property.
        setting: its value, in words.
        rows: training rows.
        change: what is changed in the log.
        overrides: what is changed in the recipe.
    """

    prop: str
    setting: str
    rows: int
    change: LogChange = UNCHANGED
    overrides: Overrides = {}

    def recipe(self, activation: str) -> str:
        """The name of this cell's recipe of an activation."""
        return f"map-{activation}-{self.prop}-{self.setting}".translate(_PLAIN)


def cells(rows_of_log: int, hidden: Sequence[int], quick: bool) -> list[MapCell]:
    """The map: its middle, then what differs from it in one property, then in several.

    Args:
        rows_of_log: training rows there are.
        hidden: the configured widths.
        quick: the middle and one property alone.
    """
    rows = min(rows_of_log, ROWS)
    few, many = rows // _FEWER, min(rows_of_log, _MORE * rows)

    def epochs(count: int) -> Overrides:
        return {"training.epochs": count}

    middle = epochs(_EPOCHS)
    short, long = epochs(1), epochs(_LONGER * _EPOCHS)
    turned = [
        MapCell("middle", f"{rows:,} rows, {_EPOCHS} epochs", rows, overrides=middle),
        MapCell("rows", f"{few:,}", few, overrides=middle),
    ]
    if quick:
        return turned
    if many >= 2 * rows:
        turned.append(MapCell("rows", f"{many:,}", many, overrides=middle))
    turned += [
        MapCell("epochs", "1", rows, overrides=short),
        MapCell("epochs", f"{_LONGER * _EPOCHS}", rows, overrides=long),
        MapCell("hidden layers", "1", rows, overrides=middle | {"model.hidden": list(hidden[:1])}),
        MapCell("features", "ids only", rows, LogChange(columns="ids only"), middle),
        MapCell("features", "no ids", rows, LogChange(columns="no ids"), middle),
        MapCell("flipped labels", "10%", rows, LogChange(0.1), middle),
        MapCell("flipped labels", "30%", rows, LogChange(0.3), middle),
        MapCell("several", f"{few:,} rows, 1 epoch", few, overrides=short),
        MapCell("several", f"{few:,} rows, {_LONGER * _EPOCHS} epochs", few, overrides=long),
        MapCell("several", f"{few:,} rows, {_LONGER * _EPOCHS} epochs, ids only", few, LogChange(columns="ids only"), long),
        MapCell("several", f"{few:,} rows, {_LONGER * _EPOCHS} epochs, 30% flipped", few, LogChange(0.3), long),
    ]  # fmt: skip
    return turned


def map_claim(it: Evidence) -> dict[str, Any]:
    """What the recipe buys on logs whose properties are turned."""
    turned = cells(int(it.data.train.label.shape[0]), it.experiment.model.hidden, it.options.quick)
    cells_by_log: dict[tuple[int, LogChange], list[MapCell]] = {}
    for cell in turned:
        cells_by_log.setdefault((cell.rows, cell.change), []).append(cell)
    data_by_log = {log: load(it.experiment, it.run_dir, *log) for log in cells_by_log}
    recipes_by_log = [
        (
            data_by_log[log],
            {c.recipe(m.label): m.overrides | c.overrides for c in of_log for m in (RELU, SMELU)},
        )
        for log, of_log in cells_by_log.items()
    ]
    rows_by_cell: dict[str, Row] = {}
    for (log, of_log), scores in zip(cells_by_log.items(), it.scores_by_log(recipes_by_log), strict=True):
        data = data_by_log[log]
        measured = it.measure(data, scores)
        for cell in of_log:
            relu, smelu = (cell.recipe(m.label) for m in (RELU, SMELU))
            row = comparison(smelu, measured, relu)
            del row["recipe"]
            rows_by_cell[cell.recipe(SMELU.label)] = {
                "property": cell.prop,
                "setting": cell.setting,
                "rows an id": rows_an_id(data),
                "relu_auc": float(measured[relu].aucs.mean()),
                "relu_rpd_sym": measured[relu].value("rpd_sym"),
                "relu_top1_swap": measured[relu].value("top1_swap"),
                **row,
            }
    rows = [rows_by_cell[cell.recipe(SMELU.label)] for cell in turned]
    it.save("map", rows)
    about = (
        f"Each row is {SMELU.label} against ReLU, both behind a LayerNorm with averaged weights, on a log with one property "
        f"turned away from the map's middle ({rows[0]['setting']}, the configured hidden layers, all features, labels as "
        f"they are); `several` turns more than one. `relu_auc`, `relu_rpd_sym` and `relu_top1_swap` are ReLU's, the other "
        f"measures {SMELU.label}'s. Fewer rows are the first of the base order, `rows an id` counts them for each value of "
        "the feature with the most values. `ids only` keeps the features of more than 100 values, `no ids` the others; "
        "labels are flipped in training alone."
    )
    pictured = [{**row, "recipe": SMELU.label} for row in rows]
    claim = it.claim("map", verdicts(rows), rows, labelled(pictured), about)
    return claim | {"train_rows": max(cell.rows for cell in turned)}


def verdicts(rows: Sequence[Row]) -> list[str]:
    """What the map says: how often the recipe helps, the effect of each property, and where it buys most and least."""
    steadier = sum(row["ratio_high"] < 1 for row in rows)
    shakier = sum(row["ratio_low"] > 1 for row in rows)
    costly = sum(row["auc_gain_high"] < 0 for row in rows)
    better = sum(row["auc_gain_low"] > 0 for row in rows)
    sentences = [
        f"On {steadier} of {len(rows)} logs {SMELU.label} is steadier than ReLU with its whole interval, on {shakier} less "
        f"steady, on {len(rows) - steadier - shakier} neither is shown. Its AUC is lower with its whole interval on "
        f"{costly}, higher on {better}."
    ]
    middle = rows[0]
    sentences.append(
        "What it buys, as its relative PD over ReLU's and the change of AUC, in the middle of the map "
        f"({middle['setting']}): {_ratio_and_gain(middle)}; with one property turned:"
    )
    for prop in dict.fromkeys(row["property"] for row in rows[1:]):
        turned = [row for row in rows[1:] if row["property"] == prop]
        parts = [f"{row['setting']}: {_ratio_and_gain(row)} ({_effect(row, middle)})" for row in turned]
        sentences.append(f"{prop[0].upper()}{prop[1:]}: {'; '.join(parts)}.")
    level = [row for row in rows if not _has_learnt_less(row)]
    most, least = (extreme(level, key=lambda row: row["rpd_ratio"]) for extreme in (min, max))
    sentences.append(
        f"Where it has learnt as much as ReLU, it buys most with {_name(most)} and least with {_name(least)}; there ReLU's "
        f"own relative PD is {most['relu_rpd_sym']:.3f} and {least['relu_rpd_sym']:.3f}."
    )
    return sentences


def _name(row: Row) -> str:
    return (
        row["setting"] if row["property"] in ("middle", "several") else f"{row['property']} {row['setting']}"
    )


def _effect(row: Row, middle: Row) -> str:
    """Whether the whole interval lies beyond the middle's: the recipe buys more there, or less."""
    if _has_learnt_less(row):
        return "has learnt less"
    if row["ratio_high"] < middle["ratio_low"]:
        return "buys more"
    return "buys less" if row["ratio_low"] > middle["ratio_high"] else "no difference shown"


def _has_learnt_less(row: Row) -> bool:
    """Whether the AUC is lower by so much that steadiness means nothing: a model that has learnt nothing is steady."""
    return bool(row["auc_gain_high"] < -claims.USEFUL)


def _ratio_and_gain(row: Row) -> str:
    return (
        f"{row['rpd_ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}], AUC "
        f"{row['auc_gain']:+.4f} [{row['auc_gain_low']:+.4f}, {row['auc_gain_high']:+.4f}]"
    )


def rows_an_id(data: StudyData) -> float:
    """Training rows for each value of the feature with the most values; NaN where that feature does not stay."""
    if data.source.change.columns == "no ids":
        return float("nan")
    column = int(np.argmax([c.size for c in data.inputs.embedded]))
    start = sum(c.width for c in data.inputs.embedded[:column])
    ids = data.train.ids.numpy()[:, start]
    return len(ids) / len(np.unique(ids))
