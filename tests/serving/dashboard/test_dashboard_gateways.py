"""What the gateway says on the dashboard, with the real Envoy; several deployments in one dashboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from ranker.errors import UserError
from serving.dashboard import DashboardSettings, create_app, create_app_of_several
from serving.dashboard.queries import gateway as gateway_queries
from serving.dashboard.queries.gateway import GatewayReader
from serving.deployment import from_targets
from tests.processes import free_port, wait_until
from tests.serving.dashboard.live_dashboard import listening
from tests.serving.dashboard.simulated_store import NOW
from tests.serving.gateway.conftest import Callers, gateway, ranker, replica_process  # noqa: F401


@dataclass
class Clock:
    """Seconds that a test moves."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_who_gets_calls_is_what_envoy_does(gateway, replica_process, quiet_store):  # noqa: F811
    replicas = [replica_process(name) for name in ("a", "b", "c")]
    running = gateway(replicas)
    clock = Clock()
    names = {replica.target: replica.name for replica in replicas}
    reader = GatewayReader([running.metrics], names, clock)

    def state():
        clock.seconds += 10
        (seen,) = reader.states()
        assert seen.problem == ""
        return seen

    def getting_calls():
        return {replica.name for replica in state().replicas if replica.gets_calls}

    first = state()
    assert (first.healthy, first.drained, first.calls_a_second, first.failed) == (3, 0, None, 0)
    assert [replica.name for replica in first.replicas] == ["a", "b", "c"]
    with Callers(running.target, threads=2) as callers:
        callers.answered(100)
    wait_until(lambda: state().calls >= 100)
    assert state().calls_a_second > 0
    assert sum(replica.calls for replica in state().replicas) >= 100
    done = ranker("gateway", "drain", "b", f"--replicas-file={running.replicas_file}")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: getting_calls() == {"a", "c"})
    assert (state().healthy, state().drained) == (2, 1)
    replicas[2].kill()
    wait_until(lambda: getting_calls() == {"a"})

    settings = DashboardSettings(
        quiet_store,
        gateways=(running.metrics, f"127.0.0.1:{free_port()}"),
        deployment=from_targets([f"{replica.name}={replica.target}" for replica in replicas]),
    )
    with (
        listening(create_app(settings, clock=lambda: NOW)) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        here, nowhere = client.get("/api/gateways").json()
        assert [replica["gets_calls"] for replica in here["replicas"]] == [True, False, False]
        assert (here["drained"], here["problem"]) == (1, "")
        assert "refused" in nowhere["problem"]
        rows = client.get("/api/views/overview/gateway.csv").text.splitlines()
        assert rows[0] == "Gateway,Replica,Address,Gets calls,Calls a second,Tries,Failed"
        assert len(rows) == 4


REPLICAS = 'envoy_cluster_name="replicas"'
PAGE = f"""
envoy_cluster_membership_total{{{REPLICAS}}} 1
envoy_cluster_membership_healthy{{{REPLICAS}}} 1
envoy_cluster_endpoint_healthy{{{REPLICAS},envoy_endpoint_address="10.0.0.7:8500",envoy_endpoint_hostname="smelu-0"}} 1
envoy_cluster_endpoint_healthy{{envoy_cluster_name="monitor",envoy_endpoint_address="10.0.0.9:8602"}} 0
envoy_cluster_grpc_PredictionService_Predict_total{{{REPLICAS}}} %d
envoy_cluster_grpc_PredictionService_Predict_success{{{REPLICAS}}} %d
"""


def test_rates_names_and_a_gateway_that_was_started_again(monkeypatch):
    clock, counts = Clock(), [(100, 90)]
    monkeypatch.setattr(gateway_queries, "_page", lambda _: PAGE % counts[-1])
    reader = GatewayReader(["gateway:8601"], {"smelu-0:8500": "smelu-0"}, clock)

    def after(seconds, total, succeeded):
        clock.seconds += seconds
        counts.append((total, succeeded))
        (state,) = reader.states()
        return state

    (first,) = reader.states()
    assert [(replica.name, replica.gets_calls) for replica in first.replicas] == [("smelu-0", True)]
    assert (first.calls, first.failed, first.calls_a_second) == (100, 10, None)
    assert after(2, 500, 500).calls == 100  # read again only after five seconds
    second = after(8, 200, 180)
    assert (second.calls_a_second, second.failed_a_second) == (10.0, 1.0)
    assert after(10, 5, 5).calls_a_second is None  # its counters began anew
    assert after(10, 25, 25).calls_a_second == 2.0


@pytest.mark.parametrize("page", ["", "<html>", "up 1\n"])
def test_a_page_that_is_none_of_a_gateway_says_so(monkeypatch, page):
    monkeypatch.setattr(gateway_queries, "_page", lambda _: page)
    (state,) = GatewayReader(["gateway:8601"], {}).states()
    assert "not the metrics of a ranker gateway" in state.problem


def test_a_gateway_without_a_port_is_one_line(quiet_store):
    with pytest.raises(UserError, match="gateway's metrics page"):
        DashboardSettings(quiet_store, gateways=("gateway",))


@pytest.fixture(scope="module")
def several(quiet_store: Path) -> Iterator[httpx.Client]:
    """Two deployments below a proxy's path, one of them without a store's history of its own."""
    settings = [
        DashboardSettings(quiet_store, name=name, path_prefix="/watch", token="open-says-me")
        for name in ("Films · production", "books")
    ]
    app = create_app_of_several(settings, clock=lambda: NOW)
    with listening(app) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield client


TOKEN = {"authorization": "Bearer open-says-me"}


def test_several_deployments_are_dashboards_of_their_own(several):
    assert several.get("/watch/").headers["location"] == "/watch/films-production/"
    for slug, name in (("films-production", "Films · production"), ("books", "books")):
        page = several.get(f"/watch/{slug}/pair", headers=TOKEN)
        assert f'<base href="/watch/{slug}/">' in page.text
        assert several.get(f"/watch/{slug}/api/summary", headers=TOKEN).json()["state"]
        assert several.get(f"/watch/{slug}/api/summary").status_code == 401
        layout = several.get(f"/watch/{slug}/_dash-layout", headers=TOKEN)
        assert layout.status_code == 200
        export = rendered_page(several, slug)
        assert f"{slug}-overview-course" in export
        for path in ("/watch/films-production/", "/watch/books/"):
            assert f'"{path}' in export
        assert name in export
    assert several.get("/watch/records/").status_code == 404
    assert several.get("/watch/healthz").json()["deployments"] == {"/films-production": 200, "/books": 200}


def rendered_page(client, slug):
    """What the one callback gives for the overview, as text."""
    dependencies = client.get(f"/watch/{slug}/_dash-dependencies", headers=TOKEN).json()
    (callback,) = [entry for entry in dependencies if "page.children" in entry["output"]]
    values = {
        "address.pathname": f"/watch/{slug}/",
        "address.search": "?stream=probe",
        "theme.data": "light",
        "tick.n_intervals": 0,
    }
    inputs = [
        {
            "id": entry["id"],
            "property": entry["property"],
            "value": values[f"{entry['id']}.{entry['property']}"],
        }
        for entry in callback["inputs"]
    ]
    outputs = [
        {"id": "page", "property": "children"},
        {"id": "page", "property": "className"},
        {"id": "figures", "property": "data"},
        [],
        [],
        {"id": "moment", "property": "data"},
    ]
    body = {
        "output": callback["output"],
        "outputs": outputs,
        "inputs": inputs,
        "changedPropIds": ["address.pathname"],
        "state": [[], [], []],
    }
    answer = client.post(f"/watch/{slug}/_dash-update-component", json=body, headers=TOKEN)
    assert answer.status_code == 200, answer.text[:500]
    return json.dumps(answer.json(), ensure_ascii=False)


def test_deployments_of_one_dashboard_differ_in_name(quiet_store):
    with pytest.raises(UserError, match="names that differ"):
        create_app_of_several([DashboardSettings(quiet_store, name=name) for name in ("a b", "a-b")])
