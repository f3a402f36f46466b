"""What a refresh of an open page changes: charts take new data, other parts are replaced only where they differ.

Replacing the whole page would draw every chart anew, and with it go zoom, focus, open menus and the place in a scrolled
table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dash import html, no_update
from dash.development.base_component import Component
from plotly.utils import PlotlyJSONEncoder

CHART, LIVE = "chart", "live"


def live(name: str, part: Component) -> html.Div:
    """A part that a refresh may replace; its key says what it shows, so that the server need not remember."""
    text = json.dumps(part, cls=PlotlyJSONEncoder, sort_keys=True)
    shown = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return html.Div(part, id={LIVE: name}, key=shown, className="live")


@dataclass(frozen=True)
class Shown:
    """What is on the reader's screen: names of charts, names of parts and what they show."""

    charts: tuple[str, ...]
    parts: Mapping[str, str]


@dataclass(frozen=True)
class Changes:
    """What to send: figures by name; a content and a key a part, `no_update` where it is the same."""

    figures: Mapping[str, Any]
    contents: list[Any]
    keys: list[Any]


def changes(tree: Sequence[Component], shown: Shown) -> Changes | None:
    """What differs between a page as it is now and as it is shown; None if it has other parts than before."""
    charts = charts_of(tree)
    lives = _named(tree, LIVE)
    if set(charts) != set(shown.charts) or set(lives) != set(shown.parts):
        return None
    is_unchanged = {name: lives[name].key == key for name, key in shown.parts.items()}
    return Changes(
        charts,
        [no_update if is_unchanged[name] else lives[name].children for name in shown.parts],
        [no_update if is_unchanged[name] else lives[name].key for name in shown.parts],
    )


def charts_of(tree: Sequence[Component]) -> dict[str, Any]:
    """The figures of a page by the names of its charts."""
    return {name: chart.figure for name, chart in _named(tree, CHART).items()}


def _named(tree: Sequence[Component], kind: str) -> dict[str, Any]:
    """The parts of a page that are of a kind, by name."""
    ids = ((part, getattr(part, "id", None)) for part in _components(tree))
    return {part_id[kind]: part for part, part_id in ids if isinstance(part_id, dict) and kind in part_id}


def _components(tree: Any) -> Iterator[Component]:
    if isinstance(tree, Component):
        yield tree
        yield from _components(getattr(tree, "children", None))
    elif isinstance(tree, (list, tuple)):
        for child in tree:
            yield from _components(child)
