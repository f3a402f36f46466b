"""The gateway as a process: it says where it listens, drains on SIGTERM, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import grpc
import pytest

from ranker.errors import UserError
from serving import wire
from serving.client import RankerClient, Tls
from serving.deployment import Deployment, Replica, from_targets
from serving.gateway import GatewayOptions, MirrorOptions, ServerTls, run
from serving.spool import finished, read

RUN = """
import sys
from serving.deployment import from_targets
from serving.gateway import GatewayOptions, MirrorOptions, run
mirror = MirrorOptions(rate=1.0, spool=sys.argv[1])
options = GatewayOptions(from_targets(sys.argv[2:]), listen="127.0.0.1:0", metrics=None, mirror=mirror)
run(options, lambda line: print(line, flush=True))
"""


def test_sigterm_lets_calls_under_way_finish_and_the_mirror_write(fake_replica, tmp_path):
    replicas = [fake_replica(name=name, delay=0.5) for name in "ab"]
    targets = [f"{replica.name}={replica.target}" for replica in replicas]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path), *targets],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("gateway on 127.0.0.1:")
        assert "a, b; mirrors 100.0%" in line
        target = line.split()[2]
        request = wire.PredictRequest()
        request.model_spec.name = "ranker"
        request.inputs["item_id"].CopyFrom(wire.to_tensor(["1", "2"]))
        answered = []
        with grpc.insecure_channel(target) as channel:
            method = channel.unary_unary(wire.PREDICT.path)
            caller = threading.Thread(
                target=lambda: answered.append(method(request.SerializeToString(), timeout=20))
            )
            caller.start()
            while not any(replica.requests() for replica in replicas):
                assert caller.is_alive()
            process.send_signal(signal.SIGTERM)
            caller.join()
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert len(answered) == 1
    assert process.returncode == 0
    assert "Traceback" not in errors
    records = [record for path in finished(tmp_path) for record in read(path)]
    assert [[answer.error for answer in record.answers] for record in records] == [["", ""]]
    assert not list(tmp_path.glob("*.part"))


def test_a_taken_port_and_an_unwritable_spool_are_one_line(fake_replica, tmp_path):
    replica = fake_replica()
    deployment = from_targets([f"a={replica.target}"])
    quiet = MirrorOptions(rate=0.0)
    with pytest.raises(UserError, match=f"cannot listen on {replica.target}"):
        run(GatewayOptions(deployment, listen=replica.target, metrics=None, mirror=quiet))
    with pytest.raises(UserError, match=f"cannot listen on {replica.target} for metrics"):
        run(GatewayOptions(deployment, listen="127.0.0.1:0", metrics=replica.target, mirror=quiet))
    with pytest.raises(UserError, match="pem can't be read"):
        run(GatewayOptions(deployment, tls=ServerTls("/no/such.pem", "/no/key.pem"), mirror=quiet))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the spool directory"):
        run(GatewayOptions(deployment, mirror=MirrorOptions(rate=0.1, spool=tmp_path / "file" / "spool")))


def test_mutual_tls_on_both_sides(fake_replica, gateway, certificate):
    chain, key = certificate
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), chain.read_bytes())], chain.read_bytes(), require_client_auth=True
    )
    replica = fake_replica(name="a", credentials=credentials)
    running = gateway(
        [replica],
        tls=ServerTls(chain, key, client_ca=chain),
        upstream_tls=Tls(ca=chain, certificate=chain, key=key),
        mirror={"rate": 1.0},
    )
    assert Deployment("ranker", (Replica("a", replica.target),)) == running.options.deployment
    with RankerClient(running.target, tls=Tls(ca=chain, certificate=chain, key=key)) as client:
        client.predict({"item_id": ["1"]})
    (record,) = running.mirrored(1)
    assert record.answers[0].replica == "a"
