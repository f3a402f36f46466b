"""Every page from a store: with data, without, of another stream, with a wrong address."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly.utils import PlotlyJSONEncoder

from ranker.divergence import Interval
from serving.dashboard import DashboardSettings
from serving.dashboard.figures.clustering import clustered
from serving.dashboard.figures.picture import picture_of
from serving.dashboard.figures.style import DARK, LIGHT
from serving.dashboard.layout.address import Address, parse
from serving.dashboard.layout.context import Context, Panel
from serving.dashboard.layout.export import panel_csv
from serving.dashboard.layout.frame import rendered
from serving.dashboard.layout.live import Shown, changes
from serving.dashboard.layout.zone import seconds_of, shown_in
from serving.dashboard.pages import PAGES
from serving.dashboard.queries.refreshes import held, refreshes
from serving.dashboard.queries.replay import replay
from serving.dashboard.queries.report import read_report
from serving.deployment import Deployment, Replica
from serving.monitor.measurement.exemplars import RequestExemplar
from serving.monitor.store import Store, open_store, query
from serving.monitor.store.selection import Selection
from tests.serving.dashboard.simulated_store import NOW, STABLE_NOISE, Simulation, simulate


@pytest.fixture(scope="module")
def store(quiet_store: Path) -> Iterator[Store]:
    opened = open_store(quiet_store)
    yield opened
    opened.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "empty.db")
    yield opened
    opened.close()


def context(store: Store, address: Address, now: float = NOW, **settings: Any) -> Context:
    return Context(store, DashboardSettings("unused.db", **settings), address, LIGHT, now)


def text(page: Any) -> str:
    return json.dumps(page, cls=PlotlyJSONEncoder, ensure_ascii=False)


@pytest.mark.parametrize("name", PAGES)
def test_every_page_says_something_about_an_empty_store(empty: Store, name: str) -> None:
    page, stale = rendered(context(empty, Address(name)))
    assert PAGES[name].title in text(page)
    assert not stale


@pytest.fixture(scope="module")
def fleet_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Forty replicas, one of them odd."""
    noise = {f"m{number:02d}": 0.9 if number == 7 else 0.2 for number in range(40)}
    simulation = Simulation(noise, requests=60, candidates=8, slices=())
    path = tmp_path_factory.mktemp("fleet") / "monitor.db"
    opened = simulate(path, simulation, hours=0.1, every=120)
    yield opened
    opened.close()


@pytest.mark.parametrize("name", PAGES)
def test_every_page_of_a_fleet_says_something(fleet_store: Store, name: str) -> None:
    page, _ = rendered(context(fleet_store, Address(name)))
    assert PAGES[name].title in text(page)


@pytest.mark.parametrize(
    ("measure", "title"), [("top1_swap", "against all others"), ("pd_logit", "own noise")]
)
def test_a_fleet_is_a_ranked_list_in_place_of_a_matrix(fleet_store: Store, measure: str, title: str) -> None:
    content = PAGES["overview"].build(context(fleet_store, Address("overview", measure=measure)))
    (panel,) = [panel for panel in content.panels if panel.key == "matrix"]
    assert title in panel.title
    assert panel.rows[0]["replica"] == "m07"
    assert len(panel.rows) == 40
    assert "Cluster 1: " in text(panel.body)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("measure", ["top1_swap", "bias", "pd_logit"])
def test_every_panel_can_be_taken_away(store: Store, name: str, measure: str) -> None:
    content = PAGES[name].build(context(store, Address(name, measure=measure)))
    for panel in content.panels:
        if panel.rows:
            exported = list(csv.DictReader(io.StringIO(panel_csv(panel))))
            assert exported
            assert not any("{" in column for column in exported[0])
            for row in exported:
                assert not any(re.fullmatch(r"1\d{9}(\.\d+)?", value) for value in row.values()), panel.key
        figure = picture_of(panel, DARK)
        assert figure["data"], panel.key


@pytest.mark.parametrize(
    "address",
    [
        Address("pair", a="smelu-0", b="nobody"),
        Address("overview", measure="no_such_measure"),
        Address("overview", stream="live"),
        Address("request", request="<script>"),
        Address("nowhere"),
    ],
)
def test_a_wrong_address_is_answered_in_words(store: Store, address: Address) -> None:
    page, _ = rendered(context(store, address))
    assert '"message"' in text(page) or '"n/a"' in text(page) or "Nothing" in text(page)


def test_an_address_survives_its_link() -> None:
    address = Address("request", "live", "set_churn@10", "7d", "a&b=<1>", "é %", "q#1?", "device", "tv/phone")
    path, _, search = address.href.partition("?")
    assert not path.startswith("/")  # relative: the dashboard may stand below a path
    assert parse(path, search) == address
    assert address.to("pair") == Address("pair", "live", "set_churn@10", "7d")


def test_alike_replicas_stand_together() -> None:
    groups = np.array([0, 1, 0, 1, 0])
    distances = np.where(groups[:, None] == groups[None, :], 1.0, 9.0)
    order = groups[clustered(distances)]
    assert (np.diff(order) != 0).sum() == 1
    assert sorted(clustered(np.full((4, 4), np.nan))) == [0, 1, 2, 3]


