"""What a refresh changes: trained anew, started from what serves, or pulled to it.

A refresh on more rows replaces replicas that serve. Users notice how far each refreshed replica is from the one it replaces;
the gate asks whether that is more than what the serving replicas differ among themselves. Here the serving replicas have
learnt four fifths of the training rows, the refreshed ones all of them, each as the recipe says.

Source: the measure is the churn of Milani Fard et al., "Launch and Iterate: Reducing Prediction Churn", 2016; the anchor is
their "regression to corrected prediction" on one frozen model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from ranker.architecture import Architecture, Weights, design
from ranker.config import Experiment, Training
from ranker.divergence import Interval
from ranker.errors import UserError
from ranker.mitigation.teachers import mixed
from ranker.seeds import Seeds, derive
from ranker.study import output
from ranker.study.data import StudyData, load
from ranker.study.measured import MeasuredRecipe, auc_difference, ratio
from ranker.study.options import Answer, Report, StudyOptions
from ranker.training.predict import predict
from ranker.training.rows.examples import Examples
from ranker.training.step.program import Program
from ranker.training.step.stacking import Member, stack
from ranker.training.trainer import train

SERVING_SHARE = 0.8
"""Of the training rows, that the serving replicas have learnt."""
MARGIN = 1.1
"""What the gate allows by default: a tenth more than the serving replicas differ among themselves."""
_ANCHOR_WEIGHT = 0.5
RECIPES = {
    "anew": "the same configuration and seeds, all rows",
    "warm start": "the weights of the replica it replaces, then all rows as often",
    "warm start, one epoch": "the weights of the replica it replaces, then all rows once",
    "warm start, new rows": "the weights of the replica it replaces, then the new rows once",
    "anchor": "as anew, half of each label the prediction of serving replica 0",
    "warm start and anchor": "as the warm start of one epoch, half of each label the prediction of the replica it replaces",
}
"""Recipe to what it does."""


def run(experiment: Experiment, run_dir: Path, out: Path, options: StudyOptions, report: Report) -> Answer:
    """Trains serving replicas and their refreshes by each recipe, and compares each refresh with what it replaces.

    Args:
        experiment: the recipe of the serving replicas; with `replicas.vary`.
        run_dir: a prepared run.
        out: the output directory.
        options: how much to train; with `quick` the recipes `anew` and `warm start` alone.
        report: gets a line of progress now and then.

    Raises:
        UserError: the experiment has a mitigation, or its label is no class.
    """
    if (
        experiment.mitigation is not None
        or experiment.task == "regression"
        or experiment.training.compares_rows
    ):
        raise UserError(
            "study refresh: needs a pointwise loss on a label of two classes and no mitigation. Received:"
            f" {experiment.training.loss}, task {experiment.task}, mitigation"
            f" {experiment.mitigation and experiment.mitigation.name}"
        )
    out.mkdir(parents=True, exist_ok=True)
    data = load(experiment, run_dir, options.rows)
    refresh = _Refresh(experiment, data, options)
    report("training the replicas that serve")
    serving = refresh.train(refresh.earlier, refresh.seeds, [None] * options.replicas)
    before = refresh.measured(serving)
    rows: list[dict[str, Any]] = []
    for name in list(RECIPES)[:2] if options.quick else RECIPES:
        report(f"training the refresh: {name}")
        after = refresh.measured(refresh.by(name, serving))
        rows.append({"recipe": name, **_of_replicas(after), **_churn(before, after)})
    rows.insert(0, {key: float("nan") for key in rows[0]} | _nothing_changed(before))
    output.save_table(out, "refresh", rows)
    output.save_picture(out, "refresh", draw(rows[1:]))
    text = _answer(rows[1:])
    sections = [
        output.PageSection(
            "Churn against accuracy",
            "Relative prediction difference between a refreshed replica and the one it replaces, over that among the serving"
            f" replicas, with 95% intervals over replicas and requests. The line is the gate's bar, {MARGIN:g}.",
            "refresh",
        ),
        output.PageSection(
            "Numbers",
            f"The serving replicas have learnt {SERVING_SHARE:.0%} of the rows. "
            + _recipes_in_words(rows[1:]),
            "",
            rows,
        ),
    ]
    return Answer(text, output.save_page(out, "What a refresh changes", text, sections))


class _Refresh:
    """Trains replicas on parts of a run's rows."""

    def __init__(self, experiment: Experiment, data: StudyData, options: StudyOptions):
        self._experiment, self._data, self._options = experiment, data, options
        self._architecture: Architecture = design(data.inputs, experiment.model)
        self._compiled: dict[str, Program] = {}
        rows = int(data.train.label.shape[0])
        split = int(SERVING_SHARE * rows)
        self.earlier, self.new = _slice(data.train, 0, split), _slice(data.train, split, rows)
        replicas = experiment.replicas
        self.seeds = [derive(replicas.seed, k, replicas.vary) for k in range(options.replicas)]

    def by(self, recipe: str, serving: Sequence[Weights]) -> list[Weights]:
        """The refreshed replicas by a recipe."""
        rows = self._data.train
        match recipe:
            case "warm start":
                return self.train(rows, self.seeds, serving)
            case "warm start, one epoch":
                return self.train(rows, self.seeds, serving, epochs=1)
            case "warm start, new rows":
                return self.train(self.new, self.seeds, serving, epochs=1)
            case "warm start and anchor":
                return [
                    self.train(self._pulled(weights), [seed], [weights], epochs=1)[0]
                    for seed, weights in zip(self.seeds, serving, strict=True)
                ]
        rows = self._pulled(serving[0]) if recipe == "anchor" else rows
        return self.train(rows, self.seeds, [None] * len(serving))

    def train(
        self,
        rows: Examples,
        seeds: Sequence[Seeds],
        starts: Sequence[Weights | None],
        epochs: int | None = None,
    ) -> list[Weights]:
        """Trains a replica a seed on the same rows; `epochs` is the experiment's where it is None."""
        training = self._training(int(rows.label.shape[0]), epochs)
        members = [
            Member(self._architecture, training, seed, weights=start)
            for seed, start in zip(seeds, starts, strict=True)
        ]
        programs = stack(members, self._options.lanes, self._compiled)
        return train(programs, rows, training, list(seeds)).weights

    def measured(self, weights: Sequence[Weights]) -> MeasuredRecipe:
        """The replicas' predictions of the held-out rows."""
        scores = np.stack([predict(self._architecture, replica, self._data.eval) for replica in weights])
        return MeasuredRecipe(self._data, np.ones(len(self._data.label), bool), scores)

    def _pulled(self, weights: Weights) -> Examples:
        return mixed(self._data.train, predict(self._architecture, weights, self._data.train), _ANCHOR_WEIGHT)

    def _training(self, rows: int, epochs: int | None) -> Training:
        training = self._experiment.training
        window = training.shuffle_window
        fitting = window if window == "full" else min(window, rows)
        update = {"shuffle_window": fitting, "distribution": "none", "warm_start": None}
        return training.model_copy(update=update | ({} if epochs is None else {"epochs": epochs}))


