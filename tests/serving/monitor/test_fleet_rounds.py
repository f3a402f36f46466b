"""Rounds of a fleet: measured by a design of pairs, kept in few bytes, judged as a few replicas are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import func, select

from ranker.divergence import Settings
from serving.monitor.alerts.evaluation import evaluate_and_send
from serving.monitor.alerts.rules import load_rules
from serving.monitor.judgement.status import read_status
from serving.monitor.measurement.measure import measure
from serving.monitor.measurement.slices import slices
from serving.monitor.store import query
from serving.monitor.store.rollup import Retention, roll_up
from serving.monitor.store.schema import Cell, Count, Round, SubjectTable
from serving.monitor.store.selection import Selection
from serving.monitor.store.write import write_round

FLEET = 40
BUDGET = {"top1_swap": 0.05, "consensus_regret": 0.005}


@pytest.fixture
def fleet(simulate):
    noise = np.full(FLEET, 0.2)
    noise[17] = 1.0
    return simulate(noise)


def write(store, simulation, times, served=None, **changes):
    """Measures and stores a round at each time; returns the last, and what was served."""
    served, measured = served or {}, None
    for time in times:
        measured = measure(
            simulation.round(time, **changes),
            Settings(),
            slices(simulation.probe, ("age",)),
            served,
            interval=60.0,
        )
        served = measured.served
        write_round(store, measured.record)
    return measured, served


def test_a_round_keeps_the_whole_and_every_replica_but_no_pairs(fleet, store, start):
    measured, _ = write(store, fleet, [start + 60])
    kinds = Counter(key.kind for key in measured.record.statistics)
    assert kinds == {"all": 3, "again": 1, "batch": 1}  # all requests and two slices
    assert measured.record.fleet.sums["component"].shape == (FLEET, 6)
    assert measured.summary["top1_swap"]["low"] < measured.summary["top1_swap"]["value"]
    with store.read() as connection:
        assert (
            connection.execute(select(func.count()).select_from(Cell)).scalar() == 9
        )  # six, and three running totals
    now = start + 61
    assert query.pairs(store, Selection(now), ["top1_swap"]) == {"top1_swap": ()}
    assert len(query.odd_one_out(store, Selection(now)).components) == FLEET
    means = query.replica_means(store, Selection(now), ["top1_swap", "component"])
    assert [rows[0].replica for rows in means.values()] == ["m17", "m17"]
    assert {row.value for row in query.slices(store, Selection(now, measure="top1_swap"))} == {"20", "30"}


def test_what_is_read_is_what_was_measured(fleet, store, start):
    measured, _ = write(store, fleet, [start + 60])
    components = {row.replica: row for row in query.odd_one_out(store, Selection(start + 61)).components}
    sums = measured.record.fleet.sums["component"]
    for place, member in enumerate(measured.record.fleet.members):
        n, total, _, weight, *_ = sums[place]
        assert components[member.replica].n == n
        # the store keeps the 24 bits of a float32
        assert components[member.replica].value.value == pytest.approx(total / weight, rel=1e-6)
    whole = query.snapshot(store, Selection(start + 61)).measures["top1_swap"]
    assert whole.value.value == pytest.approx(measured.summary["top1_swap"]["value"])
    assert whole.floor.value == 0


def test_the_odd_replica_is_named_and_pages(fleet, store, start):
    write(store, fleet, [start + 60 * n for n in range(1, 6)])
    now = start + 301.0
    status = read_status(store, BUDGET, Selection(now))
    assert status.verdict.state == "UNSTABLE"
    assert status.verdict.sentence.startswith("m17 is odd")
    assert status.verdict.replicas[0] == "m17"
    assert (status.verdict.answering, status.verdict.asked) == (FLEET, FLEET)
    rules = load_rules()
    for moment in (now, now + 61):
        evaluate_and_send(store, rules, BUDGET, moment)
    fired = {(alert.rule, alert.labels.get("replica")) for alert in query.alerts(store, state="firing")}
    assert ("odd-replica", "m17") in fired
    assert {replica for rule, replica in fired if rule == "odd-replica"} == {"m17"}


def test_a_replica_over_the_budget_is_named_though_it_is_not_odd(simulate, store, start):
    simulation = simulate(np.r_[np.full(39, 0.3), 0.45], requests=200)
    write(store, simulation, [start + 60])
    swaps = query.replica_means(store, Selection(start + 61), ["pd_abs"])["pd_abs"]
    mean = query.snapshot(store, Selection(start + 61)).measures["pd_abs"].value
    budget = (mean.high + swaps[0].value.low) / 2
    assert swaps[0].replica == "m39"
    assert mean.high < budget < swaps[0].value.low
    status = read_status(store, {"pd_abs": budget}, Selection(start + 61))
    assert status.odd.odd == ()
    assert status.verdict.state == "UNSTABLE"
    assert status.verdict.sentence.startswith("m39 against all other replicas: ")
    assert status.verdict.replicas == ("m39",)
    agreed = read_status(store, {"pd_abs": 0.9}, Selection(start + 61)).verdict
    assert agreed.state == "STABLE"
    assert "most by m39" in agreed.sentence


def test_silent_replicas_keep_their_place_and_are_counted(fleet, store, start):
    _, served = write(store, fleet, [start + 60])
    nothing = np.zeros(len(fleet.probe), dtype=bool)
    silent = {"version": 0, "answered": nothing, "errors": Counter({"down": len(fleet.probe)})}
    half = np.arange(len(fleet.probe)) % 2 == 0
    partly = {"answered": half, "errors": Counter({"deadline": int((~half).sum())})}
    write(store, fleet, [start + 120, start + 180], served, m3=silent, m4=partly)
    with store.read() as connection:
        groups = connection.execute(select(SubjectTable.id).where(SubjectTable.replica == "*")).all()
    assert len(groups) == 1  # one that is silent does not begin another group
    fresh = query.freshness(store, Selection(start + 181))
    assert len(fresh.outcomes) == FLEET
    assert fresh.outcomes["m3"] == {"asked": 60, "answered": 0, "down": 60}
    assert fresh.outcomes["m5"] == {"asked": 60, "answered": 60}
    coverage = query.coverage(store, Selection(start + 181))
    assert coverage["m3"] == pytest.approx(1 / 3)
    assert coverage["m4"] == pytest.approx(2 / 3)
    assert coverage["m5"] == 1.0
    assert len(coverage) == FLEET
    roll_up(store, start + 3600)
    assert query.coverage(store, Selection(start + 181, window=3000))["m4"] == pytest.approx(2 / 3)
    status = read_status(store, BUDGET, Selection(start + 181))
    assert "m3 does not answer" in " ".join(status.verdict.line.split("; "))
    course = query.count_course(store, Selection.between(start, start + 181))
    assert {row.replica for row in course} == {"(each other replica)", "m3", "m4"}
    assert sum(row.count for row in course if (row.replica, row.kind) == ("m4", "answered")) == 120


def test_a_refresh_of_the_whole_fleet_in_one_round_is_measured_and_begins_a_group(fleet, store, start):
    _, served = write(store, fleet, [start + 60])
    fleet.versions = [2] * FLEET
    measured, _ = write(store, fleet, [start + 120], served)
    refreshes = [key for key in measured.record.statistics if key.kind == "refresh"]
    assert len(refreshes) == len(measured.record.marks) == FLEET
    assert all(measured.record.statistics[key]["top1_swap"].n == 60 for key in refreshes)
    assert query.compared_since(store, Selection(start + 121)) == start + 120
    rows = query.lines(
        store, Selection.between(start, start + 180, measure="component", kind="replica", a="m17")
    )
    assert [(line.a, line.a_version) for line in rows] == [("m17", 1), ("m17", 2)]


def test_two_rounds_measure_different_pairs_and_a_repeated_round_changes_nothing(fleet, store, start):
    first, served = write(store, fleet, [start + 60])
    assert not write_round(store, first.record)
    second, _ = write(store, fleet, [start + 120], served)
    assert first.record.fleet.everyone == second.record.fleet.everyone
    row = next(
        row
        for row in query.lines(
            store, Selection.between(start, start + 180, measure="component", kind="replica", a="m1")
        )
    )
    assert [point.rounds for point in row.points] == [1, 1]
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(Round)).scalar() == 2


def test_rounds_of_a_fleet_roll_up_exactly(fleet, store, start):
    write(store, fleet, [start + 60 * n for n in range(12)])
    before = query.replica_means(store, Selection(start + 721, window=720), ["component"])["component"]
    roll_up(store, start + 7200)
    with store.read() as connection:
        assert (
            connection.execute(select(func.count()).select_from(Cell).where(Cell.resolution == 3600)).scalar()
            > 0
        )
    after = query.replica_means(store, Selection(start + 721, window=720), ["component"])["component"]
    assert [(row.replica, row.n) for row in after] == [(row.replica, row.n) for row in before]
    np.testing.assert_allclose(
        [row.value.value for row in after], [row.value.value for row in before], rtol=1e-12
    )


def test_counts_of_a_fleet_are_few_rows(fleet, store, start):
    write(store, fleet, [start + 60])
    with store.read() as connection:
        rows = connection.execute(select(Count.replica, Count.kind).where(Count.resolution == 60)).all()
    assert len(rows) == 3  # asked and answered of each, and the round itself


def test_a_fleet_of_which_one_replica_answers_has_nothing_to_compare(fleet, store, start):
    silent = {
        "version": 0,
        "answered": np.zeros(len(fleet.probe), dtype=bool),
        "errors": Counter({"down": len(fleet.probe)}),
    }
    measured, _ = write(store, fleet, [start + 60], **{f"m{n}": silent for n in range(1, FLEET)})
    assert measured.summary == {}
    # a replica that does not answer is named
    assert read_status(store, BUDGET, Selection(start + 61)).verdict.state == "UNSTABLE"


def test_thirty_days_of_a_thousand_replicas_fit_into_a_gigabyte(simulate, sqlite_store, start):
    replicas = 200
    simulation = simulate(np.full(replicas, 0.2), requests=30)
    served, records = {}, []
    for number in range(5):
        collected = simulation.round(start + number)
        # inside a batch the scores are others by some roundings: no floor is exactly zero
        answers = tuple(
            replace(
                answer, batched=answer.scores * (1 + simulation.random.normal(0, 1e-6, len(answer.scores)))
            )
            for answer in collected.answers
        )
        measured = measure(replace(collected, answers=answers), Settings(), (), served, interval=60.0)
        served = measured.served
        records.append(measured.record)
    for minute in range(61):
        moment = start + 60 * minute
        write_round(sqlite_store, replace(records[minute % 5], key=f"round/{minute}", time=moment))
    roll_up(sqlite_store, start + 86_400)
    size = func.sum(func.length(Cell.sums) + func.coalesce(func.length(Cell.histogram), 0))
    with sqlite_store.read() as connection:
        totals = connection.execute(
            select(Cell.resolution, size, func.count(Cell.time.distinct())).group_by(Cell.resolution)
        )
        bytes_by_resolution = {resolution: int(total) / times for resolution, total, times in totals}
        outcomes = connection.execute(select(func.max(func.length(Round.outcomes)))).scalar()
        counts = connection.execute(
            select(func.count()).select_from(Count).where(Count.resolution == 60)
        ).scalar()
    kept = Retention()
    # cells that are kept at once after 30 days, with the step from day to day after which old ones are dropped
    cells = {60: kept.minute / 60, 600: kept.ten_minutes / 600, 3600: 30 * 24, 86_400: 30}
    total = sum(cells[resolution] * bytes_by_resolution[resolution] for resolution in cells)
    total += 14 * 24 * 60 * outcomes + (counts / 61) * sum(cells.values()) * 80
    # a thousand replicas are five times as many; a cell's last page of SQLite is half empty
    assert 5 * total + 4096 * sum(cells.values()) < 0.8e9, bytes_by_resolution
