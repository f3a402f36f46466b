"""Time is true: where points stand, where lines break, when a refresh was, ranges that stay, the reader's zone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from serving.dashboard.figures.course import unbroken
from serving.dashboard.layout.address import Address, parse
from serving.dashboard.layout.zone import seconds_of, shown_in, text_of, zone_name
from serving.dashboard.queries.refreshes import refreshes
from serving.monitor.store import Store, open_store, query
from serving.monitor.store.results import Line, LinePoint
from serving.monitor.store.rollup import roll_up
from serving.monitor.store.selection import Selection
from serving.monitor.store.write import write_round
from tests.serving.dashboard.simulated_store import NOW, STABLE_NOISE, Simulation

START = NOW - NOW % 86_400 + 3 * 3600 + 7 * 60 + 23
"""Seven minutes and 23 seconds past an hour."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """An hour of rounds a minute, with a refresh in the middle and a way back."""
    opened = open_store(tmp_path_factory.mktemp("times") / "monitor.db")
    simulation = Simulation(dict(list(STABLE_NOISE.items())[:3]), requests=20, candidates=6, slices=())
    first = simulation.round(START)
    simulation.refresh("smelu-1")
    second = simulation.round(START + 20 * 60)
    for minute in range(60):
        time = START + 60 * minute
        measured = second if 20 <= minute < 40 else first
        marks = measured.record.marks if minute == 20 else ()
        write_round(opened, replace(measured.record, key=f"k{time}", time=time, marks=marks, interval=60.0))
    roll_up(opened, START + 3600)
    return opened


@pytest.mark.parametrize("seconds", [3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400])
def test_points_lie_where_rounds_were_in_every_window(store: Store, seconds: int) -> None:
    end = START + 3600
    for points in (60, 400):
        for line in query.courses(
            store, Selection.between(end - seconds, end, stream="probe", points=points), ("top1_swap",)
        )["top1_swap"]:
            assert all(START <= point.time <= START + 59 * 60 for point in line.points)
    (line, *_) = query.lines(store, Selection.between(end - 3600, end, measure="top1_swap"))
    assert line.points[0].time == START  # at the minute's resolution: the very second


@pytest.mark.parametrize("seconds", [7200, 86_400, 7 * 86_400, 30 * 86_400])
def test_a_refresh_has_one_time_in_every_window(store: Store, seconds: int) -> None:
    (refresh,) = refreshes(
        store, Selection.between(START + 3600 - seconds, START + 3600, measure="top1_swap")
    )
    assert (refresh.time, refresh.replica, refresh.old, refresh.new) == (START + 1200, "smelu-1", 1, 2)


def test_a_line_breaks_where_another_version_served(store: Store) -> None:
    lines = query.courses(store, Selection.between(START, START + 3600, stream="probe"), ("top1_swap",))[
        "top1_swap"
    ]
    stretches = sorted((part[0].time, part[-1].time) for part in unbroken(lines))
    assert stretches == [
        (START, START + 19 * 60),
        (START + 20 * 60, START + 39 * 60),
        (START + 40 * 60, START + 59 * 60),
    ]


def test_a_line_breaks_where_nothing_was_measured() -> None:
    times = [*range(0, 600, 60), *range(3000, 3600, 60)]
    points = tuple(LinePoint(time, 0.1, 0.0, 0.2, 10, 1) for time in times)
    line = Line("all", "*", "*", 0, 0, "", "", "", 60, points)
    assert [len(part) for part in unbroken([line])] == [10, 10]
    assert [len(part) for part in unbroken([replace(line, points=points[:10])])] == [10]
    assert unbroken([]) == []


def test_a_fixed_range_is_the_same_tomorrow() -> None:
    address = Address("overview").fix(START, START + 3600)
    path, _, search = address.href.partition("?")
    again = parse(path, search)
    assert again.fixed == (START, START + 3600)
    assert again.to("pair").fixed == again.fixed  # and on every page


@pytest.mark.parametrize(
    ("search", "fixed"),
    [
        ("start=2025-06-15T15:00:00Z&end=2025-06-15T16:00:00Z", (1_749_999_600, 1_750_003_200)),
        ("start=2025-06-15+17:00&end=2025-06-15+18:00&zone=Europe/Zurich", (1_749_999_600, 1_750_003_200)),
        ("start=2025-06-15T16:00:00Z&end=2025-06-15T15:00:00Z", None),
        ("start=2025-06-15T15:00:00Z", None),
        ("start=1970-01-01&end=2025-06-15", None),
        ("start=soon&end=later", None),
        ("start=9999-12-31T23:59:59-23:00&end=9999-12-31T23:59:59-23:30", None),
    ],
)
def test_ranges_are_read_or_left_out(search: str, fixed: tuple[int, int] | None) -> None:
    assert parse("/", search).fixed == fixed


def test_times_are_shown_in_the_readers_zone() -> None:
    assert (text_of(1_750_000_000), zone_name()) == ("2025-06-15 15:06:40", "UTC")
    with shown_in("America/New_York"):
        assert (text_of(1_750_000_000), zone_name()) == ("2025-06-15 11:06:40", "America/New_York")
    with shown_in("No/Where"):
        assert zone_name() == "UTC"
    assert parse("/", "zone=../../etc/passwd").zone == ""
    assert seconds_of("", "") is None


def test_alerts_of_a_fixed_range_are_those_of_its_end(tmp_path: Path) -> None:
    from sqlalchemy import insert

    from serving.monitor.store.schema import AlertTable

    store = open_store(tmp_path / "monitor.db")
    with store.write() as connection:
        connection.execute(
            insert(AlertTable).values(
                rule="r",
                labels={},
                key="k",
                severity="page",
                state="resolved",
                started=NOW,
                fired=NOW + 60,
                resolved=NOW + 600,
                updated=NOW + 600,
                notified="resolved",
                silenced=False,
                value=None,
                threshold=None,
                summary="s",
            )
        )
    seen = {at: [alert.state for alert in query.alerts_at(store, NOW + at)] for at in (-1, 30, 61, 599, 601)}
    assert seen == {-1: [], 30: ["pending"], 61: ["firing"], 599: ["firing"], 601: []}
    store.close()
