"""What the watching commands share: a run's monitor settings, its probe requests, its store, a round in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ranker import layout, wording
from ranker.config.deployment import Monitor, seconds
from ranker.divergence import Interval
from ranker.errors import UserError
from serving.deployment import Deployment
from serving.run_directory import experiment_of

if TYPE_CHECKING:
    from serving.monitor.requests import ProbeSet
    from serving.monitor.run import Summary


def monitor_settings(run: Path, interval: str | None = None, requests: int | None = None) -> Monitor:
    """The run's `monitor` section, with what the command line says instead.

    Raises:
        UserError: `interval` is no duration.
    """
    changes: dict[str, float | int] = {}
    if interval is not None:
        try:
            changes["interval"] = seconds(interval)
        except ValueError as error:
            raise UserError(f"--interval {error}. Received: {interval!r}") from None
    if requests is not None:
        changes["requests"] = requests
    return experiment_of(run).monitor.model_copy(update=changes)


def probe_of(run: Path, deployment: Deployment, settings: Monitor) -> ProbeSet:
    """The run's frozen probe requests, as many as the settings ask for."""
    from serving.monitor.requests import load_probe

    return load_probe(layout.probe_path(run), deployment.item, settings.requests)


def store_of(run: Path, store: str | None) -> str | Path:
    """The store that is asked for, else the run's own."""
    return store if store is not None else layout.monitor_store_path(run)


def sentence(summary: Summary, settings: Monitor) -> str:
    """One round in one line: the verdict, then the round's own numbers."""
    numbers = [
        f"{wording.title(label)} {wording.with_interval(label, Interval(entry['value'], entry['low'], entry['high']))}"
        for label, entry in ((name, summary.measures.get(name)) for name in budget_labels(settings))
        if entry is not None
    ]
    silent = [
        f"{replica}{stream}: {coverage.words}"
        for stream, coverages in (("", summary.coverage), (" (live)", summary.live_coverage))
        for replica, coverage in coverages.items()
        if coverage.answered < coverage.asked
    ]
    refused = [f"{replica} is not compared: {why}" for replica, why in summary.refused.items()]
    answered = (
        f"{wording.count(len(summary.replicas), 'replica')}, {wording.count(summary.requests, 'request')}"
    )
    calls = ", ".join(f"{count:,} {outcome}" for outcome, count in summary.mirrored.items() if count)
    mirrored = [f"mirrored calls: {calls}"] if calls else []
    verdict = summary.verdict.line if summary.verdict is not None else "the store does not answer"
    return f"{verdict} [{'; '.join([answered, *numbers, *silent, *refused, *mirrored])}]"


def budget_labels(settings: Monitor) -> list[str]:
    """Labels of the measures that have a budget."""
    from serving.monitor.status import label_in_store

    return [label_in_store(name, settings.k) for name in settings.budget]
