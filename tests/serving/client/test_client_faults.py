"""What the client does when the server doesn't answer, or answers with an error."""

from __future__ import annotations

import threading
import time

import grpc
import pytest

from ranker.errors import UserError
from serving.client import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    RankerClient,
    ServingError,
    Tls,
    Unavailable,
)

ROWS = {"item_id": ["1", "2"]}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgument),
        (grpc.StatusCode.FAILED_PRECONDITION, FailedPrecondition),
        (grpc.StatusCode.DATA_LOSS, ServingError),
    ],
)
def test_errors_are_typed_keep_the_servers_text_and_are_not_retried(fake_replica, code, kind):
    replica = fake_replica(error=(code, "Servable not found for request: Latest(x)"))
    with RankerClient(replica.target) as client, pytest.raises(kind) as caught:
        client.status()
    assert caught.value.details == "Servable not found for request: Latest(x)"
    assert caught.value.code == code.name
    assert str(caught.value) == f"{replica.target}: {code.name}: Servable not found for request: Latest(x)"
    assert len(replica.calls) == 1


def test_unavailable_is_tried_again_as_often_as_told(fake_replica):
    replica = fake_replica(error=(grpc.StatusCode.UNAVAILABLE, "queue full"), error_count=2)
    with RankerClient(replica.target, retries=2) as client:
        assert client.status()
        assert len(replica.calls) == 3
        replica.error_count = 2
        client.retries = 1
        with pytest.raises(Unavailable, match="not available: queue full"):
            client.status()


def test_a_timeout_reads_as_one(fake_replica):
    replica = fake_replica(delay=1.0)
    with RankerClient(replica.target, deadline=0.2) as client, pytest.raises(DeadlineExceeded) as caught:
        client.status()
    assert str(caught.value) == f"{replica.target}: no answer within 0.2 s"


def test_retries_end_with_the_deadline():
    # Nothing listens on port 1; with a thousand retries only the deadline ends it.
    with (
        RankerClient("127.0.0.1:1", deadline=0.5, retries=1000) as client,
        pytest.raises(Unavailable) as caught,
    ):
        client.status()
    assert str(caught.value).startswith("127.0.0.1:1: not available: ")


def test_a_server_that_comes_back_is_found_again(fake_replica):
    first = fake_replica()
    with RankerClient(first.target, deadline=20, retries=50) as client:
        client.predict(ROWS)
        first.stop()
        back = threading.Timer(0.5, lambda: fake_replica(port=first.port, version=4))
        back.start()
        assert client.predict(ROWS).version == 4
        back.join()


def test_a_changed_signature_is_learnt_after_one_error(fake_replica):
    replica = fake_replica()
    with RankerClient(replica.target) as client:
        client.predict(ROWS)
        replica.error, replica.error_count = (grpc.StatusCode.INVALID_ARGUMENT, "Expects arg[0]"), 1
        with pytest.raises(InvalidArgument):
            client.predict(ROWS)
        client.predict(ROWS)
    assert len(replica.requests("GetModelMetadata")) == 2


def test_threads_share_a_client(fake_replica):
    replica = fake_replica()
    versions = []
    with RankerClient(replica.target) as client:
        threads = [
            threading.Thread(target=lambda: versions.append(client.predict(ROWS).version)) for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert versions == [3] * 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "localhost"}, "host:port.*localhost"),
        ({"target": "localhost:99999"}, "host:port"),
        ({"deadline": 0}, "deadline=0"),
        ({"deadline": float("inf")}, "deadline=inf"),
        ({"retries": -1}, "retries=-1"),
        ({"tls": Tls(ca="/no/such.pem")}, "/no/such.pem can't be read"),
        ({"tls": Tls(certificate="a.pem")}, "`certificate` and `key` together"),
    ],
)
def test_wrong_options_are_one_line(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        RankerClient(**({"target": "localhost:8500"} | arguments))
    assert "\n" not in str(caught.value)


def test_mutual_tls(fake_replica, certificate):
    chain, key = certificate
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), chain.read_bytes())], chain.read_bytes(), require_client_auth=True
    )
    replica = fake_replica(credentials=credentials)
    with RankerClient(replica.target, tls=Tls(ca=chain, certificate=chain, key=key)) as client:
        assert client.status()
    for tls in (None, Tls(ca=chain)):
        with (
            RankerClient(replica.target, tls=tls, deadline=1, retries=0) as client,
            pytest.raises(ServingError),
        ):
            client.status()


def test_latency_is_the_answered_calls_own(fake_replica):
    replica = fake_replica(delay=0.2, error=(grpc.StatusCode.UNAVAILABLE, "full"), error_count=2)
    started = time.monotonic()
    with RankerClient(replica.target) as client:
        prediction = client.predict(ROWS)
    assert 0.2 <= prediction.latency < (time.monotonic() - started) / 2
