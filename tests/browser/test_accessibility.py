"""WCAG 2.2 AA, as far as axe-core can tell: every page, in both themes, on a desktop and a phone, and in every state."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.dashboard.pages import PAGES
from tests.browser.conftest import Site, settled
from tests.serving.dashboard.simulated_store import NOW

pytestmark = pytest.mark.browser
Open = Callable[..., Any]
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
RUN = """async standards => {
  const found = await axe.run(document, {runOnly: {type: 'tag', values: standards}});
  const say = node => node.target.join(' ') + ': ' + node.failureSummary;
  return found.violations.map(rule => ({rule: rule.id, nodes: rule.nodes.slice(0, 3).map(say)}));
}"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: `make axe` (npm needed)")
    return AXE.read_text(encoding="utf-8")


def violations(page: Any, axe: str) -> list[dict[str, Any]]:
    """What axe-core finds on the page as it stands."""
    page.evaluate(axe)
    return page.evaluate(RUN, STANDARDS)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_no_page_violates_wcag(open_page: Open, site: Site, axe: str, theme: str, width: int) -> None:
    wrong = {}
    page = open_page("/", theme=theme, width=width)
    for name in PAGES:
        page.goto(site.address + ("/" if name == "overview" else f"/{name}"))
        settled(page)
        found = violations(page, axe)
        if found:
            wrong[name] = found
    assert not wrong, json.dumps(wrong, indent=1)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_state_violates_wcag(open_page: Open, site: Site, axe: str, theme: str) -> None:
    wrong = {}
    site.moment.now = NOW + 7 * 3600
    for name in ("/", "/alerts"):
        page = open_page(name, theme=theme)
        page.locator("#page.stale").wait_for()
        wrong[f"stale {name}"] = violations(page, axe)
    site.moment.now = NOW
    page = open_page("/", theme=theme)
    page.locator("#menu-range summary").click()
    wrong["open menu"] = violations(page, axe)
    page.route("**/_dash-update-component**", lambda route: route.fulfill(status=204))
    page.locator("#silence").wait_for()
    wrong["silent"] = violations(page, axe)
    assert not any(wrong.values()), json.dumps(wrong, indent=1)
