"""Calls over the plain text transport, by grpcio: messages of every size, many at once, the end."""

from __future__ import annotations

import gzip
import os
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from serving.http2 import messages
from serving.server.http2.connection import Service
from serving.server.http2.server import Http2Server
from serving.status import ServingError
from tests.serving.server.http2.peer import ECHO, FAIL, LARGEST, SLOW, STREAM
from tests.serving.server.server_client import failure


def test_unary_error_and_stream_calls(channel):
    assert channel.unary_unary(ECHO)(b"hello", timeout=10) == b"hello"
    assert channel.unary_unary(ECHO)(b"", timeout=10) == b""
    assert failure(channel.unary_unary(FAIL), b"", timeout=10) == (
        grpc.StatusCode.DATA_LOSS,
        "100% b\u00e4d\nluck",
    )
    assert failure(channel.unary_unary("/t.T/None"), b"", timeout=10) == (
        grpc.StatusCode.UNIMPLEMENTED,
        "Method not found!",
    )
    assert list(channel.unary_stream(STREAM)(b"a", timeout=10)) == [b"a0", b"a1", b"a2"]


@pytest.mark.parametrize("size", [1, 16_379, 16_380, 65_535, 65_536, 1_000_003, LARGEST])
def test_messages_of_every_size_come_back_whole(channel, size):
    message = os.urandom(size)
    for _ in range(2):
        assert channel.unary_unary(ECHO)(message, timeout=30) == message


def test_a_message_above_the_limit_is_refused_before_it_arrives(channel):
    code, text = failure(channel.unary_unary(ECHO), b"x" * (LARGEST + 1), timeout=10)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in text
    assert channel.unary_unary(ECHO)(b"y", timeout=10) == b"y"


def test_compressed_requests(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.ports[0]}", compression=grpc.Compression.Gzip) as zipped:
        assert zipped.unary_unary(ECHO)(b"z" * 10_000, timeout=10) == b"z" * 10_000
    bomb = gzip.compress(b"\0" * (64 * 2**20))
    data = b"\1" + struct.pack(">I", len(bomb)) + bomb
    with pytest.raises(ServingError, match="larger than max"):
        messages.unpack(data, "gzip", 2**20)
    with pytest.raises(ServingError, match="UNIMPLEMENTED"):
        messages.unpack(data, "snappy", 2**20)


def test_calls_of_one_connection_run_beside_each_other(channel):
    slow_call = channel.unary_unary(SLOW)
    started = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        names = [f"n{index}" for index in range(10)]
        answers = list(pool.map(lambda name: slow_call(b"", timeout=20, metadata=[("x-name", name)]), names))
    assert [answer.decode() for answer in answers] == names
    assert time.monotonic() - started < 10 * 0.2


def test_more_calls_than_threads_are_all_answered(channel):
    futures = [channel.unary_unary(SLOW).future(b"", timeout=60) for _ in range(60)]
    assert [future.result() for future in futures] == [b""] * 60


def test_many_connections_with_quick_calls(server):
    def ask(index):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{server.ports[0]}", options) as made:
            method = made.unary_unary(ECHO)
            return all(
                method(f"{index}-{n}".encode(), timeout=30) == f"{index}-{n}".encode() for n in range(50)
            )

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(ask, range(12)))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1S", 1.0),
        ("250m", 0.25),
        ("3M", 180.0),
        ("7u", 7e-6),
        ("", None),
        ("1", None),
        ("-1S", None),
        ("\u00b2S", None),
    ],
)
def test_timeouts(text, seconds):
    assert messages.timeout_seconds(text) == seconds


def test_stop_finishes_what_runs_and_refuses_the_rest():
    entered = threading.Event()

    def hold(request, call):
        entered.set()
        time.sleep(0.5)
        return b"done"

    running = Http2Server(["127.0.0.1:0"], Service({SLOW: hold}, {}, 4, 2**20))
    with grpc.insecure_channel(f"127.0.0.1:{running.ports[0]}") as channel:
        call = channel.unary_unary(SLOW).future(b"", timeout=20)
        assert entered.wait(10)
        running.stop(10)
        assert call.result() == b"done"
        assert failure(channel.unary_unary(SLOW), b"", timeout=3)[0] in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )


def test_both_transports_answer_alike(serve, models):
    options = {"model_name": "m", "model_base_path": str(models / "half_plus_two")}
    native, grpcio = (
        serve(**options),
        serve(grpc_channel_arguments="grpc.max_connection_age_ms=100000", **options),
    )
    two = np.array([[2.0]], np.float32)
    assert native.predict(x=two) == grpcio.predict(x=two)
    for wrong in ({"model": "no", "x": two}, {"signature": "no", "x": two}, {"x": two, "z": two}, {}):
        assert failure(native.predict, **wrong) == failure(grpcio.predict, **wrong)
