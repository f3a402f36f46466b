"""One dashboard and one headless Chromium for all browser tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright import sync_api as playwright

from serving.dashboard import create_app
from tests.serving.dashboard.demo_run import demo_run
from tests.serving.dashboard.live_dashboard import listening
from tests.serving.dashboard.simulated_store import HOSTILE, NOW, ODD_NOISE

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
REQUESTS = 200
_HOW = "browser tests need a Chromium: `apt-get install chromium`, or set CHROMIUM to its path"


@dataclass
class Moment:
    """The dashboard's clock, which a test may turn."""

    now: float = NOW


@dataclass(frozen=True)
class Site:
    """A dashboard that listens."""

    address: str
    moment: Moment


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium."""
    path_given = os.environ.get("CHROMIUM")
    path_found = path_given or next((path for path in map(shutil.which, _CHROMIUM) if path), None)
    if path_found is None:
        pytest.skip(_HOW)
    return path_found


@pytest.fixture(scope="session")
def site(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A run with an odd replica and with items that have hostile names, under a dashboard."""
    settings = demo_run(
        tmp_path_factory.mktemp("run"),
        later=ODD_NOISE,
        items=HOSTILE,
        requests=REQUESTS,
        candidates=16,
        slices=("device",),
    )
    moment = Moment()
    with listening(create_app(settings, clock=lambda: moment.now)) as address:
        yield Site(address, moment)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[playwright.Browser]:
    """A headless Chromium. It ends with its module: its event loop would run on under the tests that follow."""
    with playwright.sync_playwright() as manager:
        browser = manager.chromium.launch(executable_path=chromium, args=_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def window(browser: playwright.Browser) -> playwright.BrowserContext:
    """One browser window for all tests: Plotly is loaded and compiled once."""
    return browser.new_context(reduced_motion="reduce", accept_downloads=True)


@pytest.fixture
def open_page(window: playwright.BrowserContext, site: Site) -> Iterator[Callable[..., playwright.Page]]:
    """Opens a path in a tab of its own; fails the test if the page logs an error or calls out."""
    pages: list[playwright.Page] = []
    wrong: list[str] = []

    def open_at(path: str, *, width: int = 1280, height: int = 800, theme: str = "light") -> playwright.Page:
        page = window.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(f"{path}: {error}"))
        page.on(
            "console",
            lambda message: wrong.append(f"{path}: {message.text}") if message.type == "error" else None,
        )
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((site.address, "data:", "blob:"))
                else wrong.append(f"{path}: called {request.url}")
            ),
        )
        page.goto(site.address + path)
        settled(page)
        return page

    yield open_at
    for page in pages:
        page.evaluate("localStorage.clear()")
        page.close()
    site.moment.now = NOW
    assert not wrong


_DRAWN = """place => {
  const chart = document.querySelectorAll("#page .plot")[place];
  if (chart) { chart.scrollIntoView(); }
  return !chart || chart.querySelector(".main-svg");
}"""


def settled(page: playwright.Page) -> None:
    """Waits until the page stands, scrolls to every chart, which draws it, and back."""
    page.locator("#page main").wait_for()
    for place in range(page.locator("#page .plot").count()):
        page.wait_for_function(_DRAWN, arg=place)
    page.evaluate("window.scrollTo(0, 0)")


@pytest.fixture(scope="session")
def pictures() -> Path | None:
    """Where the README's pictures go, when they are asked for."""
    return Path("docs/images") if os.environ.get("RANKER_SCREENSHOTS") else None
