"""Colours and the look that all charts share.

Categorical colours are those of Okabe and Ito, told apart with every common colour blindness, darkened for white and
lightened for black so that each stands out from the page at 3 to 1 or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

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
    "light",
    "#ffffff",
    "#18202a",
    "#5a6675",
    "#e3e7ec",
    "#0063a0",
    "#b84a00",
    "#6f7984",
    ("#0072b2", "#b36b00", "#00795a", "#b04a86", "#2b86bd", "#c25200", "#7a6a00", "#4d5965"),
)
DARK = Palette(
    "dark",
    "#171d26",
    "#e7ecf2",
    "#9aa7b6",
    "#2b3440",
    "#5db4ee",
    "#ff9955",
    "#8a95a1",
    ("#56b4e9", "#e69f00", "#2fc79a", "#e08fbf", "#8fb8ff", "#ff8a4c", "#f0e442", "#b6c0cb"),
)


def palette(name: str | None) -> Palette:
    """The palette of a theme."""
    return DARK if name == "dark" else LIGHT


def styled(
    figure: go.Figure, colors: Palette, *, height: int = 280, revision: str = "kept", **options: Any
) -> go.Figure:
    """The figure in the dashboard's look.

    Args:
        figure: changed in place.
        colors: the theme.
        height: pixels.
        revision: zoom and hidden lines survive a refresh while this stays the same.
        options: of `figure.update_layout`.
    """
    axis = {
        "gridcolor": colors.line,
        "linecolor": colors.line,
        "zerolinecolor": colors.line,
        "tickfont": {"size": 11, "color": colors.muted},
        "title": {"font": {"size": 11, "color": colors.muted}, "standoff": 8},
        "automargin": True,
        "fixedrange": False,
    }
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 12, "t": 12, "b": 8},
        paper_bgcolor=colors.surface,
        plot_bgcolor=colors.surface,
        font={"family": FONT, "size": 12, "color": colors.ink},
        hoverlabel={
            "bgcolor": colors.surface,
            "bordercolor": colors.line,
            "font": {"color": colors.ink, "size": 12},
        },
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 11, "color": colors.muted},
        },
        uirevision=revision,
        dragmode="zoom",
        hovermode="x unified",
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    figure.update_layout(**options)
    return figure
