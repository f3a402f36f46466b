"""The metrics page: counters that never go down, bounded labels; promtool; a real Prometheus over a running exporter."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ranker.divergence import Settings
from ranker.errors import UserError
from serving.monitor.measurement.measure import measure
from serving.monitor.prometheus import render, serve_metrics
from serving.monitor.store.write import write_round

DOCKER = Path(__file__).parents[3] / "docker"
RULES = DOCKER / "prometheus" / "rules.yaml"
BUDGET = {"top1_swap": 0.05}


def samples(page: bytes) -> dict:
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def metric(found: dict, name: str, **labels: str) -> float:
    return found[(name, *sorted(labels.items()))]


def add_round(store, simulation, time, **changes):
    record = measure(simulation.round(time, **changes), Settings(), (), {}).record
    write_round(store, record)
    return record


def test_counters_give_the_measures_over_any_window(store, simulate, start):
    simulation = simulate([0.1, 0.1, 0.3], requests=30)
    add_round(store, simulation, start)
    before = samples(render(store, BUDGET))
    second = add_round(store, simulation, start + 60)
    after = samples(render(store, BUDGET))
    (whole,) = [s for key, s in second.statistics.items() if key.kind == "all"]
    for label in ("top1_swap", "rpd_sym", "rpd_ratio"):
        rise = [
            metric(after, name, stream="probe", measure=label)
            - metric(before, name, stream="probe", measure=label)
            for name in ("ranker_divergence_overall_sum_total", "ranker_divergence_overall_weight_total")
        ]
        assert rise[0] / rise[1] == pytest.approx(whole[label].value)
    assert metric(after, "ranker_monitor_requests_total", stream="probe", replica="m0", kind="asked") == 60
    assert metric(after, "ranker_monitor_rounds_total", stream="probe") == 2
    assert metric(after, "ranker_budget", measure="top1_swap") == 0.05
    assert not [key for key in after if ("measure", "bias") in key]


def test_counters_never_go_down_and_labels_do_not_grow_with_versions(sqlite_store, simulate, start):
    simulation = simulate([0.1, 0.1, 0.1], requests=20)
    before: dict = {}
    sizes = set()
    for minute in range(6):
        simulation.versions = [minute + 1] * 3
        add_round(sqlite_store, simulation, start + minute * 60)
        found = samples(render(sqlite_store, BUDGET))
        counters = {key: value for key, value in found.items() if key[0].endswith("_total")}
        assert all(counters[key] >= value for key, value in before.items())
        assert set(before) <= set(counters)
        before = counters
        sizes.add(len(counters))
    assert len(sizes) == 1


def test_an_empty_store_is_a_page_too(sqlite_store):
    assert b"ranker_budget" in render(sqlite_store, BUDGET)


def test_a_port_in_use_is_one_line(sqlite_store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="must be free"):
            serve_metrics(sqlite_store, BUDGET, port=taken.getsockname()[1])


INSTALLED = shutil.which("prometheus") and shutil.which("promtool")
needs_prometheus = pytest.mark.skipif(
    not INSTALLED, reason="Prometheus is not installed (apt-get install prometheus)"
)


@pytest.mark.prometheus
@needs_prometheus
@pytest.mark.parametrize("command", [["check", "rules", "rules.yaml"], ["test", "rules", "rules_test.yaml"]])
def test_promtool_accepts_the_rules(command):
    done = subprocess.run(["promtool", *command], cwd=RULES.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@pytest.fixture
def prometheus(tmp_path, sqlite_store):
    """A real Prometheus that scrapes a running exporter every second; asks it by a function."""
    exporter, thread = serve_metrics(sqlite_store, BUDGET)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shutil.copy(RULES, tmp_path / "rules.yaml")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": "monitor", "static_configs": [{"targets": [f"127.0.0.1:{exporter.server_port}"]}]}
        ],
    }
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    command = [
        "prometheus",
        f"--config.file={tmp_path / 'prometheus.yaml'}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:

        def ask(path, **parameters):
            url = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]

        try:
            yield ask
        finally:
            server.terminate()
            server.wait(30)
            exporter.shutdown()
            exporter.server_close()
            thread.join()


def until(ready, seconds=60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = ready()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.3)
    raise TimeoutError("the condition did not come true")


@pytest.mark.prometheus
@needs_prometheus
def test_a_real_prometheus_scrapes_the_monitor(prometheus, sqlite_store, simulate):
    simulation = simulate([0.1, 0.1, 0.3], requests=30)
    record = add_round(sqlite_store, simulation, time.time())
    until(lambda: prometheus("query", query="ranker_monitor_rounds_total == 1")["result"])
    until(
        lambda: prometheus("query", query="count_over_time(ranker_monitor_rounds_total[1m]) >= 2")["result"]
    )
    for _ in range(3):
        add_round(sqlite_store, simulation, time.time())
    until(lambda: prometheus("query", query="ranker_monitor_rounds_total == 4")["result"])
    (target,) = prometheus("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    (value,) = until(
        # evaluated before the new rounds came it is 0 / 0, which no comparison lets through
        lambda: prometheus("query", query='ranker:divergence_overall:rate15m{measure="rpd_sym"} > 0')[
            "result"
        ]
    )
    (whole,) = [s for key, s in record.statistics.items() if key.kind == "all"]
    assert float(value["value"][1]) == pytest.approx(whole["rpd_sym"].value, rel=0.3)
    for group in prometheus("rules")["groups"]:
        assert [rule["name"] for rule in group["rules"] if rule["health"] == "err"] == []
