"""The mirror's port over real connections: answers at once, counts every call, and no caller can stop it."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from ranker.address import HostPort
from ranker.errors import UserError
from serving import wire
from serving.monitor.requests import mirror
from serving.monitor.requests.mirror import MAX_MESSAGE, MirrorListener
from serving.monitor.requests.reservoir import Reservoir
from tests.processes import wait_until

PATIENCE = 60.0  # generous: the machine may be busy


@pytest.fixture
def reservoir():
    return Reservoir(100)


@pytest.fixture
def listener(reservoir):
    listener = MirrorListener(HostPort("127.0.0.1", 0), reservoir)
    yield listener
    listener.close()


@pytest.fixture
def channel(listener):
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{listener.port}", options) as channel:
        yield channel


def predict(channel, body=b"body", **options):
    return channel.unary_unary(wire.PREDICT.path)(body, timeout=PATIENCE, **options)


def taken(reservoir, seen):
    """All samples until so many calls were seen, as (calls, seen, dropped)."""
    samples = []

    def are_seen():
        samples.append(reservoir.take())
        return sum(sample.seen for sample in samples) >= seen

    wait_until(are_seen)
    calls = [call for sample in samples for call in sample.calls]
    return calls, sum(sample.seen for sample in samples), sum(sample.dropped for sample in samples)


def test_a_call_is_kept_with_its_id_and_the_answer_is_empty(channel, reservoir):
    answer = predict(channel, metadata=[("x-request-id", "abc"), ("x-other", "y")])
    assert answer == b""
    assert wire.PredictResponse.FromString(answer) == wire.PredictResponse()
    predict(channel, b"")
    sample = reservoir.take()
    assert [(call.body, call.request_id) for call in sample.calls] == [(b"body", "abc"), (b"", "")]


def test_any_authority_and_compression_are_taken(listener, reservoir):
    options = [("grpc.default_authority", "ranker-shadow")]
    with grpc.insecure_channel(f"127.0.0.1:{listener.port}", options) as channel:
        predict(channel, b"x" * 100_000, compression=grpc.Compression.Gzip)
    assert reservoir.take().calls[0].body == b"x" * 100_000


def test_too_large_calls_are_dropped_and_counted(channel, reservoir):
    for body, options in (
        (bytes(MAX_MESSAGE + 1), {}),
        (bytes(32 * MAX_MESSAGE), {"compression": grpc.Compression.Gzip}),  # small until it is unpacked
    ):
        with pytest.raises(grpc.RpcError):
            predict(channel, body, **options)
    predict(channel, bytes(MAX_MESSAGE))
    calls, seen, dropped = taken(reservoir, 3)
    assert ([len(call.body) for call in calls], seen, dropped) == ([MAX_MESSAGE], 3, 2)


def test_other_methods_are_refused_and_not_counted(channel, reservoir):
    for path in (wire.REGRESS.path, wire.RELOAD_CONFIG.path, "/nothing/At"):
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(path)(b"", timeout=PATIENCE)
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert reservoir.take().seen == 0


def test_tens_of_thousands_of_calls_are_all_answered_and_counted(listener, reservoir):
    count, at_a_time, clients = 20_000, 50, 4

    def send(_):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{listener.port}", options) as channel:
            method = channel.unary_unary(wire.PREDICT.path)
            for _ in range(count // clients // at_a_time):
                calls = [method.future(b"x" * 5000, timeout=PATIENCE) for _ in range(at_a_time)]
                assert all(call.result() == b"" for call in calls)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(send, range(clients)))
    sample = reservoir.take()
    assert (sample.seen, sample.dropped, len(sample.calls)) == (count, 0, 100)


def test_calls_that_never_send_anything_do_not_stop_others(channel, reservoir, monkeypatch):
    monkeypatch.setattr(mirror, "_SECONDS_TO_ARRIVE", 0.2)
    over = threading.Event()

    def nothing():
        over.wait(PATIENCE)
        yield from ()

    half_open = [channel.stream_unary(wire.PREDICT.path).future(nothing()) for _ in range(60)]
    assert predict(channel) == b""
    calls, seen, dropped = taken(reservoir, 61)
    assert (len(calls), seen, dropped) == (1, 61, 60)
    over.set()
    for call in half_open:
        call.cancel()


def test_cancelled_calls_are_counted(channel, reservoir, monkeypatch):
    monkeypatch.setattr(mirror, "_SECONDS_TO_ARRIVE", PATIENCE)
    over = threading.Event()

    def nothing():
        over.wait(PATIENCE)
        yield from ()

    call = channel.stream_unary(wire.PREDICT.path).future(nothing())
    predict(channel)  # the other has arrived by now: both are on one connection
    call.cancel()
    over.set()
    calls, seen, dropped = taken(reservoir, 2)
    assert (len(calls), seen, dropped) == (1, 2, 1)


@pytest.mark.parametrize(
    "hostile", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 4096, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff" * 20]
)
def test_bytes_that_are_no_grpc_do_not_stop_others(listener, channel, reservoir, hostile):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", listener.port)) as connection:
            connection.sendall(hostile)
    assert predict(channel) == b""
    assert reservoir.take().seen == 1


def test_a_port_in_use_is_one_line_and_a_closed_one_is_free(listener, reservoir):
    with pytest.raises(UserError, match=rf"127\.0\.0\.1:{listener.port}: Address already in use$"):
        MirrorListener(HostPort("127.0.0.1", listener.port), reservoir)
    with pytest.raises(UserError, match=r"192\.0\.2\.1:0: Cannot assign"):
        MirrorListener(HostPort("192.0.2.1", 0), reservoir)
    with pytest.raises(UserError, match="no-such-host"):
        MirrorListener(HostPort("no-such-host.invalid", 0), reservoir)
    first = MirrorListener(HostPort("127.0.0.1", 0), reservoir)
    first.close()
    MirrorListener(HostPort("127.0.0.1", first.port), reservoir).close()
