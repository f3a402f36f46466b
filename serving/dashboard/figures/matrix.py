"""The N x N matrix as an HTML table: every cell is a link that a keyboard reaches and a screen reader reads."""

from __future__ import annotations

import math

import numpy as np
from dash import html
from dash.development.base_component import Component

from ranker import wording
from serving.dashboard.figures.clustering import clustered
from serving.dashboard.layout import parts
from serving.dashboard.layout.address import Address
from serving.monitor.store.results import Matrix

_MOST_NAME = 18


def matrix_table(matrix: Matrix, address: Address, *, enough: int, budget: float | None) -> Component:
    """The matrix of excess over the floor, alike replicas side by side.

    Args:
        matrix: the matrix.
        address: of the page it is on.
        enough: requests below which a cell is hatched.
        budget: half of the colour scale; None: the largest value is its end.
    """
    if len(matrix.replicas) < 2:
        return parts.message("Nothing has been compared yet.")
    order = clustered(np.abs(matrix.values))
    names = [matrix.replicas[place] for place in order]
    excess = matrix.excess[np.ix_(order, order)]
    n = matrix.n[np.ix_(order, order)]
    magnitudes = np.abs(excess[np.isfinite(excess)])
    end = 2 * budget if budget else float(magnitudes.max()) if len(magnitudes) else 1.0
    head = html.Tr(
        [html.Td()]
        + [
            html.Th(html.Span(parts.name(name, _MOST_NAME)), scope="col", className="column")
            for name in names
        ]
    )
    rows = [head]
    for i, a in enumerate(names):
        cells: list[Component] = [html.Th(parts.name(a, _MOST_NAME), scope="row")]
        for j, b in enumerate(names):
            if i == j:
                cells.append(html.Td("", className="same"))
            else:
                cells.append(
                    _cell(
                        label=matrix.label,
                        a=a,
                        b=b,
                        excess=float(excess[i, j]),
                        n=int(n[i, j]),
                        end=end,
                        enough=enough,
                        address=address,
                    )
                )
        rows.append(html.Tr(cells))
    unit = " in %" if wording.is_share(matrix.label) else ""
    scale = [html.Span("0"), html.Span(className="ramp")]
    scale += [html.Span(wording.amount(matrix.label, end) + (" = 2 × budget" if budget else ""))]
    return html.Div(
        [
            html.Div(
                html.Table(rows, className="matrix roomy" if len(names) <= 6 else "matrix"),
                className="scroll",
                tabIndex=0,
                role="region",
                **parts.attributes(
                    aria_label=f"{wording.title(matrix.label)} above the floor{unit}, by pair"
                ),
            ),
            html.P([*scale, html.Span("hatched: too few requests", className="few-key")], className="scale"),
        ]
    )


def _cell(
    label: str, a: str, b: str, excess: float, n: int, end: float, enough: int, address: Address
) -> Component:
    if not math.isfinite(excess):
        return html.Td("–", className="few", title=f"{a} and {b}: not compared")
    first, second = sorted((a, b))
    share = min(abs(excess) / end, 1.0) if end > 0 else 0.0
    text = wording.percent(excess) if wording.is_share(label) else wording.number(excess)
    title = f"{parts.short(a)} and {parts.short(b)}: {wording.amount(label, excess)} above the floor, {n:,} requests"
    return html.Td(
        parts.link(text.replace("-", "−"), address.to("pair", a=first, b=second), title=title),
        className="few" if n < enough else "",
        style={"--heat-share": f"{round(100 * share)}%"},
    )
