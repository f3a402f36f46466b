"""A measure by slice, as bars with intervals."""

from __future__ import annotations

from collections.abc import Sequence

from ranker import wording
from serving.dashboard.figures.bars import interval_bars
from serving.dashboard.figures.style import Figure, Palette
from serving.monitor.store.results import SliceRow


def slice_bars(rows: Sequence[SliceRow], label: str, colors: Palette) -> Figure:
    """One bar a slice, a colour a feature, in the order given from the top."""
    features = list(dict.fromkeys(row.feature for row in rows))
    shown = list(reversed(rows))
    share = wording.is_share(label)
    return interval_bars(
        [f"{row.feature}: {row.value}" for row in shown],
        [wording.clipped(label, row.measured) for row in shown],
        [colors.color(features.index(row.feature)) for row in shown],
        colors,
        scale=100.0 if share else 1.0,
        suffix="%" if share else "",
    )
