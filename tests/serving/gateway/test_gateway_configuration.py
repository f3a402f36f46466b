"""The configuration and the file of replicas, as values; Envoy itself says whether they are right."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.errors import UserError
from serving.client import Tls
from serving.deployment import from_targets
from serving.gateway import GatewayOptions, ServerTls, bootstrap, fields, follow
from serving.gateway.process import envoy_path
from serving.gateway.replicas import Endpoint, ReplicasFile, document, parse, resolve, unresolved
from tests.serving.gateway.conftest import mistake

DEPLOYMENT = from_targets(["a=127.0.0.1:8500", "b=[::1]:8501", "c=localhost:8502"])


def refusal(tree: dict, directory: Path) -> str:
    """What Envoy says against a configuration; empty: nothing."""
    file = directory / "envoy.json"
    file.write_text(json.dumps(tree))
    check = [
        str(envoy_path(None)),
        "--mode",
        "validate",
        "--config-path",
        str(file),
        "--log-level",
        "critical",
    ]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gateway")
    follow(lambda: DEPLOYMENT, path / "replicas.json", once=True)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sticky": "x-user", "hedge_ms": 0},
        {"balance": "round-robin", "mirror": 0.000001},
        {"mirror": 1.0, "monitor": "monitor.example:8602", "hedge_ms": 1},
        {"listen": "[::1]:0", "metrics": "localhost:0", "admin": "/tmp/admin.sock"},
        {"tls": "server", "replica_tls": "client"},
    ],
    ids=str,
)
def test_envoy_accepts_it(directory, certificate, changes):
    chain, key = certificate
    tls = {
        "server": ServerTls(chain, key, chain),
        "client": Tls(ca=chain, certificate=chain, key=key),
    }
    changes = {
        name: tls.get(value, value) if isinstance(value, str) else value for name, value in changes.items()
    }
    for file in (None, directory / "replicas.json"):
        assert refusal(bootstrap(GatewayOptions(**changes), DEPLOYMENT, file), directory) == ""


def test_envoy_says_what_is_wrong(directory):
    tree = bootstrap(GatewayOptions(), DEPLOYMENT, None)
    tree["static_resources"]["clusters"][0]["lb_policy"] = "MOST_REQUEST"
    assert "MOST_REQUEST" in refusal(tree, directory)


def test_only_loopback_reaches_the_administration():
    tree = bootstrap(GatewayOptions(listen="0.0.0.0:1", metrics="0.0.0.0:2"), DEPLOYMENT, None)
    assert tree["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    with pytest.raises(UserError, match="`admin` must be on loopback"):
        GatewayOptions(admin="0.0.0.0:9901")


@given(share=st.floats(0, 1, exclude_min=True))
def test_the_share_is_in_millionths_and_never_none(share):
    tree = bootstrap(GatewayOptions(mirror=share), DEPLOYMENT, None)
    text = json.dumps(tree)
    fraction = json.loads(text[text.index('{"numerator"') :].split("}")[0] + "}")
    assert fraction["denominator"] == "MILLION"
    assert 1 <= fraction["numerator"] <= 1_000_000
    assert abs(fraction["numerator"] / 1e6 - share) <= 1e-6


NAMES = st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True), min_size=1, unique=True)


@given(NAMES, st.data())
def test_a_file_of_replicas_reads_back(names, data):
    endpoints = tuple(
        Endpoint(
            name,
            tuple(data.draw(st.lists(st.ip_addresses().map(str), min_size=1, max_size=3, unique=True))),
            data.draw(st.integers(1, 65535)),
            "some.host",
            data.draw(st.booleans()),
        )
        for name in names
    )
    assert parse(json.loads(json.dumps(document(endpoints)))) == endpoints


@pytest.mark.parametrize(
    "tree", [None, [], {}, {"resources": []}, {"resources": [{"endpoints": [{}]}]}, "text", 7]
)
def test_another_file_is_none_of_replicas(tree, tmp_path):
    with pytest.raises(UserError, match="not a file of replicas"):
        parse(tree)
    path = tmp_path / "replicas.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(UserError, match=r"replicas\.json: not a file of replicas"):
        ReplicasFile(path).read()


def test_names_are_resolved_and_a_name_that_fails_later_keeps_its_address():
    endpoints = unresolved(DEPLOYMENT)
    resolved = resolve(endpoints, {})
    assert [endpoint.addresses for endpoint in resolved] == [("127.0.0.1",), ("::1",), ("127.0.0.1",)]
    lost = Endpoint("x", ("no.such.host.invalid",), 1, "no.such.host.invalid")
    with pytest.raises(UserError, match=r"replica x: the host no\.such\.host\.invalid has no address"):
        resolve([lost], {})
    before = replace(lost, addresses=("10.0.0.7",))
    assert resolve([lost], {"x": before}) == (before,)
    with pytest.raises(UserError, match="has no address"):
        resolve([lost], {"x": replace(before, hostname="another.host")})


def test_a_replicas_file_is_rewritten_only_for_changes(tmp_path):
    file = ReplicasFile(tmp_path / "new" / "replicas.json")
    file.follow(DEPLOYMENT)
    before = file.path.stat()
    file.follow(DEPLOYMENT)
    assert file.path.stat().st_mtime_ns == before.st_mtime_ns
    assert file.set_drained("b", True, None, force=False)
    assert not file.set_drained("b", True, None, force=False)
    file.follow(from_targets(["b=[::1]:9000", "d=127.0.0.1:1"]))
    assert [(e.name, e.port, e.is_drained) for e in file.read()] == [("b", 9000, True), ("d", 1, False)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"listen": "8600"}, "`listen` must read host:port"),
        ({"metrics": "h:x"}, "`metrics` must read host:port"),
        ({"sticky": "X-User"}, "`sticky` must be a metadata key"),
        ({"sticky": ""}, "`sticky` must be a metadata key"),
        ({"sticky": ":path"}, "`sticky` must be a metadata key"),
        ({"balance": "random"}, "`balance` must be least-request or round-robin. Received: random"),
        ({"hedge_ms": -1}, "`hedge_ms` must be a number of milliseconds from 0"),
        ({"mirror": 1.5}, "`mirror` must be a share from 0 to 1. Received: 1.5"),
        ({"mirror": float("nan")}, "`mirror` must be a share"),
        ({"drain_seconds": -1}, "`drain_seconds` must be"),
        ({"replica_tls": Tls(certificate="c", key="k")}, "`replica_tls` must have a `ca`"),
    ],
)
def test_wrong_options_are_one_line(changes, message):
    with pytest.raises(UserError, match=message):
        GatewayOptions(**changes)


def test_printing_writes_no_file(tmp_path, capsys):
    from typer.main import get_command

    from ranker.cli import app

    arguments = ["gateway", "--replica=a=h:1", f"--replicas-file={tmp_path}/r.json", "--print-config"]
    get_command(app).main(arguments, standalone_mode=False)
    tree = json.loads(capsys.readouterr().out)
    assert str(tmp_path / "r.json") in json.dumps(tree)
    assert not list(tmp_path.iterdir())
    assert "give --run-dir" in mistake("gateway", "--print-config")
    assert fields.is_ip("::1")
    assert not fields.is_ip("localhost")
