"""Which requests and items swap, and whether swaps are near ties."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from ranker import divergence
from ranker.config import Experiment
from ranker.divergence import NearTies, RequestBatch
from ranker.study import output
from ranker.study.data import load
from ranker.study.options import Answer, Report, StudyOptions
from ranker.study.recipes import arms
from ranker.study.trainings import Trainings

_SHOWN = 20


def run(experiment: Experiment, run_dir: Path, out: Path, options: StudyOptions, report: Report) -> Answer:
    """Trains the experiment's arms and looks at their swaps one by one.

    Args:
        experiment: its arms are what is looked at.
        run_dir: a prepared run.
        out: the output directory.
        options: how much to train; at least three replicas, so that their noise can be told apart.
        report: gets a line of progress now and then.
    """
    out.mkdir(parents=True, exist_ok=True)
    data = load(experiment, run_dir, options.rows)
    trainings = Trainings(options.cache_in(out), options.lanes, report)
    replicas = max(3, options.replicas)
    scores = trainings.scores(data, arms(experiment, experiment.arms), replicas)
    gaps: list[dict[str, Any]] = []
    requests: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = []
    for arm, arm_scores in scores.items():
        batch = RequestBatch.from_rows(data.request, data.item, arm_scores.scores)
        gaps += [{"arm": arm, **row} for row in by_gap(batch)]
        requests += [{"arm": arm, **row} for row in _requests(batch)]
        items += [{"arm": arm, **row} for row in _items(batch)]
    for name, rows in (("gaps", gaps), ("requests", requests), ("items", items)):
        output.save_table(out, f"swaps-{name}", rows)
    output.save_picture(out, "swaps", draw(gaps))
    text = _say(gaps, list(scores))
    sections = [
        output.PageSection(
            "Inverted item pairs by the gap of their log-odds",
            "Points are observed with 95% intervals over requests; lines are what independent noise of the "
            "replicas' size predicts.",
            "swaps",
        ),
        output.PageSection("Requests that swap most", "", "", _top(requests, "pair_inversion")),
        output.PageSection(
            "Items that swap most",
            "Share of an item's pairs that two replicas order differently.",
            "",
            _top([r for r in items if r["pairs"] >= 100], "inverted"),
        ),
    ]
    return Answer(text, output.save_page(out, "Which lists change, and where", text, sections))


def by_gap(batch: RequestBatch) -> list[dict[str, Any]]:
    """Observed and predicted inversions by gap, the mean over pairs of replicas."""
    names = batch.replicas
    components = divergence.compare(batch).replicas
    noise = {name: max(components[name]["component"].value, 1e-12) for name in names}
    ties_of_pairs = [
        divergence.near_ties(batch, a, b, math.sqrt((noise[a] + noise[b]) / 2))
        for a, b in combinations(names, 2)
    ]
    rows = []
    for i, (low, high) in enumerate(
        zip(ties_of_pairs[0].edges[:-1], ties_of_pairs[0].edges[1:], strict=True)
    ):
        if any(ties.observed[i].n == 0 for ties in ties_of_pairs):
            continue
        intervals = [ties.observed[i].interval() for ties in ties_of_pairs]
        rows.append(
            {
                "gap_low": low,
                "gap_high": None if math.isinf(high) else high,
                "observed": _mean(x.value for x in intervals),
                "observed_low": _mean(x.low for x in intervals),
                "observed_high": _mean(x.high for x in intervals),
                "predicted": _mean(ties.predicted[i] for ties in ties_of_pairs),
                "pairs_share": _share(ties_of_pairs, i),
            }
        )
    return rows


def draw(rows: list[dict[str, Any]]) -> mpl.figure.Figure:
    """Observed inversions against the prediction, by gap, one colour an arm."""
    with mpl.rc_context(output.STYLE):
        drawn = output.figure(8, 4.8)
        axes = drawn.subplots()
        for i, arm in enumerate(dict.fromkeys(row["arm"] for row in rows)):
            arm_rows = [row for row in rows if row["arm"] == arm]
            x = [row["gap_low"] for row in arm_rows]
            y = np.array([row["observed"] for row in arm_rows])
            errors = [y - [r["observed_low"] for r in arm_rows], [r["observed_high"] for r in arm_rows] - y]
            axes.errorbar(
                x, y, yerr=np.maximum(errors, 0), fmt="o", color=output.COLOURS[i], label=f"{arm}, observed"
            )
            axes.plot(
                x, [r["predicted"] for r in arm_rows], "-", color=output.COLOURS[i], label=f"{arm}, predicted"
            )
        axes.set_xlabel("gap of the two items' log-odds (lower edge of the bin)")
        axes.set_ylabel("share of item pairs inverted")
        axes.set_ylim(bottom=0)
        axes.legend()
    return drawn


def _requests(batch: RequestBatch) -> list[dict[str, Any]]:
    measured = divergence.measure_requests(batch)
    values = {name: measured.request_mean(name) for name in ("pair_inversion", "top1_swap", "rpd_sym")}
    return [
        {"request": int(request), "candidates": int(size), **{n: float(v[i]) for n, v in values.items()}}
        for i, (request, size) in enumerate(zip(batch.requests, batch.sizes, strict=True))
        if size >= 2
    ]


def _items(batch: RequestBatch) -> list[dict[str, Any]]:
    names, item = np.unique(batch.items, return_inverse=True)
    pairs, inverted = np.zeros(len(names)), np.zeros(len(names))
    for requests in batch.blocks():
        rows, present = batch.padded_rows(requests)
        both = present[:, :, None] & present[:, None, :]
        both &= ~np.eye(rows.shape[1], dtype=bool)
        # int8 signs: a block has at most about a million pairs of items.
        signs = [np.sign(s[rows][:, :, None] - s[rows][:, None, :]).astype(np.int8) for s in batch.scores]
        for a, b in combinations(signs, 2):
            np.add.at(inverted, item[rows][present], ((a != b) & both).sum(axis=2)[present])
            np.add.at(pairs, item[rows][present], both.sum(axis=2)[present])
    return [
        {"item": int(name), "pairs": int(n), "inverted": float(bad / n)}
        for name, n, bad in zip(names, pairs, inverted, strict=True)
        if n > 0
    ]


def _say(gaps: list[dict[str, Any]], names: list[str]) -> str:
    parts = []
    for arm in names:
        arm_rows = [row for row in gaps if row["arm"] == arm]
        near = sum(r["observed"] * r["pairs_share"] for r in arm_rows if r["gap_low"] < 0.2)
        every = sum(r["observed"] * r["pairs_share"] for r in arm_rows)
        parts.append(
            f"{arm}: {every:.3f} of item pairs swap, {near / every if every else 0:.0%} of those at a gap below 0.2, and "
            f"pairs closest to a tie swap at {arm_rows[0]['observed']:.2f} (predicted {arm_rows[0]['predicted']:.2f})"
        )
    return "; ".join(parts) + "."


def _share(ties_of_pairs: list[NearTies], i: int) -> float:
    counts = np.array([[statistic.weight for statistic in ties.observed] for ties in ties_of_pairs]).sum(
        axis=0
    )
    return float(counts[i] / counts.sum())


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _top(rows: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: -row[key])[:_SHOWN]
