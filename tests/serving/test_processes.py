"""Ports and flags of the replicas' servers, before any process is started."""

from __future__ import annotations

import socket

import pytest

from ranker.errors import UserError
from serving.deployment import from_targets
from serving.processes import ReplicaServers, check_flags, rest_ports

THREE = from_targets([f"{name}=127.0.0.1:{port}" for name, port in (("a", 8500), ("b", 8501), ("c", 8502))])


def test_each_replica_has_a_rest_port_of_its_own():
    assert rest_ports(THREE, 8600) == {"a": 8600, "b": 8601, "c": 8602}


@pytest.mark.parametrize(
    ("base_port", "reason"),
    [
        (8502, "replica c serves at 127.0.0.1:8502"),
        (8498, "replica a serves at 127.0.0.1:8500"),
        (65534, "must leave room for 3 ports"),
        (0, "must leave room for 3 ports"),
        (-5, "must leave room for 3 ports"),
    ],
)
def test_rest_ports_that_do_not_fit(base_port, reason):
    with pytest.raises(UserError, match=reason) as caught:
        rest_ports(THREE, base_port)
    assert f"Received: {base_port}" in str(caught.value)


@pytest.mark.parametrize(
    "flag",
    ["--rest_api_port=8501", "--rest-api-port", "--port=1", "--model_base_path=/m", "--grpc_socket_path=/s"],
)
def test_a_flag_that_cannot_be_the_same_for_all_is_refused(flag):
    with pytest.raises(UserError, match="differs from replica to replica"):
        check_flags(["--strict", flag])


def test_flags_that_can_be_the_same_for_all_are_taken():
    check_flags(["--strict", "--enable_batching", "--drain_seconds", "5", "--rest_api_timeout_in_ms=100"])


def test_a_taken_rest_port_is_one_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        port, grpc_port = taken.getsockname()[1], other.getsockname()[1]
        other.close()
        deployment = from_targets([f"a=127.0.0.1:{grpc_port}"])
        with (
            pytest.raises(UserError, match=f"port {port} of 127.0.0.1 .* --rest-base-port"),
            ReplicaServers(deployment, tmp_path, rest_base_port=port),
        ):
            pass
