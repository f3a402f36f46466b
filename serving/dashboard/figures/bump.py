"""Rankings side by side: a column a replica, a line an item."""

from __future__ import annotations

from typing import Any

from serving.dashboard.figures.style import Figure, Palette, drawn, plain_text, short
from serving.dashboard.queries.rankings import CONSENSUS, Placed, SideBySide

_MOST_COLORED = 8


def bump_chart(rankings: SideBySide, colors: Palette, *, k: int) -> Figure:
    """The top k of the consensus and of every replica; lines of items that moved are coloured, others grey.

    An item that a replica places below the top k ends in the row below the line.

    Args:
        rankings: the rankings.
        colors: the theme.
        k: how many ranks to show.
    """
    columns = [CONSENSUS, *rankings.replicas]
    shown = [
        placed
        for placed in rankings.items
        if placed.rank <= k or any(rank <= k for rank in placed.ranks.values())
    ]
    worst = sorted(
        (placed for placed in shown if placed.moved),
        key=lambda placed: (-max(abs(rank - placed.rank) for rank in placed.ranks.values()), placed.rank),
    )
    colored = {placed.item: colors.color(place) for place, placed in enumerate(worst[:_MOST_COLORED])}
    below = k + 1.2
    traces = [
        _line(
            placed=placed,
            replicas=rankings.replicas,
            color=colored.get(placed.item),
            colors=colors,
            k=k,
            below=below,
        )
        for placed in sorted(shown, key=lambda placed: placed.item in colored)
    ]
    last = {
        placed.ranks[rankings.replicas[-1]]: placed.item
        for placed in shown
        if placed.ranks[rankings.replicas[-1]] <= k
    }
    notes = [
        {
            "x": 1,
            "xref": "paper",
            "y": rank,
            "xanchor": "left",
            "showarrow": False,
            "text": plain_text(short(item, 14)),
            "font": {"size": 11, "color": colored.get(item, colors.muted)},
        }
        for rank, item in last.items()
    ]
    names = {placed.rank: placed.item for placed in rankings.items if placed.rank <= k}
    ticks = list(range(1, min(k, len(rankings.items)) + 1))
    longest = max((len(short(item, 14)) for item in last.values()), default=0)
    return drawn(
        traces,
        colors,
        height=90 + 30 * (len(ticks) + 1),
        hovermode="closest",
        dragmode=False,
        notes=notes,
        marks=[
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": k + 0.6,
                "y1": k + 0.6,
                "line": {"color": colors.line, "width": 1, "dash": "dot"},
            }
        ],
        margin={"l": 8, "r": 16 + 7 * longest, "t": 30, "b": 8},
        x={
            "tickvals": list(range(len(columns))),
            "ticktext": [plain_text(short(name, 16)) for name in columns],
            "side": "top",
            "range": [-0.15, len(columns) - 1 + 0.12],
            "fixedrange": True,
            "tickfont": {"color": colors.ink, "size": 11},
        },
        y={
            "range": [below + 0.5, 0.5],
            "tickvals": [*ticks, below],
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
            "ticktext": [f"{plain_text(short(names.get(r, ''), 20))}  <b>{r}</b>" for r in ticks]
            + [f"below {k}"],
            "tickfont": {"color": colors.ink, "size": 11},
        },
    )


def _line(
    placed: Placed, replicas: tuple[str, ...], color: str | None, colors: Palette, k: int, below: float
) -> dict[str, Any]:
    ranks = [placed.rank, *(placed.ranks[name] for name in replicas)]
    scores = [placed.mean, *(placed.scores[name] for name in replicas)]
    loud = color is not None
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": plain_text(short(placed.item, 24)),
        "showlegend": False,
        "x": list(range(len(ranks))),
        "y": [rank if rank <= k else below for rank in ranks],
        "line": {
            "color": color or colors.muted,
            "width": 3 if loud else 1.2,
            "shape": "spline",
            "smoothing": 0.6,
        },
        "marker": {"size": 9 if loud else 6, "color": color or colors.muted},
        "opacity": 1 if loud else 0.55,
        "customdata": [[rank, score] for rank, score in zip(ranks, scores, strict=True)],
        "hovertemplate": "rank %{customdata[0]}, score %{customdata[1]:.4f}",
    }
