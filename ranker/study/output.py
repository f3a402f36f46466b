"""How studies write: tables as Parquet and CSV, pictures as SVG and PNG, one page that shows them."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from cycler import cycler
from matplotlib.figure import Figure

INK = "#7d8590"
"""Text, axes and grid: a grey that stands out on white and on black alike, since pictures have no background."""

COLOURS = ("#2f81f7", "#e5534b", "#2da44e", "#bf8700", "#a371f7", "#db61a2", "#1b9aaa", "#8c959f")
"""Series, in order; middle tones, for light and dark pages."""

STYLE: dict[str, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "font.size": 10.0,
    "svg.hashsalt": "ranker",
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class PageSection:
    """A part of a page: a heading, sentences, and below them a picture or a table by name."""

    title: str
    text: str = ""
    picture: str = ""
    table: Sequence[Mapping[str, Any]] = ()


def save_table(
    out: Path, name: str, rows: Sequence[Mapping[str, Any]], formats: Sequence[str] = ("parquet", "csv")
) -> None:
    """Writes `<name>.parquet` and `<name>.csv`; every row has the columns of the first."""
    table = pa.table({key: [row[key] for row in rows] for key in rows[0]})
    if "parquet" in formats:
        pa.parquet.write_table(table, out / f"{name}.parquet")
    if "csv" in formats:
        pa.csv.write_csv(table, out / f"{name}.csv")


def figure(width: float = 8.0, height: float = 5.0) -> Figure:
    """An empty figure in the studies' style; use it within `mpl.rc_context(STYLE)`."""
    return Figure(figsize=(width, height), layout="constrained")


def save_picture(out: Path, name: str, drawn: Figure, formats: Sequence[str] = ("svg", "png")) -> None:
    """Writes `<name>.svg` and `<name>.png`; the same numbers give the same bytes."""
    with mpl.rc_context(STYLE):
        if "svg" in formats:
            drawn.savefig(out / f"{name}.svg", metadata={"Date": None})
        if "png" in formats:
            drawn.savefig(out / f"{name}.png", dpi=144)


def save_page(out: Path, title: str, answer: str, sections: Sequence[PageSection]) -> Path:
    """Writes `index.html`: the answer, then every section; pictures are beside it."""
    parts = [f"<h1>{html.escape(title)}</h1>", f'<p class="answer">{html.escape(answer)}</p>']
    for section in sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2>")
        if section.text:
            parts.append(f"<p>{html.escape(section.text)}</p>")
        if section.picture:
            alt = html.escape(section.title)
            parts.append(
                f'<p><a href="{section.picture}.svg"><img src="{section.picture}.svg" alt="{alt}"></a></p>'
            )
        if section.table:
            parts.append(_table(section.table))
    page = out / "index.html"
    page.write_text(_PAGE.format(title=html.escape(title), body="\n".join(parts)), encoding="utf-8")
    return page


def number(value: Any) -> str:
    """A value as text: four significant digits, whole numbers whole."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{html.escape(str(key))}</th>" for key in rows[0])
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(number(v))}</td>" for v in row.values()) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
.answer {{ font-size: 1.15rem; font-weight: 600; }}
img {{ max-width: 100%; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }}
th, td {{ text-align: left; padding: .2rem .7rem; border-bottom: 1px solid #8888; }}
</style></head><body>
{body}
</body></html>
"""
