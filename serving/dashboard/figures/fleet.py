"""Many replicas as a ranked list in clusters, in place of a matrix that nobody could read."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html
from dash.development.base_component import Component

from ranker import wording
from serving.dashboard.layout import parts
from serving.monitor.store.results import ReplicaEstimate

MATRIX_UP_TO = 32
"""Replicas that a matrix shows; more are a ranked list."""
_MOST_NAMES = 8
"""Replicas of a cluster that have a row of their own."""
_LONGEST_NAME = 40


def clusters(estimates: Sequence[ReplicaEstimate]) -> list[list[ReplicaEstimate]]:
    """Replicas whose intervals touch, those that differ most first.

    A cluster ends where every interval above is clear of every interval below.

    Args:
        estimates: in any order; those without a value are left out.
    """
    ranked = sorted(
        (row for row in estimates if row.n and row.value.value == row.value.value),
        key=lambda row: (-row.value.value, row.replica),
    )
    highest_below = [float("-inf")] * (len(ranked) + 1)
    for place in range(len(ranked) - 1, -1, -1):
        highest_below[place] = max(highest_below[place + 1], ranked[place].value.high)
    result: list[list[ReplicaEstimate]] = []
    lowest = float("-inf")
    for place, row in enumerate(ranked):
        if not result or highest_below[place] < lowest:
            result.append([])
            lowest = row.value.low
        result[-1].append(row)
        lowest = min(lowest, row.value.low)
    return result


def fleet_list(label: str, estimates: Sequence[ReplicaEstimate], *, budget: float | None) -> Component:
    """A measure of each replica against all others, by cluster.

    Args:
        label: the measure's, or `component` for a replica's own noise.
        estimates: one a replica.
        budget: what is tolerated; None: nothing is marked.
    """
    groups = clusters(estimates)
    if not groups:
        return parts.message("This measure is not kept of each replica of a fleet.")
    rows: list[Component] = []
    for number, group in enumerate(groups, 1):
        span = f"{_amount(label, group[-1].value.value)} to {_amount(label, group[0].value.value)}"
        text = f"Cluster {number}: {wording.count(len(group), 'replica')}"
        if len(group) > 1:
            text += f", {span}"
        rows.append(html.Tr(html.Th(text, scope="rowgroup", colSpan=3), className="cluster"))
        for row in group[:_MOST_NAMES]:
            over = budget is not None and row.excess.low > budget
            interval = f"{_amount(label, row.value.low)} to {_amount(label, row.value.high)}"
            rows.append(
                html.Tr(
                    [
                        html.Th(parts.name(row.replica, _LONGEST_NAME), scope="row"),
                        html.Td(_amount(label, row.value.value) + (" (over the budget)" if over else "")),
                        html.Td(interval),
                    ]
                )
            )
        if len(group) > _MOST_NAMES:
            rest_of_group = f"and {wording.count(len(group) - _MOST_NAMES, 'replica')} more"
            rows.append(html.Tr(html.Td(rest_of_group, colSpan=3)))
    head = html.Tr(
        [
            html.Th("Replica", scope="col"),
            html.Th("Against all others", scope="col"),
            html.Th("95% interval, of all replicas together", scope="col"),
        ]
    )
    return html.Div(
        html.Table([html.Thead(head), html.Tbody(rows)]),
        className="table",
        tabIndex=0,
        role="region",
        **parts.attributes(aria_label="Replicas by how much they differ from all others"),
    )


def _amount(label: str, value: float) -> str:
    return f"{value:.3g}" if label == "component" else wording.amount(label, value)
