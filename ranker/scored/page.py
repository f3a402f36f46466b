"""The comparison of models as a page, as a notebook's fragment and as a figure."""

from __future__ import annotations

from importlib import resources
from itertools import groupby
from typing import TYPE_CHECKING

from ranker.divergence import Interval, definition
from ranker.errors import UserError

if TYPE_CHECKING:
    import jinja2
    from matplotlib.figure import Figure

    from ranker.scored.comparison import ModelComparison

HEADLINES = ("top1_swap", "set_churn", "pair_inversion", "rpd_sym", "consensus_regret")
"""The measures that a matrix and a figure show."""


def page(result: ModelComparison) -> str:
    """One self-contained page. Names of any kind are escaped."""
    template = resources.files("ranker.scored").joinpath("page.html").read_text(encoding="utf-8")
    return (
        _environment()
        .from_string(template)
        .render(
            result=result,
            matrices={label: _matrix(result, label) for label in _headlines(result)},
            definition=definition,
            headlines=_headlines(result),
            slices={
                column: [(part, result.intervals(part.comparison.means)) for part in parts]
                for column, parts in groupby(result.slices, key=lambda part: part.column)
            },
        )
    )


def fragment(result: ModelComparison) -> str:
    """The sentence and the table of measures, for a notebook."""
    template = (
        "<p>{{ result.sentence }}</p><table><thead><tr><th>measure</th><th>value</th><th>95% interval</th></tr></thead>"
        "<tbody>{% for label, interval in result.measures.items() %}<tr><td>{{ label }}</td>"
        "<td>{{ interval.value | number }}</td><td>{{ interval | ends }}</td></tr>{% endfor %}</tbody></table>"
    )
    return _environment().from_string(template).render(result=result)


def figure(result: ModelComparison) -> Figure:
    """Headline measures with their intervals, a row a pair.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("plot needs matplotlib: pip install matplotlib") from None
    labels, pairs = _headlines(result), list(result.comparison.pairs)
    drawn = Figure(figsize=(3.2 * len(labels) + 1, 0.4 * len(pairs) + 1.2), layout="constrained")
    panels = drawn.subplots(1, len(labels), sharey=True, squeeze=False)[0]
    for axes, label in zip(panels, labels, strict=True):
        for row, pair in enumerate(pairs):
            interval = result.intervals(result.comparison.pairs[pair])[label]
            axes.plot([interval.low, interval.high], [row, row], color="tab:blue")
            axes.plot([interval.value], [row], "o", color="tab:blue")
        if label in result.standings:
            axes.axvline(result.budget[label], color="tab:red", linestyle="--")
        axes.set_title(label)
        axes.set_xlim(left=0)
    panels[0].set_yticks(range(len(pairs)), [f"{a} and {b}" for a, b in pairs])
    return drawn


def _headlines(result: ModelComparison) -> list[str]:
    return [label for label in result.measures if label.split("@")[0] in HEADLINES]


def _matrix(result: ModelComparison, label: str) -> list[list[Interval | None]]:
    """Rows and columns are the models; None on the diagonal."""
    cells: list[list[Interval | None]] = [[None] * len(result.models) for _ in result.models]
    place = {model: position for position, model in enumerate(result.models)}
    for (a, b), statistics in result.comparison.pairs.items():
        interval = result.intervals(statistics)[label]
        cells[place[a]][place[b]] = cells[place[b]][place[a]] = interval
    return cells


def _environment() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError:
        raise UserError("the page of a comparison needs: pip install 'steady-ranker[compare]'") from None
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"number": _number, "ends": _ends}
    environment.globals["zip"] = zip
    return environment


def _number(value: float | None, digits: int = 4) -> str:
    if value is None or value != value:
        return "-"
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 10.0 ** -(digits - 1) else f"{value:.2g}"


def _ends(interval: Interval) -> str:
    return (
        "unknown" if interval.low != interval.low else f"{_number(interval.low)} to {_number(interval.high)}"
    )
