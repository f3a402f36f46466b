"""Measures a round of many replicas by a design of pairs: what a fleet's round record is made of. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ranker.divergence import (
    COMPONENT,
    Comparison,
    Design,
    FleetEstimate,
    RequestBatch,
    RequestMeasures,
    Settings,
    estimate_fleet,
    measure_design,
    measure_requests,
)
from serving.monitor.measurement.record import FLOOR_OF, FleetRecord, Subject, group
from serving.monitor.measurement.slices import Slice
from serving.monitor.requests.probe import Array

_SHOWN = 16
"""Replicas whose lists an example request shows: the noisiest, and those that they were paired with."""
_NOISIEST = 4
_FLOORS = ("rpd_sym", "top1_swap", "consensus_regret")
"""Measures that are kept of each replica against itself."""


def measure_fleet(
    batch: RequestBatch, settings: Settings, slices: Sequence[Slice], seed: int
) -> tuple[RequestMeasures, Iterator[tuple[str, str, FleetEstimate]]]:
    """Measures a design of pairs of the batch's replicas.

    Args:
        batch: the answers.
        settings: depth and thresholds.
        slices: parts of the requests to measure apart.
        seed: of the design: another one each round.

    Returns:
        the measures of the pairs; feature, value and estimate of the whole, which has neither, then of each slice.
    """
    design = Design.regular(len(batch.replicas), seed)
    measured = measure_design(batch, design, settings)

    def estimates() -> Iterator[tuple[str, str, FleetEstimate]]:
        yield "", "", estimate_fleet(measured)
        for part in slices:
            if part.by_request:
                of_part, where = measured, part.requests[batch.requests]
            else:
                of_part, where = (
                    measure_design(batch.take_rows(part.rows[batch.rows]), design, settings),
                    None,
                )
            yield part.feature, part.value, estimate_fleet(of_part, where, effects=False)

    return measured, estimates()


def fleet_record(
    members: Sequence[Subject],
    estimate: FleetEstimate,
    floors: Mapping[str, Mapping[str, Array]],
) -> FleetRecord:
    """What is kept of each member.

    Args:
        members: the replicas as they were last seen.
        estimate: of those that answered.
        floors: replica -> label -> six sums of the replica against itself.
    """
    position = {member.replica: place for place, member in enumerate(members)}
    places = [position[replica] for replica in estimate.replicas]
    sums: dict[str, Array] = {}
    for label, rows in estimate.effects.items():
        sums[label] = np.zeros((len(members), rows.shape[1]))
        sums[label][places] = rows
        if label in _FLOORS:
            sums[FLOOR_OF + label] = np.zeros_like(sums[label])
    for replica, by_label in floors.items():
        for label, row in by_label.items():
            if FLOOR_OF + label in sums:
                sums[FLOOR_OF + label][position[replica]] += row
    return FleetRecord(group(list(members)), tuple(members), sums)


def compare_with_themselves(
    batch: RequestBatch, positions: Sequence[tuple[int, int]], settings: Settings
) -> Comparison:
    """Compares chosen pairs of a batch alone, such as a replica with its answers when it was asked again."""
    return measure_requests(batch, settings, pairs=positions).summarise()


def to_show(measured: RequestMeasures, estimate: FleetEstimate) -> RequestMeasures:
    """The pairs of the noisiest replicas, for example requests."""
    if not measured.pairs:
        return measured
    # scores that only order have no noise of their own
    noise = estimate.replica(COMPONENT if COMPONENT in estimate.effects else "top1_swap")
    order = sorted(noise, key=lambda name: -noise[name].value if noise[name].n else 0.0)
    shown = dict.fromkeys(order[:_NOISIEST])
    names = measured.batch.replicas
    for name in order[:_NOISIEST]:
        for i, j in measured.pairs:
            if name in (names[i], names[j]) and len(shown) < _SHOWN:
                shown.update(dict.fromkeys((names[i], names[j])))
    return measured.select(sorted(shown))
