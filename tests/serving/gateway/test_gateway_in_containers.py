"""docker/kubernetes.yaml's gateway without a container engine: its arguments, its sidecar and its preStop script."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading

import yaml

from serving.gateway import GatewayOptions, bootstrap
from serving.gateway.admin import Admin
from serving.gateway.process import envoy_path
from tests.processes import free_port, wait_until
from tests.serving.gateway.conftest import ROOT, Callers, call, ranker


def pod() -> dict:
    entries = yaml.safe_load_all((ROOT / "docker" / "kubernetes.yaml").read_text(encoding="utf-8"))
    (gateway,) = (
        entry
        for entry in entries
        if entry["metadata"]["name"] == "ranker-gateway" and entry["kind"] == "Deployment"
    )
    return gateway["spec"]["template"]["spec"]


def test_envoy_with_its_sidecar_drains_a_replica_and_itself(fake_replica, tmp_path):
    from serving.deployment import from_targets

    replicas = [fake_replica(name=name) for name in "ab"]
    targets = [f"{replica.name}={replica.target}" for replica in replicas]
    file = tmp_path / "replicas.json"
    (sidecar,), (container,) = pod()["initContainers"], pod()["containers"]
    command = [argument for argument in sidecar["args"] if not argument.startswith("--replica")]
    keeper = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ranker.cli",
            *command,
            f"--replicas-file={file}",
            *(f"--replica={t}" for t in targets),
        ],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    admin_port = free_port()
    options = GatewayOptions(listen="127.0.0.1:0", metrics="127.0.0.1:0", admin=f"127.0.0.1:{admin_port}")
    (tmp_path / "envoy.json").write_text(json.dumps(bootstrap(options, from_targets(targets), file)))
    arguments = [argument.replace("/etc/envoy", str(tmp_path)) for argument in container["args"]]
    script = container["lifecycle"]["preStop"]["exec"]["command"]
    assert script[-1].count("9901") == 1
    script[-1] = script[-1].replace("9901", str(admin_port)).replace("sleep 15", "")
    try:
        wait_until(file.exists)
        envoy = subprocess.Popen([str(envoy_path(None)), *arguments], stderr=subprocess.DEVNULL)
        try:
            admin = Admin(options.admin)
            wait_until(admin.is_live)
            target = f"127.0.0.1:{admin.ports()['callers']}"
            with Callers(target, threads=2) as callers:
                callers.answered(20, by="b")
                done = ranker("gateway", "drain", "b", f"--replicas-file={file}")
                assert "no gateway runs here" in done.stdout
                wait_until(lambda: admin.gauge("cluster.replicas.membership_healthy") == 1)
                callers.forget()
                callers.answered(20)
                assert set(callers.replicas) == {"a"}
            assert not callers.errors
            replicas[0].predict_delay = 2.0
            answers = []
            caller = threading.Thread(target=lambda: answers.append(call(target)[1]))
            caller.start()
            wait_until(lambda: admin.gauge("http.callers.downstream_rq_active") == 1)
            stopped = subprocess.run(script, capture_output=True, text=True, check=False, timeout=60)
            assert stopped.stdout.count("OK") >= 2, stopped
            caller.join()
            assert answers == ["a"]
            assert admin.gauge("http.callers.downstream_cx_drain_close") >= 1
        finally:
            envoy.terminate()
            envoy.wait(30)
    finally:
        keeper.send_signal(signal.SIGTERM)
        assert keeper.wait(30) == 0


def test_a_configuration_with_the_replicas_inside_serves(fake_replica, tmp_path):
    from serving.deployment import from_targets

    replica = fake_replica(name="a")
    options = GatewayOptions(listen="127.0.0.1:0", metrics="127.0.0.1:0", admin=f"127.0.0.1:{free_port()}")
    deployment = from_targets([f"a=localhost:{replica.port}"])
    (tmp_path / "envoy.json").write_text(json.dumps(bootstrap(options, deployment, None)))
    arguments = ["--config-path", str(tmp_path / "envoy.json"), "--disable-hot-restart"]
    envoy = subprocess.Popen([str(envoy_path(None)), *arguments], stderr=subprocess.DEVNULL)
    try:
        admin = Admin(options.admin)
        wait_until(admin.is_live)
        wait_until(lambda: admin.gauge("cluster.replicas.membership_healthy") == 1)
        assert call(f"127.0.0.1:{admin.ports()['callers']}")[1] == "a"
    finally:
        envoy.terminate()
        envoy.wait(30)