def test_a_refresh_sends_only_what_changed(store: Store) -> None:
    page, _ = rendered(context(store, Address("overview")))
    everything = changes(page, Shown((), {}))
    assert everything is None  # other parts than on the screen: the page comes whole
    assert _changed(page, page) == set()
    later, _ = rendered(context(store, Address("overview"), NOW + 40))
    changed = _changed(page, later)
    assert "freshness" in changed
    assert not changed & {"controls", "navigation", "matrix-0", "matrix-title"}


def test_a_refresh_sends_new_numbers_without_the_menus_beside_them(store: Store) -> None:
    address = Address("pair", a="smelu-0", b="smelu-1")
    before, _ = rendered(context(store, address, NOW - 7200))  # another version then
    page, _ = rendered(context(store, address))
    changed = _changed(before, page)
    menus = [
        element["id"]["live"]
        for element in _ids(page)
        if "live" in element["id"] and "menu-second" in text(element)
    ]
    facts = [
        element["id"]["live"]
        for element in _ids(page)
        if "live" in element["id"] and "They differ by" in text(element)
    ]
    assert len(menus) == len(facts) == 1
    assert facts[0] in changed
    assert menus[0] not in changed


def _changed(before: Any, after: Any) -> set[str]:
    """Names of the parts that a refresh sends from one page to the next."""
    ids = [element["id"] | {"key": element.get("key")} for element in _ids(before)]
    lives = {element["live"]: element["key"] for element in ids if "live" in element}
    page_changes = changes(
        after, Shown(tuple(element["chart"] for element in ids if "chart" in element), lives)
    )
    assert page_changes is not None
    return {
        name for name, part in zip(lives, page_changes.contents, strict=True) if hasattr(part, "children")
    }


def _ids(tree: Any) -> Iterator[dict[str, Any]]:
    for root in json.loads(text(tree)) if not isinstance(tree, (dict, str)) else [tree]:
        stack = [root]
        while stack:
            node = stack.pop()
            if isinstance(node, dict):
                if isinstance(node.get("id"), dict):
                    yield node
                stack += node.values()
            elif isinstance(node, list):
                stack += node


def test_every_measure_of_a_pair_is_that_of_the_matrix(store: Store) -> None:
    estimates = query.pair_measures(
        store, Selection(NOW, a="smelu-3", b="smelu-1", stream="probe", window=900)
    )
    for label in ("top1_swap", "rpd_sym", "consensus_regret"):
        cells = query.matrix(store, Selection(NOW, measure=label, window=900)).cells
        (cell,) = [pair for pair in cells if {pair.a, pair.b} == {"smelu-1", "smelu-3"}]
        assert tuple(estimates[label].value) == pytest.approx(tuple(cell.value))
        # the floor's sums are added in another order, and an end of the interval is a small difference of large sums
        assert tuple(estimates[label].excess) == pytest.approx(tuple(cell.excess), rel=1e-4)


def test_refreshes_are_held_to_what_replicas_differ_by(store: Store) -> None:
    rows = refreshes(store, Selection.between(NOW - 10_800, NOW, measure="top1_swap"))
    assert {refresh.replica for refresh in rows} == set(STABLE_NOISE)
    assert all((refresh.old, refresh.new) == (1, 2) and refresh.baseline is not None for refresh in rows)
    wide = Interval(0.05, 0.03, 0.07)
    assert held(Interval(0.2, 0.15, 0.25), wide) == "above"
    assert held(Interval(0.05, 0.01, 0.2), wide) == "undecided"
    assert held(wide, None) == "no baseline"


def one_request(**changes: Any) -> RequestExemplar:
    values: dict[str, Any] = {
        "time": NOW,
        "stream": "probe",
        "level": "L3",
        "why": "costliest",
        "request": "q",
        "cost": 0.1,
        "replicas": ("a", "b"),
        "versions": (1, 1),
        "items": (("it's; rm -rf /", "$(y)"),) * 2,
        "scores": ((0.5, 0.4),) * 2,
        "context": {"user_id": "`u`", "age": 33.0, "gone": ""},
    }
    return RequestExemplar(**(values | changes))


def test_the_replayed_command_survives_a_shell() -> None:
    deployment = Deployment("other", (Replica("a", "127.0.0.1:8500"),), candidate=("item_id",))
    replayed = replay(one_request(), "a", deployment, None)
    assert shlex.split(replayed.command) == [
        "ranker",
        "rank",
        "--target",
        "127.0.0.1:8500",
        "--model-name",
        "other",
        "--context",
        "user_id=`u`",
        "--context",
        "age=33",
        "--candidate",
        "item_id=$(y)",
        "--candidate",
        "item_id=it's; rm -rf /",
    ]
    assert replayed.missing == ""


