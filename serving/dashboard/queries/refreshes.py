"""The churn of each refresh, compared with how much replicas differ anyway; and the gate's answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ranker import layout
from ranker.divergence import Interval, standing
from serving.monitor.store import Store, query
from serving.monitor.store.results import Line
from serving.monitor.store.selection import Selection

MARGIN = 0.1
"""How much more than the baseline is tolerated, as the gate does when it is told nothing else."""
Held = Literal["within", "above", "undecided", "no baseline"]


@dataclass(frozen=True)
class Refresh:
    """A replica's new version against the one it replaced.

    Attributes:
        time: seconds since 1970.
        replica: its name.
        old, new: versions.
        churn: the measure between the two versions.
        baseline: the same between replicas at that time; None: unknown.
        held: the churn against the baseline and a tenth of it.
        n: requests.
    """

    time: int
    replica: str
    old: int
    new: int
    churn: Interval
    baseline: Interval | None
    held: Held
    n: int


def refreshes(store: Store, selection: Selection) -> tuple[Refresh, ...]:
    """Refreshes in [start, end), the newest first, with the churn of a measure; only the probe sees both versions."""
    between = query.lines(store, selection)
    lines = {
        (line.b, line.a_version, line.b_version): line
        for line in query.lines(store, selection.to(kind="refresh"))
    }
    result = []
    # the mark has the second at which it was seen, whatever the resolution of the measures is
    for mark in query.events(store, selection):
        line = lines.get((mark.replica, mark.detail.get("old", 0), mark.detail.get("new", 0)))
        if mark.kind != "refresh" or line is None:
            continue
        point = min(line.points, key=lambda point: abs(point.time - mark.time))
        churn = Interval(point.value, point.low, point.high)
        baseline = _baseline(between, mark.time)
        result.append(
            Refresh(
                time=mark.time,
                replica=line.b,
                old=line.a_version,
                new=line.b_version,
                churn=churn,
                baseline=baseline,
                held=held(churn, baseline),
                n=point.n,
            )
        )
    return tuple(sorted(result, key=lambda refresh: (-refresh.time, refresh.replica)))


def held(churn: Interval, baseline: Interval | None) -> Held:
    """Whether a churn is within the baseline and its margin, by the churn's interval.

    Example:
        >>> held(Interval(0.02, 0.015, 0.027), Interval(0.03, 0.02, 0.04))
        'within'
    """
    if baseline is None:
        return "no baseline"
    return standing(churn, baseline.value * (1 + MARGIN))


def _baseline(lines: tuple[Line, ...], time: int) -> Interval | None:
    before = [point for line in lines for point in line.points if point.time <= time]
    if not before:
        return None
    last = max(before, key=lambda point: point.time)
    return Interval(last.value, last.low, last.high)


def gate_answers(run: Path | None, count: int = 20) -> tuple[dict[str, Any], ...]:
    """What `ranker gate` kept in `RUN/gates`, the newest first; a file that cannot be read is left out.

    Args:
        run: the run directory; None: not known.
        count: at most so many.
    """
    if run is None:
        return ()
    answers = []
    for path in sorted(layout.gates_dir(run).glob("*.json"), reverse=True)[:count]:
        try:
            answer = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(answer, dict) and isinstance(answer.get("measures"), dict) and "time" in answer:
            answers.append(answer)
    return tuple(answers)
