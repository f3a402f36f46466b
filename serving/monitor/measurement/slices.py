"""Parts of the requests by a feature's value.

The frozen probe alone decides where a feature is cut. So every round has the same parts, and so has live traffic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranker.errors import UserError
from ranker.slices import Cut, Slice, text_values
from serving.monitor.requests.probe import ProbeSet


def cuts(probe: ProbeSet, features: Sequence[str]) -> tuple[Cut, ...]:
    """How each feature is cut.

    Raises:
        UserError: the probe has no such feature.
    """
    result = []
    for feature in features:
        if feature not in probe.columns:
            raise UserError(
                f"`monitor.slices` must name features of the probe ({', '.join(probe.columns)}). Received: {feature!r}"
            )
        values = probe.columns[feature]
        numeric = values.dtype.kind == "f"
        if not numeric:
            values = text_values(values)
        first = values[probe.offsets[:-1]][probe.owner]
        by_request = bool(
            ((values == first) | (values != values) & (first != first)).all()
        )  # nan is not itself
        if numeric:
            result.append(Cut.of_numbers(feature, by_request, values))
        else:
            result.append(Cut.of_texts(feature, by_request, *np.unique(values, return_counts=True)))
    return tuple(result)


def slices(probe: ProbeSet, features: Sequence[str]) -> tuple[Slice, ...]:
    """The probe's own parts by each feature.

    Raises:
        UserError: the probe has no such feature.
    """
    return tuple(
        part
        for cut in cuts(probe, features)
        for part in cut.slices(cut.parts(probe.columns[cut.feature]), probe.owner, len(probe))
    )