def test_a_model_of_any_origin_is_asked_again_as_it_was_asked(tmp_path: Path) -> None:
    deployment = Deployment(
        "shop",
        (Replica("a", "v2+grpc://h:8001"), Replica("b", "json+http://h:1/s")),
        output="logits",
        scale="logit",
    )
    probe = tmp_path / "probe.jsonl"
    rows = [
        {"request": "q", "item_id": item, "user_id": "u7", "price": price}
        for item, price in (("x", 1.5), ("y", None))
    ]
    probe.write_text("".join(json.dumps(row) + "\n" for row in rows))
    exemplar = one_request(items=(("x", "y"),) * 2, context={})
    replayed = replay(exemplar, "a", deployment, probe)
    assert shlex.split(replayed.command)[2:] == [
        "--target",
        "v2+grpc://h:8001",
        "--model-name",
        "shop",
        "--output",
        "logits",
        "--scale",
        "logit",
        "--candidate",
        "item_id=x,user_id=u7,price=1.5",
        "--candidate",
        "item_id=y,user_id=u7",
    ]
    assert replayed.missing == ""
    assert "does not send plain JSON" in replay(exemplar, "b", deployment, probe).missing


def test_what_a_replayed_command_lacks_is_said() -> None:
    replayed = replay(one_request(items=(("a,b",),) * 2, scores=((0.5,),) * 2), "b", None, None)
    assert "HOST:PORT" in replayed.command
    assert "address" in replayed.missing
    assert shlex.split(replayed.command)[-2:] == ["--candidate", '"item_id=a,b"']
    wide = Deployment(
        "ranker", (Replica("a", "127.0.0.1:8500"),), context=("user_id", "city", "gone", "tier")
    )
    assert replay(one_request(stream="live"), "a", wide, None).missing.startswith(
        "of the request city, tier are not kept"
    )


def test_a_live_request_is_replayed_with_what_it_carried() -> None:
    deployment = Deployment(
        "ranker",
        (Replica("a", "127.0.0.1:8500"),),
        context=("user_id",),
        candidate=("item_id", "price", "tags"),
    )
    items = (("i1", "i2"), ("i2", "i1"))
    whole = {"i1": {"price": float(np.float32(18.32)), "tags": "art|film"}, "i2": {"price": None, "tags": ""}}
    live = one_request(stream="live", items=items, context={"user_id": "u1"}, candidates=whole)
    replayed = replay(live, "a", deployment, None)
    assert shlex.split(replayed.command)[4:] == [
        "--context",
        "user_id=u1",
        "--candidate",
        "item_id=i1,price=18.32,tags=art|film",
        "--candidate",
        "item_id=i2",
    ]
    assert replayed.missing == ""
    sliced = one_request(stream="live", items=items, context={}, candidates={n: {"tags": "x"} for n in whole})
    assert replay(sliced, "a", deployment, None).missing == (
        "of the request user_id is not kept; of the candidates price is not kept"
    )


def test_a_broken_report_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    path = tmp_path / "evaluation" / "report.json"
    for content in ("", "[]", "{", '{"arms": []}'):
        path.write_text(content)
        assert read_report(tmp_path) is None
    path.write_text(
        '{"arms": {"x": {"quality": {"auc": {"mean": 0.7, "std": null}}, "divergence": {"rpd_sym": null}}}}'
    )
    report = read_report(tmp_path)
    assert report is not None
    assert report.arms[0].quality["auc"][0] == 0.7


def test_a_table_of_any_rows_is_a_picture() -> None:
    panel = Panel("x", "<b>", [], [{"a": "<i>", "b": None}, {"c": float("nan")}])
    assert "<i>" not in str(picture_of(panel, LIGHT))


def test_a_table_is_exported_as_it_looks_with_times_by_iso_8601(store: Store) -> None:
    for zone in ("", "Europe/Zurich"):
        shown = context(store, Address("refresh", zone=zone))
        with shown_in(zone):
            (panel,) = (panel for panel in PAGES["refresh"].build(shown).panels if panel.key == "refreshes")
            rows = list(csv.DictReader(io.StringIO(panel_csv(panel))))
        assert list(rows[0])[1:] == [
            "Replica",
            "Version",
            "Churn",
            "95% interval",
            "Between replicas",
            "Verdict",
            "Requests",
        ]
        assert rows[0]["Version"].count("→") == 1
        assert rows[0]["Churn"].endswith("%")
        times = [value for row in rows for name, value in row.items() if name.startswith("Time")]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time) for time in times)
        assert seconds_of(times[0], zone) == panel.rows[0]["time"]


def test_a_charts_data_is_exported_whole(store: Store) -> None:
    (panel,) = (p for p in PAGES["overview"].build(context(store, Address())).panels if p.key == "course")
    rows = list(csv.DictReader(io.StringIO(panel_csv(panel))))
    assert {"time", "value", "low", "high", "n"} <= set(rows[0])
    assert [seconds_of(row["time"], "") for row in rows] == [int(row["time"]) for row in panel.rows]
    assert float(rows[0]["value"]) == panel.rows[0]["value"]


def test_headings_that_are_terms_say_what_they_mean(store: Store) -> None:
    page = text(PAGES["refresh"].build(context(store, Address("refresh"))).panels[-1].body)
    assert "What replicas of one version differ from one another" in page
