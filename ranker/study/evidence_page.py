"""`docs/evidence.md` from what `ranker.study.evidence` found. Every number on it was computed, none is typed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ranker.study.claims import PLAN, TITLES
from ranker.study.options import SMOKE_ROWS
from ranker.study.output import number
from ranker.study.recipes import RELU, SMELU

_HEAD = """# Evidence

Written by `ranker study evidence` (`make evidence`); do not edit. Every number comes from the runs named here.

## At a glance

Two replicas of one model, trained from the same initialisation on the same rows in a slightly different order: how much
less do they differ with SmeLU of beta 1 than with ReLU, everything else equal (LayerNorm, weights averaged over the last 10%
of the steps)?
"""
_SMOKE = f"""**A smoke form (`--quick`).** Two replicas a recipe, at most {SMOKE_ROWS:,} training rows and a part of the
recipes: it shows that every claim computes, and its numbers decide nothing.
"""
_CLAIMS = """## The claims

A claim *holds* if its whole 95% interval meets the bar; one that does not says so. Each claim gives the size of its run,
which may be smaller than its log. The plane has one learning rate for each normalisation. Intervals of divergence are a
bootstrap over replicas and requests, of AUC over replicas (paired by their seeds) and requests.
"""
_DETAILS = """## The details

`rpd_sym` is the relative prediction difference between two replicas (0: they agree), `top1_swap` the share of requests whose
first item differs, `set_churn@10` the share of the first ten items that differ, `consensus_regret` the share of expected
clicks that a replica loses against the consensus of both; all are means over pairs of replicas. `rpd_ratio` is `rpd_sym`
over that of the base recipe. Brackets are 95% intervals. In pictures numbers are rows of the table below.
"""
_COSTS = """What the claims took, {seconds:,} processor seconds (two cores have 7,200 an hour). Claims in one row share their
trainings. A log's claims without a figure are of an earlier plan. Where a run read what an earlier one had trained, that
one's seconds stand; those of a stopped run are lost.
"""


def write(page: Path, evidence_of_runs: Sequence[tuple[dict[str, Any], Path]]) -> None:
    """Writes the page: a table for everybody, then the claims, then the details.

    Args:
        page: the Markdown file.
        evidence_of_runs: each run's evidence, and the directory of its pictures.
    """
    quick = any(claim["quick"] for evidence, _ in evidence_of_runs for claim in evidence["claims"])
    glances = table([_glance(evidence) for evidence, _ in evidence_of_runs])
    parts = [_HEAD, *([_SMOKE] if quick else []), glances, _CLAIMS]
    for evidence, _ in evidence_of_runs:
        parts.append(f"### {evidence['name']}")
        for claim in evidence["claims"]:
            parts += [
                f"**{claim['number']}. {claim['title']}** ({_size(claim)})",
                "\n".join(f"- {text}" for text in claim["verdicts"]),
            ]
        tested = {claim["number"] for claim in evidence["claims"]}
        untested = [f"{i} ({t[0].lower()}{t[1:]})" for i, t in TITLES.items() if i not in tested]
        if untested:
            parts.append(f"Not tested on this log: {', '.join(untested)}.")
    parts += [_DETAILS, *_costs([evidence for evidence, _ in evidence_of_runs])]
    for evidence, pictures in evidence_of_runs:
        parts.append(f"### {evidence['name']} in detail")
        for claim in evidence["claims"]:
            if claim["rows"]:
                parts += _detail(claim, page, pictures)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _glance(evidence: Mapping[str, Any]) -> dict[str, str]:
    """One log's four numbers."""
    claim_rows = [row for claim in evidence["claims"] if claim["number"] == 1 for row in claim["rows"]]
    rows = {row["recipe"]: row for row in claim_rows}
    if RELU.label not in rows or SMELU.label not in rows:
        return dict.fromkeys(_GLANCE, "not tested") | {"log": evidence["name"]}
    relu, smelu = rows[RELU.label], rows[SMELU.label]

    def fall(key: str, places: int) -> str:
        if key not in relu:  # an earlier run, which did not measure it
            return "not measured"
        return f"{100 * relu[key]:.{places}f}% to {100 * smelu[key]:.{places}f}%"

    short = _short([smelu], digits=2)[0]
    changes = fall("top1_swap", 1), fall("consensus_regret", 3)
    cells = [evidence["name"], short["rpd_ratio"], *changes, short["auc_gain"]]
    return dict(zip(_GLANCE, cells, strict=True))


