"""The ranked list of many replicas: clusters, marks, and the page that shows it in place of the matrix."""

from __future__ import annotations

import json

import pytest

from ranker.divergence import Interval
from serving.dashboard.figures.fleet import clusters, fleet_list
from serving.monitor.store.results import ReplicaEstimate


def row(replica, value, width=0.01, n=200):
    interval = Interval(value, value - width, value + width)
    return ReplicaEstimate(replica, 1, interval, interval, n)


def test_replicas_whose_intervals_touch_are_one_cluster_the_worst_first():
    rows = [
        row("a", 0.10),
        row("b", 0.115),
        row("c", 0.30),
        row("d", 0.13),
        row("e", 0.9, 0.5),
        row("f", 0.2, n=0),
    ]
    groups = [[entry.replica for entry in group] for group in clusters(rows)]
    assert groups == [["e"], ["c"], ["d", "b", "a"]]
    assert [len(group) for group in clusters([row(str(n), 0.1) for n in range(100)])] == [100]
    assert clusters([]) == []


def test_a_wide_interval_joins_what_it_covers():
    rows = [row("a", 0.5), row("b", 0.3, width=0.25), row("c", 0.1)]
    assert [[entry.replica for entry in group] for group in clusters(rows)] == [["a", "b", "c"]]


def test_a_thousand_replicas_are_a_short_list_that_names_the_odd_one():
    rows = [row(f"replica-{n:04d}", 0.1) for n in range(1000)] + [row("odd", 0.6)]
    page = json.dumps(
        fleet_list("top1_swap", rows, budget=0.3).to_plotly_json(), default=lambda part: part.to_plotly_json()
    )
    assert page.index("odd") < page.index("replica-0000")
    assert "Cluster 1: 1 replica" in page
    assert "Cluster 2: 1,000 replicas" in page
    assert "and 992 replicas more" in page
    assert page.count("over the budget") == 1
    assert len(page) < 20_000


@pytest.mark.parametrize("rows", [[], [row("a", float("nan"))], [row("a", 0.1, n=0)]])
def test_without_values_it_says_so(rows):
    page = json.dumps(fleet_list("pd_logit", rows, budget=None).to_plotly_json(), default=str)
    assert "is not kept" in page
