"""Components as HTML: a page is on the screen before the browser has loaded the scripts that keep it up to date."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from dash.development.base_component import Component

_VOID = frozenset({"br", "hr", "img", "input"})
_NAMES = {"className": "class", "htmlFor": "for"}
"""Properties whose attribute has another name; of all others the names differ in case only, which HTML ignores."""
_UNSENT = frozenset({"children", "key", "id"})


def markup(part: Any) -> str:
    """The HTML of a component, of text, or of a list of both; text and attributes are escaped.

    Ids are left out: the page that Dash makes beside it has the same ones.

    Example:
        >>> from dash import html
        >>> markup([html.P("a < b", className="lead"), html.Br()])
        '<p class="lead">a &lt; b</p><br>'
    """
    if part is None or isinstance(part, bool):
        return ""
    if isinstance(part, (list, tuple)):
        return "".join(map(markup, part))
    if not isinstance(part, Component):
        return escape(str(part))
    properties = part.to_plotly_json()["props"]
    tag = part._type.lower()  # type: ignore[attr-defined]  # a component has no public name of its type
    attributes = "".join(
        _attribute(_NAMES.get(name, name), value) for name, value in properties.items() if name not in _UNSENT
    )
    if tag in _VOID:
        return f"<{tag}{attributes}>"
    return f"<{tag}{attributes}>{markup(properties.get('children'))}</{tag}>"


def _attribute(name: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name.lower()}"
    text = _style(value) if isinstance(value, Mapping) else str(value)
    return f' {name.lower()}="{escape(text)}"'


def _style(declarations: Mapping[str, Any]) -> str:
    return ";".join(f"{_hyphenated(name)}:{value}" for name, value in declarations.items())


def _hyphenated(name: str) -> str:
    """`minWidth` as CSS has it; its variables (`--share`) stand."""
    if name.startswith("--"):
        return name
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)
