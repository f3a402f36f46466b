"""Requests to look at: those in which the models' lists differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ranker.divergence import RequestMeasures
from ranker.layout import REQUEST_SEPARATOR
from ranker.scored.align import AlignedScores

EXAMPLES = 5
EXAMPLE_DEPTH = 10


@dataclass(frozen=True)
class ExampleRequest:
    """A request in which the models' lists differ much.

    Attributes:
        request: its id; several columns side by side.
        candidates: items ranked.
        disagreement: the measure that chose it, the mean over pairs.
        lists: model -> its first items with their scores as given.
    """

    request: str
    candidates: int
    disagreement: float
    lists: dict[str, list[tuple[str, float]]]


def examples_of(measured: RequestMeasures, aligned: AlignedScores) -> list[ExampleRequest]:
    """The requests of a batch, `EXAMPLES` at most, whose disagreement costs most, the costliest first."""
    batch = measured.batch
    if not measured.pairs or not len(batch):
        return []
    values = np.nan_to_num(measured.request_mean(measured.settings.cost), nan=0.0)
    bounds = aligned.request_bounds()
    examples = []
    for position in np.argsort(-values, kind="stable")[:EXAMPLES]:
        if values[position] <= 0:
            break
        request = int(batch.requests[position])
        rows = slice(int(bounds[request]), int(bounds[request + 1]))
        lists = {
            model: [
                (aligned.item_ids[int(aligned.item[rows][place])].as_py(), float(scores[place]))
                for place in np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[:EXAMPLE_DEPTH]
                if not np.isnan(scores[place])
            ]
            for model, scores in zip(aligned.models, aligned.scores[:, rows], strict=True)
        }
        name = request_name(aligned, request)
        examples.append(ExampleRequest(name, int(batch.sizes[position]), float(values[position]), lists))
    return examples


def most_different(examples: Sequence[ExampleRequest]) -> list[ExampleRequest]:
    """The first `EXAMPLES` by disagreement, of equal ones by the request's name."""
    return sorted(examples, key=lambda example: (-example.disagreement, example.request))[:EXAMPLES]


def request_name(aligned: AlignedScores, request: int) -> str:
    """The id of a request, by its position; several columns side by side."""
    return aligned.request_ids[int(request)].as_py().replace(REQUEST_SEPARATOR, " / ")
