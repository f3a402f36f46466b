"""What the watching commands share: a run's monitor settings, its probe requests, its store, a round in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranker import layout, wording
from ranker.config.deployment import Monitor, seconds
from ranker.divergence import Interval
from ranker.errors import UserError
from ranker.storage import is_remote
from serving.deployment import Deployment
from serving.run_directory import experiment_of

if TYPE_CHECKING:
    from serving.monitor.requests.probe import ProbeSet
    from serving.monitor.run import Summary


DEFAULT_STORE = Path("monitor.db")
"""Of a monitor without a run directory, in the working directory; example requests are in `exemplars` beside it."""


def monitor_settings(
    run: Path | None,
    interval: str | None = None,
    requests: int | None = None,
    budget: Sequence[str] | None = None,
) -> Monitor:
    """The run's `monitor` section, with what the command line says instead; without a run the defaults.

    Args:
        run: a run directory; None: there is none.
        interval: a duration.
        requests: how many.
        budget: `MEASURE=LIMIT` texts.

    Raises:
        UserError: `interval` is no duration, or a text of `budget` names no measure or no limit.
    """
    changes: dict[str, Any] = {}
    if interval is not None:
        try:
            changes["interval"] = seconds(interval)
        except ValueError as error:
            raise UserError(f"--interval {error}. Received: {interval!r}") from None
    if requests is not None:
        changes["requests"] = requests
    if budget:
        changes["budget"] = dict(map(_limit, budget))
    settings = experiment_of(run).monitor if run is not None else Monitor()
    return settings.model_copy(update=changes)


def _limit(text: str) -> tuple[str, float]:
    name, _, limit = text.partition("=")
    try:
        Monitor(budget={name: float(limit)})
    except ValueError:
        raise UserError(f"--budget must read MEASURE=LIMIT, the limit >= 0. Received: {text!r}") from None
    return name, float(limit)


def probe_of(
    run: Path | None, deployment: Deployment, settings: Monitor, path: Path | None = None
) -> ProbeSet:
    """The probe requests at `path`, else the run's frozen ones, as many as the settings ask for.

    Raises:
        UserError: the file cannot be read, or neither a run nor a path is given.
    """
    from serving.monitor.requests.probe import load_probe

    if path is None:
        if run is None:
            raise UserError("give --run-dir, or --probe with --replica or --deployment")
        path = layout.probe_path(run)
    return load_probe(path, deployment.item, settings.requests)


def store_of(run: Path | None, store: str | None) -> str | Path:
    """The store that is asked for, else the run's own, else `DEFAULT_STORE`.

    Raises:
        UserError: the run directory is in an object store, where no SQLite file can be.
    """
    if store is not None:
        return store
    if run is not None and is_remote(run):
        raise UserError(
            f"--store must be given: a store cannot be in an object store. Received: --run-dir {run}"
        )
    return layout.monitor_store_path(run) if run is not None else DEFAULT_STORE


def exemplars_of(run: Path | None, store: str | Path) -> Path:
    """Where example requests are kept: in the run directory, else beside a store that is a file, else here."""
    if run is not None:
        return run / "exemplars"
    return (Path() if "://" in str(store) else Path(store).parent) / "exemplars"


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
    messages = [
        f"{replica}: {message}" for replica, kinds in summary.messages.items() for message in kinds.values()
    ]
    refused = [f"{replica} is not compared: {why}" for replica, why in summary.refused.items()]
    answered = (
        f"{wording.count(len(summary.replicas), 'replica')}, {wording.count(summary.requests, 'request')}"
    )
    calls = ", ".join(f"{count:,} {outcome}" for outcome, count in summary.mirrored.items() if count)
    mirrored = [f"mirrored calls: {calls}"] if calls else []
    verdict = summary.verdict.line if summary.verdict is not None else "the store does not answer"
    return f"{verdict} [{'; '.join([answered, *numbers, *silent, *messages, *refused, *mirrored])}]"


def budget_labels(settings: Monitor) -> list[str]:
    """Labels of the measures that have a budget."""
    from serving.monitor.judgement.status import label_in_store

    return [label_in_store(name, settings.k) for name in settings.budget]
