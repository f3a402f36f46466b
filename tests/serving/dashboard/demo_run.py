"""A whole simulated run: store with both streams, kept requests, alerts, probe, report, gate, deployment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import insert

from ranker import layout
from serving.dashboard import DashboardSettings
from serving.deployment import Deployment, Replica
from serving.monitor.store import Store
from serving.monitor.store.schema import AlertTable
from serving.monitor.store.write import write_round
from tests.serving.dashboard.simulated_store import EVENING, MORNING, NOW, STABLE_NOISE, Simulation, simulate


def demo_run(
    directory: Path,
    *,
    later: Mapping[str, float] | None = None,
    hours: float = 24,
    every: int = 1200,
    **options: object,
) -> DashboardSettings:
    """Writes the run and returns the settings of its dashboard.

    Args:
        directory: the run directory.
        later: replica -> its noise from its last refresh on: the odd one.
        hours: how far back.
        every: seconds from round to round.
        options: of the `Simulation`.
    """
    simulation = Simulation(STABLE_NOISE, **options)  # type: ignore[arg-type]
    store = simulate(
        layout.monitor_store_path(directory),
        simulation,
        hours=hours,
        every=every,
        later=later,
        exemplars=directory / "exemplars",
        refreshes={hour: names for hour, names in (EVENING | MORNING).items() if hour < hours},
    )
    _live(store, simulation, hours, 2 * every)
    _alerts(store, odd=bool(later))
    store.close()
    _probe(directory, simulation)
    _report(directory)
    deployment = Deployment(
        "ranker",
        tuple(Replica(name, f"127.0.0.1:{8500 + place}") for place, name in enumerate(STABLE_NOISE)),
        context=("user_id", "device"),
        candidate=("item_id", "genre"),
    )
    return DashboardSettings(
        layout.monitor_store_path(directory),
        run=directory,
        deployment=deployment,
        refresh=2.0,
        budget={"top1_swap": 0.03, "consensus_regret": 0.0005},
    )


def _live(store: Store, simulation: Simulation, hours: float, every: int) -> None:
    for time in range(NOW - int(hours * 3600), NOW, every):
        write_round(store, simulation.live_round(time).record)


def _alerts(store: Store, odd: bool) -> None:
    rows = [
        ("version-skew", {}, "ticket", "resolved", 9.2, 9.0, 8.2, "replicas serve 2 versions"),
        (
            "coverage-low",
            {"replica": "smelu-1"},
            "page",
            "resolved",
            15.4,
            15.3,
            15.0,
            "smelu-1 answered 84.0% of 400 requests (deadline 64)",
        ),
    ]
    if odd:
        sentence = "smelu-3 is the odd one out: its noise is 18.0 times the median of 5 replicas"
        rows.append(("odd-replica", {"replica": "smelu-3"}, "page", "firing", 8.3, 8.28, 0.0, sentence))
    with store.write() as connection:
        for rule, labels, severity, state, started, fired, resolved, summary in rows:
            connection.execute(
                insert(AlertTable).values(
                    rule=rule,
                    labels=labels,
                    key=f"{rule}{labels}",
                    severity=severity,
                    state=state,
                    started=NOW - int(started * 3600),
                    fired=NOW - int(fired * 3600),
                    resolved=NOW - int(resolved * 3600) if resolved else None,
                    updated=NOW - int(resolved * 3600),
                    silenced=False,
                    value=None,
                    threshold=None,
                    summary=summary,
                    notified=state,
                )
            )


def _probe(directory: Path, simulation: Simulation) -> None:
    probe = simulation.probe
    columns = {name: [str(value) for value in values] for name, values in probe.columns.items()}
    path = layout.probe_path(directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = [probe.requests[n] for n in probe.owner]
    pq.write_table(pa.table({"request": owner, "label": np.zeros(len(owner), np.float32), **columns}), path)


def _report(directory: Path) -> None:
    def arm(auc: float, rpd: float, swap: float, count: int) -> dict[str, object]:
        def interval(value: float) -> dict[str, float]:
            return {"value": value, "low": 0.9 * value, "high": 1.1 * value}

        return {
            "replicas": [{}] * count,
            "quality": {
                "auc": {"mean": auc, "std": 0.0006},
                "logloss": {"mean": 0.512, "std": 0.0011},
                "gauc": {"mean": auc - 0.02, "std": 0.0008},
                "ndcg@10": {"mean": 0.61, "std": 0.002},
            },
            "divergence": {
                "rpd_sym": interval(rpd),
                "top1_swap": interval(swap),
                "set_churn@10": interval(swap / 2),
                "consensus_regret": interval(swap / 40),
            },
        }

    arms = {
        "smelu": arm(0.7921, 0.031, 0.022, 5),
        "relu": arm(0.7918, 0.058, 0.047, 5),
        "gelu": arm(0.7926, 0.036, 0.027, 3),
    }
    report = {
        "sentence": "smelu halves the relative PD of relu at the same AUC.",
        "arms": arms,
        "counts": {"requests": 943},
    }
    path = layout.report_path(directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report))
    measures = {
        label: {
            "verdict": "pass",
            "candidate": {"value": v, "low": 0.8 * v, "high": 1.2 * v},
            "limit": 1.3 * v,
        }
        for label, v in (("top1_swap", 0.021), ("set_churn@10", 0.009), ("consensus_regret", 0.0001))
    }
    layout.gates_dir(directory).mkdir(exist_ok=True)
    for place, verdict in enumerate(("fail", "pass")):
        answer = {
            "time": 1_700_000_000.0 + place,
            "verdict": verdict,
            "requests": 400,
            "candidate": {"source": "new:8500", "version": 2 + place},
            "coverage": {
                "coverage of candidate": {"verdict": "pass", "candidate": {"value": 1.0}, "limit": 1.0}
            },
            "measures": measures,
        }
        (layout.gates_dir(directory) / f"20231114T22132{place}.000000Z.json").write_text(json.dumps(answer))
