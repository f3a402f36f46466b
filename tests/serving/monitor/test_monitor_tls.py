"""`ranker monitor` and replicas that demand certificates: its TLS flags, as typed on the command line."""

from __future__ import annotations

import json

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ranker import cli
from ranker.config import build, dump
from serving.deployment import Deployment, Replica
from serving.deployment import dump as save
from tests.ranker.conftest import tiny_tree


@pytest.fixture
def replicas(fake_replica, certificate):
    chain, key = (path.read_bytes() for path in certificate)
    credentials = grpc.ssl_server_credentials([(key, chain)], chain, require_client_auth=True)
    return [fake_replica(name=name, credentials=credentials) for name in "ab"]


@pytest.fixture
def monitor(replicas, probe, tmp_path, monkeypatch, capfd):
    """Runs one round with these flags; gives exit code and what was printed as JSON."""
    (tmp_path / "data").mkdir()
    (tmp_path / "config.yaml").write_text(dump(build({**tiny_tree(), "monitor": {"deadline": 5}}, "tiny")))
    requests = [probe.requests[owner] for owner in probe.owner]
    pq.write_table(pa.table({"request": requests, **probe.columns}), tmp_path / "data" / "probe.parquet")
    served = tuple(Replica(replica.name, replica.target) for replica in replicas)
    save(
        Deployment("ranker", served, item="item_id", context=("user_id", "age")), tmp_path / "deployment.yaml"
    )

    def call(*flags):
        monkeypatch.setattr(
            "sys.argv", ["ranker", "monitor", f"--run-dir={tmp_path}", "--once", "--json", *flags]
        )
        monkeypatch.setattr("signal.signal", lambda *_: None)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        assert out, err
        return ended.value.code or 0, json.loads(out.splitlines()[-1])

    return call


def test_with_a_certificate_every_replica_is_measured(monitor, certificate):
    chain, key = certificate
    code, printed = monitor(f"--replica-ca={chain}", f"--replica-certificate={chain}", f"--replica-key={key}")
    assert code == 0
    assert printed["replicas"] == {"a": 3, "b": 3}
    assert printed["errors"] == {}


@pytest.mark.parametrize("trusting", [False, True], ids=["plain text", "no certificate"])
def test_without_one_none_is_and_the_exit_code_says_so(monitor, certificate, trusting):
    code, printed = monitor(*([f"--replica-ca={certificate[0]}"] if trusting else []))
    assert code == 1
    assert printed["replicas"] == {}
    assert set(printed["errors"]) == {"a", "b"}
