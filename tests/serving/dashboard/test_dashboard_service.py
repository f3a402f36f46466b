"""What answers which path, and who is let in."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from sqlalchemy import insert

from ranker.errors import UserError
from serving.dashboard import DashboardSettings, create_app, run
from serving.dashboard.web.app import MOST_BYTES
from serving.monitor.store import open_store
from serving.monitor.store.schema import AlertTable
from tests.processes import wait_until
from tests.serving.dashboard.live_dashboard import listening
from tests.serving.dashboard.simulated_store import NOW


def test_healthz_says_how_old_the_newest_round_is(client: httpx.Client) -> None:
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "store": "reachable",
        "newest_round": NOW - 20,
        "age_seconds": 20,
        "stale": False,
        "stale_after_seconds": 1800.8,
        "rounds_dropped": 0,
        "mirrored_last_hour": {},
    }


def test_metrics_are_in_prometheus_form(client: httpx.Client) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert any(line.startswith("# TYPE ranker_") for line in answer.text.splitlines())


def test_summary_has_the_verdict_and_every_measure(client: httpx.Client) -> None:
    summary = client.get("/api/summary").json()
    swap = summary["measures"]["top1_swap"]
    assert summary["state"] in ("STABLE", "UNSTABLE", "NOT ENOUGH DATA")
    assert swap["value"]["low"] <= swap["value"]["value"] <= swap["value"]["high"]
    assert swap["n"] == 120
    assert {replica["replica"] for replica in summary["replicas"]} == {f"smelu-{i}" for i in range(5)}
    assert summary["newest_coverage"] == {f"smelu-{i}": 1.0 for i in range(5)}
    assert summary["sentence"].startswith(summary["state"] + ": ")


def test_series_are_bounded_in_points_and_time(client: httpx.Client) -> None:
    lines = client.get("/api/series", params={"points": 10, "seconds": 7200}).json()
    assert lines
    assert all(len(line["points"]) <= 11 for line in lines)  # the first and last cell may be partial
    for params in ({"points": 2001}, {"points": 0}, {"seconds": 401 * 86_400}, {"seconds": -1}):
        assert client.get("/api/series", params=params).status_code == 422


def test_what_an_api_caller_got_wrong_is_said_in_one_line(client: httpx.Client) -> None:
    answer = client.get("/api/matrix", params={"measure": "nonsense"})
    assert answer.status_code == 422
    assert "nonsense" in answer.json()["detail"]
    for path in ("/api", "/api/sumary", "/api/views/overview"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json"), path


def test_openapi_describes_every_route(client: httpx.Client) -> None:
    described = client.get("/api/openapi.json").json()["paths"]
    assert {"/api/summary", "/api/matrix", "/api/series", "/healthz", "/metrics"} <= set(described)
    assert all(operation.get("summary") for way in described.values() for operation in way.values())


def test_views_come_as_csv_json_and_figure(client: httpx.Client) -> None:
    rows = list(csv.DictReader(io.StringIO(client.get("/api/views/overview/matrix.csv").text)))
    assert len(rows) == 10
    assert {"a", "b", "value", "value_low", "excess", "n"} <= set(rows[0])
    assert len(client.get("/api/views/overview/matrix.json").json()) == 10
    figure = client.get("/api/views/overview/course.figure", params={"theme": "dark"}).json()
    assert figure["data"]
    assert client.get("/api/views/overview/none.csv").status_code == 422
    assert client.get("/api/views/nowhere/matrix.csv").status_code == 422


def test_nothing_on_a_page_comes_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/")
    assert "http://" not in page.text.replace(str(client.base_url), "")
    assert "https://" not in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]


def test_plotly_comes_compressed_once_and_for_ever(client: httpx.Client) -> None:
    path = re.search(r'data-plotly="(plotly-[0-9a-f]{16}\.js)"', client.get("/").text)
    assert path is not None
    packed = client.get(f"/{path[1]}", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "immutable" in packed.headers["cache-control"]
    plain = client.get(f"/{path[1]}", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.text == packed.text
    assert client.get("/plotly-0000000000000000.js").headers["content-type"].startswith("text/html")


def test_a_token_is_asked_for_everywhere_but_for_health(quiet_store: Path) -> None:
    app = create_app(DashboardSettings(quiet_store, token="open-says-me"), clock=lambda: NOW)
    with listening(app) as address, httpx.Client(base_url=address) as client:
        assert client.get("/healthz").status_code == 200
        for path in ("/", "/api/summary", "/metrics", "/_dash-layout", "/assets/style.css"):
            assert client.get(path).status_code == 401
        assert client.get("/api/summary", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert "password" in client.get("/", headers={"accept": "text/html"}).text
        assert client.post("/sign-in", data={"token": "wrong"}).status_code == 401
        signed = client.post("/sign-in", data={"token": "open-says-me"})
        assert signed.status_code == 303
        cookie = signed.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "open-says-me" not in cookie
        assert client.get("/api/summary").status_code == 200
        client.cookies.clear()
        assert client.get("/api/summary").status_code == 401


def test_a_store_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must exist") as caught:
        create_app(DashboardSettings(tmp_path / "none.db"))
    assert "\n" not in str(caught.value)


def test_an_unreachable_store_is_not_healthy(tmp_path: Path) -> None:
    path = tmp_path / "monitor.db"
    open_store(path).close()
    app = create_app(DashboardSettings(path))
    with listening(app) as address:
        assert httpx.get(f"{address}/healthz").json()["newest_round"] is None
        path.write_bytes(b"not a database, and longer than a page header " * 100)
        for extra in ("-wal", "-shm"):
            path.with_name(path.name + extra).unlink(missing_ok=True)
        answer = httpx.get(f"{address}/healthz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "store unreachable"


def test_a_port_in_use_is_one_line(client: httpx.Client, quiet_store: Path) -> None:
    with pytest.raises(UserError, match="cannot listen") as caught:
        run([DashboardSettings(quiet_store)], port=client.base_url.port or 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"refresh": 0}, {"monitor_window": -1}, {"token": " "}, {"budget": {"top1_swap": float("nan")}}]
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match="Received"):
        DashboardSettings("x.db", **wrong)  # type: ignore[arg-type]


def test_the_process_loads_no_tensorflow_and_ends_on_sigterm(quiet_store: Path) -> None:
    program = (
        "import sys\n"
        "from serving.dashboard import DashboardSettings, run\n"
        "def print_address(address):\n"
        "    print(address, flush=True)\n"
        f"run([DashboardSettings({str(quiet_store)!r})], port=0, on_listen=print_address)\n"
        "assert not {'tensorflow', 'apache_beam', 'pipelines'} & set(sys.modules)\n"
        "print('ended', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        wait_until(lambda: httpx.get(f"{address}healthz").status_code == 200)
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert rest.strip() == "ended"
    assert process.returncode == 0


def _store_with_an_alert(directory: Path) -> tuple[Path, int]:
    path = directory / "monitor.db"
    store = open_store(path)
    with store.write() as connection:
        number = connection.execute(
            insert(AlertTable)
            .values(
                rule="odd-replica",
                labels={"replica": "b"},
                key="k",
                severity="page",
                state="firing",
                started=NOW - 60,
                fired=NOW - 60,
                resolved=None,
                updated=NOW,
                notified="firing",
                silenced=False,
                value=None,
                threshold=None,
                summary="b is odd",
            )
            .returning(AlertTable.id)
        ).scalar_one()
    store.close()
    return path, number


def test_alerts_are_acknowledged_and_silenced_over_the_api(tmp_path: Path) -> None:
    path, number = _store_with_an_alert(tmp_path)
    with (
        listening(create_app(DashboardSettings(path), clock=lambda: NOW)) as address,
        httpx.Client(base_url=address) as client,
    ):
        assert client.post(f"/api/alerts/{number}/acknowledge", json={"author": " "}).status_code == 422
        assert client.post("/api/alerts/999/acknowledge", json={"author": "Ada"}).status_code == 422
        assert client.post(f"/api/alerts/{number}/acknowledge", json={"author": "Ada"}).status_code == 200
        (alert,) = client.get("/api/alerts", params={"state": "firing"}).json()
        assert alert["acknowledged_by"] == "Ada"
        new_silence = {
            "rule": "odd-replica",
            "labels": {"replica": "b"},
            "hours": 2,
            "author": "Ada",
            "comment": "retraining",
        }
        for wrong in ({"hours": 0}, {"hours": 24 * 91}, {"comment": ""}, {"author": ""}):
            assert client.post("/api/silences", json=new_silence | wrong).status_code == 422, wrong
        created = client.post("/api/silences", json=new_silence)
        assert created.status_code == 201
        (silence,) = client.get("/api/silences").json()
        assert (silence["rule"], silence["author"], silence["comment"]) == (
            "odd-replica",
            "Ada",
            "retraining",
        )
        assert client.delete(f"/api/silences/{silence['id']}").status_code == 204
        assert client.delete(f"/api/silences/{silence['id']}").status_code == 422
        assert client.get("/api/silences").json() == []


def test_another_sites_page_cannot_act_in_a_readers_name(tmp_path: Path) -> None:
    path, number = _store_with_an_alert(tmp_path)
    with (
        listening(create_app(DashboardSettings(path), clock=lambda: NOW)) as address,
        httpx.Client(base_url=address) as client,
    ):
        act = f"/api/alerts/{number}/acknowledge"
        foreign = client.post(act, json={"author": "Eve"}, headers={"origin": "http://evil.example"})
        form = client.post(act, content='{"author": "Eve"}', headers={"content-type": "text/plain"})
        assert (foreign.status_code, form.status_code) == (422, 422)
        assert client.post(act, json={"author": "Ada"}, headers={"origin": address}).status_code == 200


def test_a_trusted_proxy_says_who_acts(tmp_path: Path) -> None:
    path, number = _store_with_an_alert(tmp_path)
    settings = DashboardSettings(path, trust_header="X-Forwarded-User")
    with (
        listening(create_app(settings, clock=lambda: NOW)) as address,
        httpx.Client(base_url=address) as client,
    ):
        act = f"/api/alerts/{number}/acknowledge"
        assert client.post(act, json={"author": "Eve"}).status_code == 422
        assert (
            client.post(act, json={"author": "Eve"}, headers={"x-forwarded-user": "ada"}).json()[
                "acknowledged_by"
            ]
            == "ada"
        )


def test_a_silent_monitor_is_an_alert_and_never_nothing(quiet_store: Path) -> None:
    late = NOW + 3600
    with listening(create_app(DashboardSettings(quiet_store), clock=lambda: late)) as address:
        (alert,) = httpx.get(f"{address}/api/alerts", params={"state": "firing"}).json()
        assert (alert["rule"], alert["state"]) == ("no-data", "firing")
        summary = httpx.get(f"{address}/api/summary").json()
        assert summary["state"] == "STALE"
        metrics = httpx.get(f"{address}/metrics").text
        assert 'ranker_verdict{state="STALE"} 1.0' in metrics
        (line,) = [line for line in metrics.splitlines() if line.startswith("ranker_alerts{")]
        assert 'rule="no-data",severity="page",state="firing"' in line


def test_a_dashboard_works_below_a_path_whether_the_proxy_strips_it_or_not(quiet_store: Path) -> None:
    app = create_app(DashboardSettings(quiet_store, path_prefix="/a/ranker"), clock=lambda: NOW)
    with listening(app) as address, httpx.Client(base_url=address) as client:
        for below in ("/a/ranker", ""):
            page = client.get(f"{below}/")
            assert '<base href="/a/ranker/">' in page.text
            assert 'src="/a/ranker/_dash-component-suites/' in page.text
            for path in ("/healthz", "/api/summary", "/assets/style.css", "/_dash-layout", "/pair"):
                assert client.get(below + path).status_code == 200, below + path
    for wrong in ("ranker", "/ranker/", "/a b", '/"><script>'):
        with pytest.raises(UserError, match="path_prefix"):
            DashboardSettings(quiet_store, path_prefix=wrong)


def test_signing_in_says_what_is_wrong_and_goes_on_to_the_link(quiet_store: Path) -> None:
    app = create_app(
        DashboardSettings(quiet_store, token="open-says-me", path_prefix="/r"), clock=lambda: NOW
    )
    with listening(app) as address, httpx.Client(base_url=address) as client:
        response = client.get("/r/pair?a=x&b=%22%3E", headers={"accept": "text/html"})
        assert 'value="/pair?a=x&amp;b=%22%3E"' in response.text
        wrong = client.post("/r/sign-in", data={"token": "wrong", "next": "/pair?a=x"})
        assert "not the token" in wrong.text
        assert 'value="/pair?a=x"' in wrong.text
        for link, goes in (
            ("/pair?a=x", "/r/pair?a=x"),
            ("//evil.example", "/r/"),
            ("https://evil.example", "/r/"),
            ("/\\evil.example", "/r/"),
            ("/x\r\nset-cookie: a=b", "/r/"),
        ):
            signed = client.post("/r/sign-in", data={"token": "open-says-me", "next": link})
            assert (signed.status_code, signed.headers["location"]) == (303, goes), link


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_others_may_not_look_without_a_token(quiet_store: Path, host: str) -> None:
    with pytest.raises(UserError, match="must have a token") as caught:
        run([DashboardSettings(quiet_store)], host=host, port=0)
    assert "\n" not in str(caught.value)


def test_long_requests_are_refused_before_they_are_read(client: httpx.Client) -> None:
    update = "/_dash-update-component"
    assert client.post(update, content=b"x" * (MOST_BYTES + 1)).status_code == 413
    assert client.post(update, content=iter([b"x", b"y"])).status_code == 411
    assert client.post(update, content=b"{").status_code == 500


def test_every_other_path_is_a_page(client: httpx.Client) -> None:
    for path in ("/", "/pairs", "/no/such/page"):
        assert client.get(path).text.startswith("<!DOCTYPE html>")
    assert client.get("/api/nothing").status_code == 404