def _slice(rows: Examples, start: int, stop: int) -> Examples:
    return Examples(
        ids=rows.ids[start:stop],
        dense=rows.dense[start:stop],
        label=rows.label[start:stop],
        weight=rows.weight[start:stop],
    )


def _of_replicas(measured: MeasuredRecipe) -> dict[str, float]:
    return {
        "auc": float(measured.aucs.mean()),
        "rpd_sym among replicas": measured.value("rpd_sym"),
        "top1_swap among replicas": measured.value("top1_swap"),
    }


def _nothing_changed(before: MeasuredRecipe) -> dict[str, Any]:
    return {"recipe": "(what serves)", **_of_replicas(before), "gate": ""}


def _churn(before: MeasuredRecipe, after: MeasuredRecipe) -> dict[str, float | str]:
    """How far each refreshed replica is from the one it replaces, the mean over replicas."""
    pairs = [
        MeasuredRecipe(before.data, before.rows, np.stack(pair))
        for pair in zip(before.scores, after.scores, strict=True)
    ]
    gain = auc_difference(after, before)
    of_serving = _mean_ratio([ratio(pair, before, "rpd_sym") for pair in pairs])
    return {
        "rpd_sym to what it replaces": float(np.mean([pair.value("rpd_sym") for pair in pairs])),
        "top1_swap to what it replaces": float(np.mean([pair.value("top1_swap") for pair in pairs])),
        "set_churn@10 to what it replaces": float(np.mean([pair.value("set_churn@10") for pair in pairs])),
        "ratio": of_serving.value,
        "ratio_low": of_serving.low,
        "ratio_high": of_serving.high,
        "auc_gain": gain.value,
        "auc_gain_low": gain.low,
        "auc_gain_high": gain.high,
        "gate": _gate(of_serving),
    }


def _mean_ratio(ratios: Sequence[Interval]) -> Interval:
    """The mean over replicas, with the mean of their bounds: they share the serving replicas' difference."""
    return Interval(
        *(float(np.mean([getattr(r, part) for r in ratios])) for part in ("value", "low", "high"))
    )


def _gate(of_serving: Interval) -> str:
    """What the gate's churn check would say of this difference."""
    if of_serving.high <= MARGIN:
        return "passes"
    return "fails" if of_serving.low > MARGIN else "undecided"


def draw(rows: list[dict[str, Any]]) -> mpl.figure.Figure:
    """AUC gained against the ratio to the serving replicas' difference, a point a recipe."""
    with mpl.rc_context(output.STYLE):
        drawn = output.figure(8, 4.4)
        axes = drawn.subplots()
        for i, row in enumerate(rows):
            error = [[row["ratio"] - row["ratio_low"]], [row["ratio_high"] - row["ratio"]]]
            axes.errorbar(
                [row["ratio"]],
                [row["auc_gain"]],
                xerr=np.maximum(error, 0),
                fmt="o",
                color=output.COLOURS[i % len(output.COLOURS)],
                label=row["recipe"],
            )
        axes.axvline(MARGIN, color="black", lw=1, ls="--", alpha=0.6)
        axes.set_xlabel("relative prediction difference to what it replaces, over that among what serves")
        axes.set_ylabel("AUC gained")
        axes.legend()
    return drawn


def _answer(rows: list[dict[str, Any]]) -> str:
    anew = rows[0]
    least = min(rows, key=lambda row: row["ratio"])
    text = (
        f"A refresh that is trained anew differs from what it replaces {anew['ratio']:.2f}"
        f" [{anew['ratio_low']:.2f}, {anew['ratio_high']:.2f}] times as much as the serving replicas differ among themselves"
        f" (the gate {_WORDS[anew['gate']]}), at an AUC gain of {anew['auc_gain']:+.4f}."
    )
    if least is anew:
        return f"{text} No recipe changes less."
    return (
        f"{text} Least changes with '{least['recipe']}': {least['ratio']:.2f}"
        f" [{least['ratio_low']:.2f}, {least['ratio_high']:.2f}] times (the gate {_WORDS[least['gate']]}), at"
        f" {least['auc_gain']:+.4f}."
    )


_WORDS = {
    "passes": "would pass it",
    "fails": "would stop it",
    "undecided": "could not decide on so few requests",
}


def _recipes_in_words(rows: list[dict[str, Any]]) -> str:
    return " ".join(f"'{row['recipe']}': {RECIPES[row['recipe']]}." for row in rows)
