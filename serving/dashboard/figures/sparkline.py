"""A line the size of a word, as an SVG picture: a page has many, and each would cost Plotly more than it shows."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence

_WIDTH, _HEIGHT, _EDGE = 240.0, 44.0, 4.0
_LEAST = 0.1
"""Of the largest value: smaller moves are not stretched to the whole height, or rounding would look like news."""


def sparkline(times: Sequence[float], values: Sequence[float], color: str) -> str:
    """The line as a `data:` address; its last point is marked.

    Args:
        times: ascending.
        values: as many; what is not finite is left out.
        color: as in CSS.
    """
    finite = [(time, value) for time, value in zip(times, values, strict=True) if math.isfinite(value)]
    if not finite:
        return _picture("")
    start, end = finite[0][0], finite[-1][0]
    low, high = min(value for _, value in finite), max(value for _, value in finite)
    spare = (_LEAST * max(abs(low), abs(high)) - (high - low)) / 2
    if spare > 0:
        low, high = low - spare, high + spare
    points = [
        (
            _EDGE + (_WIDTH - 2 * _EDGE) * ((time - start) / (end - start) if end > start else 1.0),
            _EDGE + (_HEIGHT - 2 * _EDGE) * ((high - value) / (high - low) if high > low else 0.5),
        )
        for time, value in finite
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    line = (
        f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8" stroke-linejoin="round"/>'
    )
    x, y = points[-1]
    return _picture(f'{line}<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{color}"/>')


def _picture(content: str) -> str:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}">{content}</svg>'
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
