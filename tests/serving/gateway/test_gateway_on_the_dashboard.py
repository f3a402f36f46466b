"""What a dashboard says of a real gateway: mirrors that it dropped, and how much of live traffic was compared."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

from plotly.utils import PlotlyJSONEncoder

from ranker.divergence import Settings
from serving.dashboard import DashboardSettings
from serving.dashboard.address import Address
from serving.dashboard.context import Context
from serving.dashboard.figures.style import LIGHT
from serving.dashboard.pages import overview
from serving.monitor.live import ingest
from serving.monitor.store import open_store
from tests.serving.gateway.test_gateway_mirroring import predict

CALLS = 24


def health(store, gateway: str | None):
    """The panel's text and its rows by replica."""
    settings = DashboardSettings("unused.db", gateway=gateway)
    context = Context(store, settings, Address(stream="live"), LIGHT, time.time())
    (panel,) = (one for one in overview.build(context).panels if one.key == "health")
    return json.dumps(panel.body, cls=PlotlyJSONEncoder), {row["replica"]: row for row in panel.rows}


def test_dropped_mirrors_and_coverage_of_a_real_gateway(fake_replica, gateway, tmp_path):
    replicas = [fake_replica(name="fast"), fake_replica(name="slow", delay=0.3)]
    running = gateway(replicas, mirror={"rate": 1.0, "queue": 1, "workers": 1, "deadline": 0.15})
    with ThreadPoolExecutor(CALLS) as pool:
        list(pool.map(lambda n: predict(running.target, f"call-{n}"), range(CALLS)))

    def count(event: str, **labels: str) -> float:
        return running.metric(f"ranker_gateway_mirror_{event}_total", **labels)

    running.wait_until(lambda: count("dropped", reason="queue") + count("compared") == CALLS)
    dropped = int(count("dropped", reason="queue"))
    assert dropped > 0
    store = open_store(tmp_path / "monitor.db")
    said, _ = health(store, f"127.0.0.1:{running.gateway.metrics_port}")
    assert f'"children": "{dropped}", "className": "bad"' in said
    compared = running.mirrored(CALLS - dropped)
    ingest(store, running.options.mirror.spool, Settings(), {})
    said, rows = health(store, None)
    assert "no gateway" in said
    for name, row in rows.items():
        answered = [a.scores is not None for one in compared for a in one.answers if a.replica == name]
        assert row["coverage"] == sum(answered) / len(answered)
        assert f"{100 * row['coverage']:.1f}%" in said
    assert rows["fast"]["coverage"] == 1.0 > rows["slow"]["coverage"]
    assert "unknown" in health(store, "127.0.0.1:1")[0]
    store.close()
