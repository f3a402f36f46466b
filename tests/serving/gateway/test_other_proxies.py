"""docs/proxies.md: what it says is tested, is."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from serving import wire
from tests.processes import free_port, wait_until
from tests.serving.gateway.conftest import ROOT, Callers, call, request_bytes

PAGE = (ROOT / "docs" / "proxies.md").read_text(encoding="utf-8")
NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")


@pytest.fixture
def nginx(tmp_path) -> Iterator[Callable[..., str]]:
    """Runs nginx with the page's configuration in front of two replicas; returns its address."""
    started = []

    def start(replicas, monitor, share: str = "100%") -> str:
        (text,) = re.findall(r"```nginx\n(.*?)```", PAGE, re.S)
        listen = free_port()
        for old, new in (
            ("127.0.0.1:8500", replicas[0].target),
            ("127.0.0.1:8501", replicas[1].target),
            ("127.0.0.1:8602", monitor.target),
            ("127.0.0.1:8600", f"127.0.0.1:{listen}"),
            ("5% yes; * no", "* yes" if share == "100%" else f"{share} yes; * no"),
        ):
            assert text.count(old) == 1
            text = text.replace(old, new)
        places = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = text.replace("http {", f"http {{ access_log off; {places}")
        file = tmp_path / "nginx.conf"
        file.write_text(
            f"daemon off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log;\nevents {{}}\n{text}"
        )
        started.append(
            subprocess.Popen([NGINX, "-c", str(file), "-p", str(tmp_path), "-e", str(tmp_path / "start.log")])
        )
        wait_until(lambda: is_open(listen))
        return f"127.0.0.1:{listen}"

    yield start
    for process in started:
        process.terminate()
        process.wait(30)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.nginx
@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_nginx_mirrors_predict_calls_as_they_are(fake_replica, nginx):
    replicas, monitor = [fake_replica(name=name) for name in "ab"], fake_replica(name="monitor")
    target = nginx(replicas, monitor)
    large = request_bytes([f"{number:0200d}" for number in range(5000)])
    for body in (request_bytes(), large):
        assert call(target, body=body)[0] == call(replicas[0].target, body=body)[0]
    call(target, wire.GET_MODEL_METADATA.path, b"")
    wait_until(lambda: len(monitor.calls) == 2)
    assert {path for path, _ in monitor.calls} == {wire.PREDICT.path}
    assert [request.SerializeToString() for request in monitor.requests()] == [request_bytes(), large]


@pytest.mark.nginx
@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_nginx_mirrors_a_share(fake_replica, nginx):
    replicas, monitor = [fake_replica(name=name) for name in "ab"], fake_replica(name="monitor")
    with Callers(nginx(replicas, monitor, "25%"), threads=4) as callers:
        callers.answered(1600)
    calls = sum(len(replica.requests()) for replica in replicas)
    # the number of mirrored calls is binomial: five standard deviations either way
    wait_until(lambda: abs(len(monitor.requests()) - 0.25 * calls) < 5 * (0.1875 * calls) ** 0.5)
    assert not callers.errors


@pytest.mark.nginx
@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_nginx_with_a_monitor_dead_or_hanging_fails_no_call(fake_replica, replica_process, nginx):
    replicas, monitor = [fake_replica(name=name) for name in "ab"], replica_process("monitor")
    target = nginx(replicas, monitor)
    with Callers(target, timeout=10.0) as callers:
        callers.answered(200)
        monitor.send(signal.SIGSTOP)
        callers.answered(400)
        monitor.kill()
        callers.answered(200)
    assert not callers.errors


def test_the_pages_envoy_route_is_the_gateways():
    from serving.deployment import from_targets
    from serving.gateway import GatewayOptions, bootstrap

    (text,) = re.findall(r"```yaml\n(request_mirror_policies.*?)```", PAGE, re.S)
    (shown,) = yaml.safe_load(text)["request_mirror_policies"]
    tree = bootstrap(GatewayOptions(mirror=0.05), from_targets(["a=127.0.0.1:1"]), None)
    policies = re.findall(r"'request_mirror_policies': (\[.*?\}\])", str(tree))
    (policy,) = yaml.safe_load(policies[0])
    assert policy["cluster"] == shown["cluster"]
    assert policy["disable_shadow_host_suffix_append"] == shown["disable_shadow_host_suffix_append"]


def test_the_pages_other_rules_are_yaml():
    rules = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(apiVersion.*?)```", PAGE, re.S)]
    assert [rule["kind"] for rule in rules] == ["VirtualService", "GRPCRoute"]
    assert "/tensorflow.serving.PredictionService/Predict" in str(rules[0])
    assert Path(ROOT / "docker" / "kubernetes.yaml").read_text().count("grpc-mirror") == 1
