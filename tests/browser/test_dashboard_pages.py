"""The dashboard in a real browser: every page, the way from the matrix to a request, zoom, staleness, hostile names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from serving.dashboard.pages import PAGES
from tests.browser.conftest import REQUESTS, Site, settled
from tests.serving.dashboard.simulated_store import HOSTILE, NOW, STABLE_NOISE, Simulation

pytestmark = pytest.mark.browser
Open = Callable[..., Any]
SPECIAL = Simulation(STABLE_NOISE, requests=REQUESTS, candidates=2, slices=()).special
TICKING = "stopped => dash_clientside.set_props('tick', { disabled: stopped })"
PHONE = {"width": 390, "height": 844}


def test_every_page_answers_and_no_page_scrolls_sideways_on_a_phone(open_page: Open, site: Site) -> None:
    page = open_page("/", **PHONE)
    assert page.locator("#verdict").is_visible()
    for name, found in PAGES.items():
        if name != "overview":
            page.locator("nav a", has_text=re.compile(f"^{found.title}")).click()
            page.locator("main h1", has_text=found.title.split()[0]).first.wait_for()
            settled(page)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{name} is {width} wide"
        assert page.locator("main .panel").count() > 0, name


PHONE_LAYOUT = """() => {
  const width = document.documentElement.clientWidth;
  const inside = element => {
    const box = element.getBoundingClientRect();
    return box.left >= 0 && box.right <= width + 1;
  };
  return {
    tabs: [...document.querySelectorAll("nav a")].filter(tab => !inside(tab)).map(tab => tab.textContent),
    wide: [...document.querySelectorAll(".scroll")]
      .filter(box => box.querySelector("table.cards") && box.scrollWidth > box.clientWidth + 1)
      .map(box => box.getAttribute("aria-label")),
    cut: [...document.querySelectorAll(".verdict .sentence, table.cards td")]
      .filter(part => part.scrollWidth > part.clientWidth + 1).map(part => part.textContent),
    scattered: [...document.querySelectorAll("table.cards td")]
      .filter(cell => cell.childNodes.length > 1).map(cell => cell.textContent),
  };
}"""


def test_on_a_phone_every_tab_is_in_sight_and_wide_tables_are_cards(open_page: Open, site: Site) -> None:
    page = open_page("/", **PHONE)
    for path in ("/", "/pair", "/request", "/items", "/refresh", "/arms", "/methods", "/alerts"):
        page.goto(site.address + path)
        settled(page)
        assert page.evaluate(PHONE_LAYOUT) == {"tabs": [], "wide": [], "cut": [], "scattered": []}, path
    cells = page.locator("#panel-standing tbody tr").first.locator("td")
    summary = "smelu-3 is the odd one out: its noise is 18.0 times the median of 5 replicas"
    assert summary in cells.all_inner_texts()  # the alert's sentence, whole
    labels = cells.evaluate_all("cells => cells.map(cell => getComputedStyle(cell, '::before').content)")
    assert labels[:4] == ['"State"', '"Severity"', '"Rule"', '"What"']


def test_from_the_matrix_to_a_pair_to_a_request_and_back(open_page: Open) -> None:
    page = open_page("/")
    assert "UNSTABLE" in page.locator("#verdict .state").inner_text()
    assert "budget 3%" in page.locator("#verdict .sentence").inner_text()
    assert "smelu-3 stands out" in page.locator("#panel-odd-one-out").inner_text()
    page.locator(".matrix a").first.click()
    page.wait_for_url("**/pair?*")
    page.locator("h1", has_text="Pair smelu-").wait_for()
    settled(page)
    page.locator("#panel-requests a").first.click()
    page.wait_for_url("**/request?*")
    page.locator("h1", has_text="Request request-").wait_for()
    settled(page)
    assert page.locator("#panel-replay pre").first.inner_text().startswith("ranker rank --target 127.0.0.1:")
    address = page.url
    page.reload()
    settled(page)
    assert page.url == address
    page.go_back()
    page.wait_for_url("**/pair?*")


def test_the_keyboard_reaches_a_pair(open_page: Open) -> None:
    page = open_page("/")
    page.locator(".matrix a").first.press("Enter")
    page.wait_for_url("**/pair?*")
    page.locator("h1", has_text="Pair smelu-").wait_for()
    settled(page)  # the overview has such a menu too
    page.locator("summary", has_text="Top-1 swap").press("Enter")
    entry = page.locator("a.entry", has_text="Relative PD").first
    entry.wait_for()
    entry.press("Enter")
    page.wait_for_url("**measure=rpd_sym*")


def test_a_refresh_keeps_zoom_and_focus(open_page: Open, site: Site) -> None:
    page = open_page("/")
    chart = page.locator("#chart-course .js-plotly-plot")
    page.evaluate(TICKING, True)  # a refresh in the middle of a drag would end it
    plot = page.locator("#chart-course .nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.4, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=4)
    page.mouse.move(box["x"] + box["width"] * 0.6, middle + 2, steps=4)
    page.mouse.up()
    axis = "document.querySelector('#chart-course .js-plotly-plot').layout.xaxis"
    page.wait_for_function(f"{axis}.autorange === false")
    zoomed = page.evaluate(f"{axis}.range")
    cell = page.locator(".matrix a").nth(3)
    cell.focus()
    site.moment.now = NOW + 40
    page.evaluate(TICKING, False)
    page.locator(".freshness", has_text="60 s ago").wait_for()
    page.wait_for_function(
        f"{axis}.autorangeoptions.include[1].endsWith('15:07:40')"
    )  # the new data is there
    assert page.evaluate(f"{axis}.range") == zoomed
    shown = chart.evaluate("g => g._fullLayout.xaxis.range")
    assert shown == zoomed
    assert cell.evaluate("cell => cell === document.activeElement")


def test_a_refresh_with_new_numbers_keeps_a_menu_open(open_page: Open, site: Site) -> None:
    page = open_page("/pair?a=smelu-0&b=smelu-3")
    numbers = page.locator(".head .facts")
    before = numbers.inner_text()
    page.locator("#menu-second summary").press("Enter")
    entry = page.locator("#menu-second a.entry").last
    entry.focus()
    site.moment.now = NOW - 12 * 3600  # before smelu-3 went wrong
    page.wait_for_function(
        "before => document.querySelector('.head .facts').innerText !== before", arg=before
    )
    assert page.locator("#menu-second").evaluate("menu => menu.open")
    assert entry.evaluate("entry => entry === document.activeElement")


def test_old_data_is_grey_and_never_green(open_page: Open, site: Site) -> None:
    page = open_page("/")
    assert page.locator("#page.stale").count() == 0
    site.moment.now = NOW + 7200
    page.locator("#page.stale").wait_for()
    verdict = page.locator("#verdict")
    assert "STALE" in verdict.inner_text()
    assert "2 h" in verdict.inner_text()
    color = verdict.locator(".state").evaluate("e => getComputedStyle(e).color")
    red, green, blue = map(int, re.findall(r"\d+", color)[:3])
    assert max(red, green, blue) - min(red, green, blue) < 30
    assert "grayscale(1)" in page.locator(".panels").evaluate("e => getComputedStyle(e).filter")


def test_hostile_names_are_text(open_page: Open) -> None:
    page = open_page(f"/request?request=request-{SPECIAL:03d}")
    listed = page.locator("#panel-scores tbody").inner_text()
    shown = page.locator("#panel-scores .name").evaluate_all("all => all.map(one => one.title)")
    for name in HOSTILE:
        assert name[:1000] in shown or name[:999] + "…" in shown
    assert "<b>bold</b>" in listed
    assert page.evaluate("window.hacked") is None
    assert page.locator("main b script, main .name b, main .name script").count() == 0
    assert page.locator("#chart-rankings", has_text="<b>bold</b>").count() == 1
    assert max(len(text) for text in page.locator("td").all_inner_texts()) < 400
    assert "'<b>bold</b>" in page.locator("#panel-replay pre").first.inner_text().replace("item_id=", "'")


def test_the_page_stands_before_any_script_has_run(browser: Any, site: Site) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.address}/")
    assert page.title().startswith("UNSTABLE · Overview")
    assert "smelu-3" in page.locator(".verdict .sentence").inner_text()
    assert page.locator(".matrix td a").count() > 0
    page.goto(f"{site.address}/request?request=request-{SPECIAL:03d}")
    names = page.locator(".panel .name").evaluate_all("all => all.map(one => one.title)")
    for name in HOSTILE:
        assert name[:1000] in names or name[:999] + "…" in names
    assert page.locator("main b script, main .name b, main .name script").count() == 0
    context.close()


def test_charts_are_drawn_when_they_come_into_view_and_the_first_paint_goes(window: Any, site: Site) -> None:
    page = window.new_page()
    page.set_viewport_size(PHONE)
    page.goto(f"{site.address}/")
    page.locator("#page main").wait_for()
    assert page.locator("#first").count() == 0
    assert page.locator("main").count() == 1
    assert page.locator(".main-svg").count() == 0
    page.locator("#chart-course").scroll_into_view_if_needed()
    page.locator("#chart-course .main-svg").first.wait_for()
    page.close()


def test_the_theme_follows_the_system_and_the_button(open_page: Open) -> None:
    page = open_page("/methods", theme="dark")
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "dark"
    page.locator("#theme-button").click()
    page.wait_for_function(f"{theme} === 'light'")
    page.reload()
    settled(page)
    assert page.evaluate(theme) == "light"


def test_a_panel_without_a_chart_comes_as_a_picture(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/")
    with page.expect_download() as waited:
        page.locator("#panel-matrix button.picture").click()
    path = tmp_path / "matrix.png"
    waited.value.save_as(path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert waited.value.suggested_filename == "overview-matrix.png"


@pytest.mark.parametrize(
    ("name", "path", "options"),
    [
        ("overview", "/", {"height": 1090}),
        ("overview-dark", "/", {"height": 1090, "theme": "dark"}),
        ("request", "/request", {"height": 1290}),
        ("pair-dark", "/pair?a=smelu-0&b=smelu-3", {"height": 1000, "theme": "dark"}),
        ("overview-phone", "/", {"width": 390, "height": 844}),
        ("request-phone-dark", "/request", {"width": 390, "height": 844, "theme": "dark"}),
    ],
)
def test_pictures_for_the_readme(
    open_page: Open, pictures: Path | None, tmp_path: Path, name: str, path: str, options: dict[str, Any]
) -> None:
    page = open_page(path, **options)
    target = (pictures or tmp_path) / f"{name}.png"
    page.screenshot(path=target)
    assert 10_000 < target.stat().st_size < 300_000


def test_a_dashboard_that_is_gone_turns_its_open_page_grey(open_page: Open, site: Site) -> None:
    page = open_page("/")
    banner = page.locator("#silence")
    banner.wait_for(state="hidden")  # a busy machine may miss ticks, too
    expect(page).to_have_title(re.compile("^UNSTABLE · Overview"))
    page.route(
        "**/_dash-update-component**", lambda route: route.fulfill(status=204)
    )  # nobody answers any more
    banner.wait_for()
    assert "does not answer since" in banner.inner_text()
    assert "measured" in banner.inner_text()
    for part in (".head", ".panels"):
        assert "grayscale(1)" in page.locator(part).evaluate("e => getComputedStyle(e).filter")
    page.unroute("**/_dash-update-component**")
    expect(page).to_have_title(re.compile("^UNSTABLE"), timeout=60_000)
    banner.wait_for(state="hidden")


def test_an_alert_is_acknowledged_and_silenced_from_its_page(open_page: Open) -> None:
    page = open_page("/alerts")
    page.locator("input[name=author]").fill("Ada")
    page.locator("button", has_text="Acknowledge").click()
    page.locator("#panel-standing", has_text="taken on by Ada").wait_for()
    page.locator("button[value=silence]").click()
    page.locator("#action-result", has_text="Say why").wait_for()  # a silence needs a reason
    page.locator("input[name=comment]").fill("retraining it")
    page.locator("button[value=silence]").click()
    row = page.locator("#panel-silences tbody tr")
    row.wait_for()
    assert "odd-replica" in row.inner_text()
    assert "retraining it" in row.inner_text()
    row.locator("button").click()
    page.locator("#panel-silences", has_text="None.").wait_for()


def test_no_button_of_a_chart_leaves_the_browser(open_page: Open) -> None:
    page = open_page("/")
    names = page.locator(".modebar-btn").evaluate_all("all => all.map(one => one.dataset.title)")
    allowed = {"Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"}
    assert set(names) == allowed


def test_the_skip_link_skips_and_the_current_page_is_named(open_page: Open) -> None:
    page = open_page("/pair")
    page.keyboard.press("Tab")
    assert page.locator(".skip").evaluate("link => link === document.activeElement")
    page.keyboard.press("Enter")
    assert page.locator("main").evaluate("main => main === document.activeElement")
    assert page.locator("nav [aria-current=page]").inner_text() == "Pair"


def test_a_custom_range_and_the_browsers_zone_come_into_the_address(open_page: Open) -> None:
    page = open_page("/")
    page.locator("#menu-range summary").click()
    page.locator("form.range input[name=start]").fill("2025-06-15 06:00")
    page.locator("form.range input[name=end]").fill("2025-06-15 12:00")
    page.locator("form.range button").click()
    page.wait_for_url("**start=2025-06-15+06%3A00**")
    page.locator(".freshness", has_text="as of 2025-06-15 12:00:00 UTC").wait_for()
    page.locator("a", has_text="mine").click()
    page.wait_for_url("**zone=**")
    assert "zone=browser" not in page.url
    settled(page)
