"""The report as one self-contained page: no script, no network, light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from pipelines.evaluate.pictures import colour, draw
from pipelines.evaluate.quality import MEASURES, VALUE_MEASURES
from ranker import wording
from ranker.divergence import Interval, definition
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
        "amount": amount,
        "between": between,
        "difference": difference,
        "limit": lambda value, label: wording.limit(label, value),
        "term": term,
        "measure": measure,
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
    """A value of quality with so many decimals."""
    if value is None:
        return wording.MISSING
    # Below what the decimals show, so many significant digits say more.
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 10.0 ** -(digits - 1) else f"{value:.2g}"


def amount(at: Mapping[str, Any], label: str) -> str:
    """A measure's value in its unit."""
    return wording.amount(label, at["value"])


def between(at: Mapping[str, Any], label: str) -> str:
    """The ends of its interval in the value's unit, for example `1.6 to 2.0`."""
    return wording.between(label, _interval(at))


def difference(at: Mapping[str, Any], label: str) -> str:
    """A signed difference with its interval."""
    return wording.difference(label, _interval(at))


def _interval(at: Mapping[str, Any]) -> Interval:
    value, low, high = (math.nan if at[name] is None else at[name] for name in ("value", "low", "high"))
    return Interval(value, low, high)


def term(text: str) -> Markup:
    """A heading; one that is a term of the catalogue says on hover what it means."""
    return _explained(text, wording.TERMS.get(text, ""))


def measure(label: str) -> Markup:
    """A measure's name, which says on hover what it means and how it is computed."""
    meaning = wording.meaning(label)
    return _explained(wording.title(label), f"{meaning} {definition(label).formula}" if meaning else "")


def _explained(text: str, explanation: str) -> Markup:
    if not explanation:
        return Markup.escape(text)
    return Markup('<abbr title="{}">{}</abbr>').format(explanation.replace("`", ""), text)


def seconds(value: float) -> str:
    """A duration for people."""
    return f"{value / 60:.1f} min" if value >= 120 else f"{value:.1f} s"


def request_name(request: str) -> str:
    """A request's id as its columns' values side by side."""
    return request.replace(REQUEST_SEPARATOR, " / ")
