"""Colours and the look that all charts share.

The categorical colours are those of Okabe and Ito, which people with a common colour blindness can distinguish. They are
darker on white and lighter on black, so that each has a contrast of 3 to 1 or more with the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Figure = dict[str, Any]
"""A figure in Plotly's form: `data` and `layout`."""
FONT = (
    'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans", sans-serif'
)


@dataclass(frozen=True)
class Palette:
    """One theme's colours."""

    name: str
    surface: str
    ink: str
    muted: str
    line: str
    accent: str
    warning: str
    stale: str
    series: tuple[str, ...]

    def color(self, position: int) -> str:
        """The colour of a series; they repeat after eight, and then the dash tells them apart."""
        return self.series[position % len(self.series)]

    def band(self, color: str, opacity: float = 0.18) -> str:
        """A colour to see through."""
        red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
        return f"rgba({red},{green},{blue},{opacity})"


LIGHT = Palette(
    name="light",
    surface="#ffffff",
    ink="#18202a",
    muted="#5a6675",
    line="#e3e7ec",
    accent="#0063a0",
    warning="#b84a00",
    stale="#6f7984",
    series=("#0072b2", "#b36b00", "#00795a", "#b04a86", "#2b86bd", "#c25200", "#7a6a00", "#4d5965"),
)
DARK = Palette(
    name="dark",
    surface="#171d26",
    ink="#e7ecf2",
    muted="#9aa7b6",
    line="#2b3440",
    accent="#5db4ee",
    warning="#ff9955",
    stale="#8a95a1",
    series=("#56b4e9", "#e69f00", "#2fc79a", "#e08fbf", "#8fb8ff", "#ff8a4c", "#f0e442", "#b6c0cb"),
)


def palette(name: str | None) -> Palette:
    """The palette of a theme."""
    return DARK if name == "dark" else LIGHT


def plain_text(text: str) -> str:
    """Text that Plotly shows as it is: it would make bold, links and line breaks of tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def short(text: str, longest: int = 28) -> str:
    """Text cut to what a chart can bear.

    Example:
        >>> short("abcdef", 4)
        'abc…'
    """
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def drawn(
    traces: Sequence[Mapping[str, Any]],
    colors: Palette,
    *,
    height: int = 280,
    revision: str = "kept",
    x: Mapping[str, Any] | None = None,
    y: Mapping[str, Any] | None = None,
    marks: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[Mapping[str, Any]] = (),
    **layout: Any,
) -> Figure:
    """Traces in the dashboard's look.

    Figures are plain dicts in Plotly's form: its Python classes check every property, which takes longer than all the
    rest of a page.

    Args:
        traces: in Plotly's form.
        colors: the theme.
        height: pixels.
        revision: zoom and hidden lines survive a refresh while this stays the same.
        x: further settings of the x axis.
        y: further settings of the y axis.
        marks: shapes.
        notes: annotations.
        layout: further settings of the layout.
    """
    axis = {
        "gridcolor": colors.line,
        "linecolor": colors.line,
        "zerolinecolor": colors.line,
        "tickfont": {"size": 11, "color": colors.muted},
        "automargin": True,
        "exponentformat": "none",
    }
    return {
        "data": [dict(trace) for trace in traces],
        "layout": {
            "height": height,
            "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
            "paper_bgcolor": colors.surface,
            "plot_bgcolor": colors.surface,
            "font": {"family": FONT, "size": 12, "color": colors.ink},
            "hoverlabel": {
                "bgcolor": colors.surface,
                "bordercolor": colors.line,
                "font": {"color": colors.ink, "size": 12},
            },
            "legend": {
                "orientation": "h",
                "x": 0,
                "y": 1.02,
                "yanchor": "bottom",
                "font": {"size": 11, "color": colors.muted},
            },
            "uirevision": revision,
            "hovermode": "x unified",
            "xaxis": {**axis, **(x or {})},
            "yaxis": {**axis, **(y or {})},
            "shapes": list(marks),
            "annotations": list(notes),
            **layout,
        },
    }


def axis_title(text: str, colors: Palette) -> dict[str, Any]:
    """An axis's title."""
    return {"text": text, "font": {"size": 11, "color": colors.muted}, "standoff": 8}


def across(value: float, colors: Palette, *, vertical: bool = False) -> dict[str, Any]:
    """A dashed line through the whole chart, at a limit."""
    along, at = ("y", "x") if vertical else ("x", "y")
    return {
        "type": "line",
        f"{along}ref": "paper",
        f"{along}0": 0,
        f"{along}1": 1,
        f"{at}0": value,
        f"{at}1": value,
        "line": {"color": colors.warning, "width": 1.5, "dash": "dash"},
    }


def whiskers(
    values: Sequence[tuple[float, float, float]], color: str, *, scale: float = 1.0, width: int = 4
) -> dict[str, Any]:
    """Error bars from (value, low, high)."""
    return {
        "type": "data",
        "symmetric": False,
        "color": color,
        "thickness": 1.2,
        "width": width,
        "array": [_size(scale * (high - value)) for value, _, high in values],
        "arrayminus": [_size(scale * (value - low)) for value, low, _ in values],
    }


def _size(value: float) -> float:
    return max(value, 0.0) if math.isfinite(value) else 0.0
