"""The report as one self-contained page: no script, no network, light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from pipelines.evaluate.pictures import colour, draw
from pipelines.evaluate.quality import MEASURES, VALUE_MEASURES
from ranker.divergence import definition
from ranker.layout import REQUEST_SEPARATOR

HEADLINES = ("top1_swap", "rpd_sym", "consensus_regret")
"""The measures shown pair by pair."""


def page(report: Mapping[str, Any]) -> str:
    """The page of a report, as `report.json` has it. Names of any kind are escaped."""
    template = resources.files("pipelines.evaluate").joinpath("report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "seconds": seconds,
        "request": request_name,
    }
    measures = list(dict.fromkeys(label for arm in report["arms"].values() for label in arm["divergence"]))
    return environment.from_string(template).render(
        report=report,
        measures=[(label, definition(label)) for label in measures],
        quality=[(label, definition(label)) for label in _quality_measures(report)],
        weighted=any("quality_unweighted" in arm for arm in report["arms"].values()),
        headlines=[label for label in HEADLINES if label in measures],
        colours={arm: colour(position) for position, arm in enumerate(report["arms"])},
        # Drawn by us, not taken from the data; text in them is escaped by the SVG writer.
        pictures={name: Markup(svg) for name, svg in draw(report).items()},
    )


def _quality_measures(report: Mapping[str, Any]) -> list[str]:
    """What is measured of every model's quality."""
    measured = next(iter(report["arms"].values()))["quality"]
    return [label for label in (*VALUE_MEASURES, *MEASURES) if label in measured]


def number(value: float | None, digits: int = 4) -> str:
    """A value with so many decimals, "-" where it is not defined."""
    if value is None:
        return "-"
    # Below what the decimals show, so many significant digits say more.
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 10.0 ** -(digits - 1) else f"{value:.2g}"


def interval(at: Mapping[str, Any]) -> str:
    """The ends of an interval, for example `0.0301 to 0.0312`."""
    return f"{number(at['low'])} to {number(at['high'])}" if at["low"] is not None else "unknown"


def seconds(value: float) -> str:
    """A duration for people."""
    return f"{value / 60:.1f} min" if value >= 120 else f"{value:.1f} s"


def request_name(request: str) -> str:
    """A request's id as its columns' values side by side."""
    return request.replace(REQUEST_SEPARATOR, " / ")
