"""docker/grafana and docker/prometheus against a running system: embedded servers, Envoy, monitor, Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import yaml

from ranker.config.deployment import Monitor
from ranker.divergence.catalogue import CATALOGUE
from serving.client import RankerClient, ServingError
from serving.dashboard.layout.address import parse
from serving.dashboard.pages import PAGES
from serving.deployment import Deployment, Replica
from serving.monitor.alerts.rules import load_rules
from serving.monitor.requests.probe import probe_set
from serving.monitor.run import run
from serving.server.api import ServerOptions, start
from tests.processes import free_port, wait_until
from tests.serving.gateway.conftest import GatewayProcess
from tests.serving.server.saved_models import save_ranker

DOCKER = Path(__file__).parents[2] / "docker"
DASHBOARD = json.loads((DOCKER / "grafana" / "steady-ranker.json").read_text(encoding="utf-8"))
RULES = yaml.safe_load((DOCKER / "prometheus" / "rules.yaml").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EMPTY_UNTIL_AN_ERROR = {"Alerts of the monitor", "Requests without a usable answer", "Calls that failed"}
ALERTS = """
rules:
  - {name: coverage-low, condition: coverage, below: 0.99, window: 1s, for: 0s}
"""
ROWS = {"item_id": ["c", "a", "b", "?"], "age": [0.5, 0.5, 0.5, 0.5]}


class RunningSystem:
    """What is scraped, and the Prometheus that does it.

    Args:
        directory: for models, stores and configuration.
        ending: what to do in the end, also of a system that did not start whole.
    """

    def __init__(self, directory: Path, ending: ExitStack) -> None:
        self.directory = directory
        self.servers, self.replicas = [], []
        for name, bias in (("low", 0.0), ("middle", 0.2), ("high", 0.5)):
            save_ranker(directory / name / "7", bias)
            monitoring = DOCKER.parent / "configs" / "tf-serving" / "monitoring.config"
            options = ServerOptions(
                port=0,
                rest_api_port=-1,
                model_name="ranker",
                model_base_path=str(directory / name),
                monitoring_config_file=str(monitoring),
            )
            self.servers.append(start(options))
            ending.callback(self.servers[-1].stop, 2)
            self.replicas.append(Replica(name, f"127.0.0.1:{self.servers[-1].port}"))
        self.stop_monitor, mirror, self.rounds = threading.Event(), [], []
        self.metrics_port = free_port()
        (directory / "alerts.yaml").write_text(ALERTS)
        requests = np.repeat([f"r{number}" for number in range(20)], 4)
        items = np.array(["a", "b", "c", "?"] * 20, dtype=object)
        ages = np.linspace(-3, 0, 80).astype(np.float32)
        monitor = threading.Thread(
            target=run,
            args=(
                Deployment("ranker", tuple(self.replicas), candidate=("item_id", "age"), scale="logit"),
                Monitor(interval=1, deadline=2, requests=20, budget={"top1_swap": 0.05}),
                probe_set(requests, {"item_id": items, "age": ages}, "item_id"),
                directory / "monitor.db",
            ),
            kwargs={
                "rules": load_rules(directory / "alerts.yaml"),
                "mirror_listen": "127.0.0.1:0",
                "metrics": f"127.0.0.1:{self.metrics_port}",
                "stop": self.stop_monitor,
                "on_mirror": mirror.append,
                "on_round": self.rounds.append,
            },
        )
        monitor.start()
        ending.callback(monitor.join)
        ending.callback(self.stop_monitor.set)
        wait_until(lambda: bool(mirror))
        replicas_file = directory / "gateway" / "replicas.json"
        self.gateway = GatewayProcess(
            [
                "--listen=127.0.0.1:0",
                "--metrics=127.0.0.1:0",
                f"--replicas-file={replicas_file}",
                *(f"--replica={replica.name}={replica.target}" for replica in self.replicas),
                "--mirror=1",
                f"--monitor=127.0.0.1:{mirror[0]}",
            ],
            replicas_file,
            directory / "gateway.log",
        )
        ending.callback(self.gateway.stop, signal.SIGKILL)
        wait_until(lambda: self.gateway.healthy() == 3)
        self.stop_callers = threading.Event()
        callers = threading.Thread(target=self._call)
        callers.start()
        ending.callback(callers.join)
        ending.callback(self.stop_callers.set)
        self._start_prometheus(ending)

    def _call(self) -> None:
        with RankerClient(self.gateway.target) as client:
            while not self.stop_callers.wait(0.05):
                try:
                    client.predict(ROWS)
                except ServingError:
                    continue

    def _start_prometheus(self, ending: ExitStack) -> None:
        """The project's own configuration with this machine's addresses, and a scrape a second."""
        tree = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8"))
        tree["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
        del tree["alerting"]
        targets = {
            "tf-serving": [f"127.0.0.1:{server.rest_port}" for server in self.servers],
            "gateway": [self.gateway.metrics],
            "monitor": [f"127.0.0.1:{self.metrics_port}"],
        }
        for job in tree["scrape_configs"]:
            (group,) = job["static_configs"]
            group["targets"] = targets.pop(job["job_name"])
        assert not targets
        (self.directory / "prometheus.yaml").write_text(yaml.safe_dump(tree))
        shutil.copy(DOCKER / "prometheus" / "rules.yaml", self.directory / "rules.yaml")
        self._port = free_port()
        command = [
            "prometheus",
            f"--config.file={self.directory / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self.directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=error",
        ]
        prometheus = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ending.callback(prometheus.wait, 60)
        ending.callback(prometheus.terminate)
        wait_until(lambda: self.values("count(up == 1) == 5") != [])

    def values(self, expression: str) -> list[float]:
        """What an expression gives now, without what is not a number."""
        query = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._port}/api/v1/query?{query}", timeout=20
            ) as page:
                result = json.load(page)["data"]["result"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it starts
                return []
            raise AssertionError(f"{expression}: {error.read().decode()}") from None
        except OSError:
            return []
        values = [float(sample["value"][1]) for sample in result]
        return [value for value in values if not np.isnan(value)]


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    if not shutil.which("prometheus"):
        pytest.skip("Prometheus is not installed (apt-get install prometheus)")
    with ExitStack() as ending:
        yield RunningSystem(tmp_path_factory.mktemp("system"), ending)


def expression_of(target: dict, measure: str = "top1_swap", stream: str = "probe") -> str:
    text = target["expr"]
    variables = {"job": "monitor", "deployment": "ranker", "stream": stream, "measure": measure}
    for name, value in variables.items():
        text = text.replace(f"${name}", value)
    assert "$" not in text
    return text


def measures_of(target: dict) -> tuple[str, ...]:
    """The measures of which at least one has a series: a query may be for the measures of one unit."""
    return ("top1_swap", "pd_abs", "pd_logit") if "$measure" in target["expr"] else ("top1_swap",)


@pytest.mark.prometheus
@pytest.mark.timeout(600)
def test_every_panel_shows_something_and_those_for_errors_do_after_one(system):
    declared = {panel["title"] for panel in PANELS if "Empty until an error." in panel["description"]}
    assert declared == EMPTY_UNTIL_AN_ERROR
    targets = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]

    def empty(is_for_errors: bool) -> dict[str, str]:
        return {
            title: target["expr"]
            for title, target in targets
            if (title in EMPTY_UNTIL_AN_ERROR) == is_for_errors
            and not any(system.values(expression_of(target, measure)) for measure in measures_of(target))
        }

    wait_until(lambda: not empty(False), reason=lambda: f"empty: {empty(False)}")
    # these models have no `describe`, so that the monitor's first question has failed already
    assert set(empty(True)) == EMPTY_UNTIL_AN_ERROR - {"Calls that failed"}
    # the variables find their values by these series
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            metric = re.fullmatch(r"label_values\((\w+)(\{.*\})?, (\w+)\)", variable["query"]["query"])
            assert system.values(f'count by ({metric[3]}) ({metric[1]}{{{metric[3]}!=""}})'), variable
    for name in ("low", "middle", "high"):
        assert system.values(f'ranker_replica_coverage{{deployment="ranker", replica="{name}"}}') == [1.0]
    # live calls reach the monitor through the gateway
    assert system.values('ranker:divergence_overall:rate15m{stream="live"}') or system.values(
        'ranker_mirrored_requests_total{outcome="sampled"} > 0'
    )

    with RankerClient(system.replicas[0].target) as client, pytest.raises(ServingError):
        client.predict({"item_id": ["a"]})
    system.servers[2].stop(1)
    wait_until(lambda: not empty(True), reason=lambda: f"empty: {empty(True)}")

    # and every alert of Prometheus's own stands on metrics that exist, some from the first failure on
    for server in system.servers:
        server.stop(1)
    wait_until(lambda: system.values('envoy_cluster_membership_healthy{envoy_cluster_name="replicas"} == 0'))
    failing = 'envoy_cluster_grpc_PredictionService_Predict_14{envoy_cluster_name="replicas"} > 0'
    wait_until(lambda: system.values(failing))
    wait_until(lambda: system.values('ALERTS{alertname="RankerMonitorAlert", deployment="ranker"}'))
    for alert in (
        "RankerGatewayHasNoReplica",
        "RankerReplicaGetsNoCalls",
        "RankerTargetDown",
    ):  # pending at least
        wait_until(lambda alert=alert: system.values(f'ALERTS{{alertname="{alert}"}}'))
    for rule in (rule for group in RULES["groups"] for rule in group["rules"]):
        for metric in set(re.findall(r"(?:ranker|envoy)_\w+|ranker:[\w:]+", rule["expr"])) - {
            "envoy_cluster_name"
        }:
            name = rule.get("alert") or rule["record"]
            wait_until(lambda metric=metric: system.values(metric), reason=lambda: f"{name}: {metric}")  # noqa: B023


def test_a_measure_stands_in_one_unit():
    shown = [panel for panel in PANELS if panel["title"].startswith("$measure")]
    assert len(shown) == 2
    for panel in shown:
        matchers = [
            re.findall(r'measure(=~|!~|=)"([^"$]+)"', target["expr"])
            for target in panel["targets"]
            if target["refId"] in ("share", "probability", "logodds")
        ]
        units = (
            "percentunit",
            *(rule["properties"][0]["value"] for rule in panel["fieldConfig"]["overrides"][:2]),
        )
        assert units == ("percentunit", "suffix: probability", "suffix: log-odds")
        for name, measure in CATALOGUE.items():
            if measure.family == "quality" or name == "bias":
                continue
            chosen = [
                unit
                for unit, conditions in zip(units, matchers, strict=True)
                if all(bool(re.fullmatch(text, name)) != (kind == "!~") for kind, text in conditions)
            ]
            assert len(chosen) == 1, name
            assert chosen[0].removeprefix("suffix: ") in measure.unit or chosen == ["percentunit"], name
            assert (measure.unit.startswith(("log-odds", "probability"))) == (chosen != ["percentunit"]), name


def links_of(tree) -> list[str]:
    if isinstance(tree, dict):
        own = [tree["url"]] if "url" in tree else []
        return own + [url for value in tree.values() for url in links_of(value)]
    return [url for value in tree for url in links_of(value)] if isinstance(tree, list) else []


def test_links_lead_to_pages_of_the_dashboard_and_keep_the_range():
    urls = links_of(DASHBOARD)
    assert len(urls) > 10
    for url in urls:
        path, _, query = url.removeprefix("${dashboard_url}").partition("?")
        query = query.replace("$stream", "live").replace("$measure", "top1_swap")
        query = query.replace("${__field.labels.a}", "low").replace("${__field.labels.b}", "high")
        query = query.replace("${__from:date:iso}", "2025-06-15T15:06:40.000Z")
        query = query.replace("${__to:date:iso}", "2025-06-15T16:06:40.500Z")
        assert "$" not in path + query, url
        view = parse(path, query)
        assert view.page in PAGES, url
        assert ("start=" in query) == (view.fixed is not None), url
        assert view.stream == ("live" if "stream=" in query else "probe")


def test_panels_have_a_description_and_the_chosen_data_source():
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        assert all("deployment=~" in target["expr"] for target in panel["targets"]), panel["title"]


def test_every_alert_has_links_a_section_in_the_docs_and_a_case_that_fires():
    page = (DOCKER.parent / "docs" / "alerts.md").read_text(encoding="utf-8")
    anchors = set(re.findall(r"^### (\S+)$", page, re.M))
    cases = yaml.safe_load((DOCKER / "prometheus" / "rules_test.yaml").read_text(encoding="utf-8"))
    fired = {
        entry["alertname"]
        for case in cases["tests"]
        for entry in case.get("alert_rule_test", ())
        if entry["exp_alerts"]
    }
    alerts = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
    assert {rule["alert"] for rule in alerts} == fired
    for rule in alerts:
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "runbook_url", "dashboard_url"}, rule["alert"]
        anchor = notes["runbook_url"].removeprefix("{{ $externalLabels.runbooks }}#")
        assert anchor in anchors or anchor == "{{ $labels.rule }}"
        dashboard, _, query = (
            notes["dashboard_url"].removeprefix("{{ $externalLabels.dashboard }}").partition("?")
        )
        assert parse(dashboard, query).page in PAGES
    for rule in yaml.safe_load((DOCKER.parent / "serving/monitor/alerts/default.yaml").read_text())["rules"]:
        assert rule["name"] in anchors
