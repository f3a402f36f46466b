"""`docs/evidence.md` from what `ranker.study.evidence` found. Every number on it was computed, none is typed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ranker.study.claims import TITLES
from ranker.study.output import number

_HEAD = """# Evidence

Written by `ranker study evidence` (`make evidence`); do not edit. Every number comes from the runs named here.

How to read it: `rpd_sym` is the relative prediction difference between two replicas (0: they agree), `top1_swap` the
share of requests whose first item differs; both are means over pairs of replicas. `rpd_ratio` is `rpd_sym` over that of
the base recipe. Brackets are 95% intervals: of divergence a bootstrap over replicas and requests, of AUC over replicas
(paired by their seeds) and requests. A claim *holds* if its whole interval meets the bar; one that does not says so. In
pictures numbers are rows of the table below.
"""


def write(page: Path, evidence_of_runs: Sequence[tuple[dict[str, Any], Path]]) -> None:
    """Writes the page.

    Args:
        page: the Markdown file.
        evidence_of_runs: each run's evidence, and the directory of its pictures.
    """
    parts = [_HEAD]
    for evidence, pictures in evidence_of_runs:
        kind = " Quick: fewer recipes and replicas than a full run." if evidence["quick"] else ""
        parts.append(
            f"## {evidence['name']}\n\n{evidence['replicas']} replicas a recipe, {evidence['train_rows']:,} training rows, "
            f"{evidence['eval_rows']:,} held-out rows in {evidence['requests']:,} requests.{kind}"
        )
        tested = {claim["number"] for claim in evidence["claims"]}
        for claim in evidence["claims"]:
            parts.append(f"### {claim['number']}. {claim['title']}")
            parts.append("\n".join(f"- {text}" for text in claim["verdicts"]))
            parts.append(claim["about"])
            if claim["picture"]:
                where = os.path.relpath(pictures / f"{claim['picture']}.svg", page.parent)
                parts.append(f"![{claim['title']}]({where})")
            for title, rows in claim.get("more", {}).items():
                parts += [f"{title}:", table(rows)]
            parts.append(table([{"": i, **row} for i, row in enumerate(_short(claim["rows"]), 1)]))
        untested = [f"{i} ({t[0].lower()}{t[1:]})" for i, t in TITLES.items() if i not in tested]
        if untested:
            parts.append(f"Not tested in this run: {', '.join(untested)}. `make evidence` tests all.")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


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


def _short(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Values with their intervals in one cell."""
    bounds = {key for pair in _INTERVALS.values() for key in pair}
    short = []
    for row in rows:
        cells: dict[str, Any] = {}
        for key, value in row.items():
            low, high = _INTERVALS.get(key, ("", ""))
            if key in bounds:
                continue
            if low in row:
                form = "+.4f" if key == "auc_gain" else ".3f"
                cells[key] = f"{value:{form}} [{row[low]:{form}}, {row[high]:{form}}]"
            elif key in ("auc", "smelu_auc", "logloss"):
                cells[key] = f"{value:.4f}"
            elif key == "parameters":
                cells[key] = f"{value:,}"
            elif key in ("training_seconds", "serving_ms"):
                cells[key] = f"{value:.1f}"
            else:
                cells[key] = value
        short.append(cells)
    return short