_GLANCE = (
    "log",
    "relative prediction difference, as a share of ReLU's",
    "requests whose first item differs, ReLU to SmeLU",
    "expected clicks lost, ReLU to SmeLU",
    "change of AUC",
)


def _costs(evidence_of_runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Processor seconds of each share of the plan, by log, beside what it may take."""
    rows: dict[tuple[int, ...], dict[str, Any]] = {}
    logs = [evidence["name"] for evidence in evidence_of_runs]
    for evidence in evidence_of_runs:
        for claim in evidence["claims"]:
            if "cost" in claim:
                numbers = tuple(claim["cost"]["numbers"])
                empty = {"claims": ", ".join(map(str, numbers)), **dict.fromkeys(logs, "not measured")}
                budget = next(share.processor_seconds for share in PLAN if set(numbers) <= set(share.numbers))
                row = rows.setdefault(numbers, empty | {"at most, each log": budget})
                row[evidence["name"]] = claim["cost"]["processor_seconds"]
    if not rows:
        return []
    total = {"claims": "sum of what is measured"} | {
        key: sum(row[key] for row in rows.values() if row[key] != "not measured")
        for key in (*logs, "at most, each log")
    }
    return [_COSTS.format(seconds=sum(total[log] for log in logs)), table([*rows.values(), total])]


def _size(claim: Mapping[str, Any]) -> str:
    kind = ", smoke form" if claim["quick"] else ""
    return (
        f"{claim['replicas']} replicas a recipe, {claim['train_rows']:,} training rows, {claim['eval_rows']:,} held-out "
        f"rows in {claim['requests']:,} requests{kind}"
    )


def _detail(claim: Mapping[str, Any], page: Path, pictures: Path) -> list[str]:
    parts = [f"#### {claim['number']}. {claim['title']}", claim["about"]]
    if claim["picture"]:
        where = os.path.relpath(pictures / f"{claim['picture']}.svg", page.parent)
        parts.append(f"![{claim['title']}]({where})")
    for title, rows in claim.get("more", {}).items():
        parts += [f"{title}:", table(rows)]
    return [*parts, table([{"": i, **row} for i, row in enumerate(_short(claim["rows"]), 1)])]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table; the columns are the first row's."""
    keys = list(rows[0])
    lines = [f"| {' | '.join(keys)} |", f"|{'---|' * len(keys)}"]
    lines += [f"| {' | '.join(number(row[key]) for key in keys)} |" for row in rows]
    return "\n".join(lines)


_INTERVALS = {
    "auc_gain": ("auc_gain_low", "auc_gain_high"),
    "rpd_sym": ("rpd_low", "rpd_high"),
    "rpd_ratio": ("ratio_low", "ratio_high"),
    "top1_swap": ("swap_low", "swap_high"),
}


def _short(rows: Sequence[Mapping[str, Any]], digits: int = 3) -> list[dict[str, Any]]:
    """Values with their intervals in one cell, differences of AUC to four digits, others to `digits`."""
    bounds = {key for pair in _INTERVALS.values() for key in pair}
    short = []
    for row in rows:
        cells: dict[str, Any] = {}
        for key, value in row.items():
            low, high = _INTERVALS.get(key, ("", ""))
            if key in bounds:
                continue
            if low in row:
                tiny = 0 < abs(value) < 10**-digits
                form = "+.4f" if key == "auc_gain" else ".1e" if tiny else f".{digits}f"
                cells[key] = f"{value:{form}} [{row[low]:{form}}, {row[high]:{form}}]"
            elif key in ("set_churn@10", "consensus_regret"):
                cells[key] = f"{value:.2g}"
            elif key in ("auc", "best_smelu_auc", "smelu_auc", "logloss"):
                cells[key] = f"{value:.4f}"
            elif key == "parameters":
                cells[key] = f"{value:,}"
            elif key in ("training_seconds", "serving_ms"):
                cells[key] = f"{value:.1f}"
            else:
                cells[key] = value
        short.append(cells)
    return short
