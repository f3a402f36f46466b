"""The gRPC transport: callers that break off, say half, read nothing or are too many; the end under load."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from serving.server.requests.endpoints import CallContext
from serving.server.transports.grpc_server import GrpcServer
from serving.status import Code as Status
from serving.status import StatusError
from tests.processes import wait_until
from tests.serving.server.http2_frames import WINDOW_UPDATE, connect, data, frame, headers
from tests.serving.server.server_client import Code, failure, predict_request

ECHO, FAIL, BUG, HOLD, BIG = "/t.T/Echo", "/t.T/Fail", "/t.T/Bug", "/t.T/Hold", "/t.T/Big"
LARGEST = 8 * 2**20


class Methods:
    """Methods to call: HOLD waits until `gate` is set and remembers what it was called with."""

    def __init__(self):
        self.gate = threading.Event()
        self.held = []
        self.not_run = []

    def echo(self, request: bytes, call: CallContext) -> bytes:
        return request

    def fail(self, request: bytes, call: CallContext) -> bytes:
        raise StatusError(Status.DATA_LOSS, "100% bäd\nluck")

    def bug(self, request: bytes, call: CallContext) -> bytes:
        raise KeyError("secret")

    def hold(self, request: bytes, call: CallContext) -> bytes:
        self.held.append(request)
        assert self.gate.wait(60)
        return request

    def big(self, request: bytes, call: CallContext) -> bytes:
        self.held.append(request)
        return b"x" * 2**22


@pytest.fixture
def methods():
    return Methods()


@pytest.fixture
def server(methods):
    """A server of `methods`, of which two run at a time."""
    paths = {ECHO: methods.echo, FAIL: methods.fail, BUG: methods.bug, HOLD: methods.hold, BIG: methods.big}
    running = GrpcServer(
        ["127.0.0.1:0"], paths, threads=2, max_message_bytes=LARGEST, on_not_run=methods.not_run.append
    )
    yield running
    methods.gate.set()
    running.stop(5)


@pytest.fixture
def channel(server):
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.ports[0]}", options) as connected:
        yield connected


def test_answers_and_errors(channel):
    assert channel.unary_unary(ECHO)(b"hello", timeout=20) == b"hello"
    assert channel.unary_unary(ECHO)(b"", timeout=20) == b""
    assert failure(channel.unary_unary(FAIL), b"", timeout=20) == (Code.DATA_LOSS, "100% bäd\nluck")
    code, text = failure(channel.unary_unary(BUG), b"", timeout=20)
    assert (code, text) == (Code.UNKNOWN, "Exception calling application")
    assert failure(channel.unary_unary("/t.T/None"), b"", timeout=20)[0] == Code.UNIMPLEMENTED


@pytest.mark.parametrize("size", [1, 65_536, LARGEST])
def test_messages_of_every_size_come_back_whole(channel, size):
    message = np.random.default_rng(size).bytes(size)
    assert channel.unary_unary(ECHO)(message, timeout=60) == message


def test_a_message_above_the_limit_is_refused(channel):
    assert failure(channel.unary_unary(ECHO), b"x" * (LARGEST + 1), timeout=60)[0] == Code.RESOURCE_EXHAUSTED
    assert channel.unary_unary(ECHO)(b"y", timeout=20) == b"y"


def test_more_calls_than_threads_are_all_answered(channel, methods):
    calls = [channel.unary_unary(HOLD).future(b"%d" % index, timeout=60) for index in range(60)]
    wait_until(lambda: len(methods.held) == 2)
    methods.gate.set()
    assert [call.result() for call in calls] == [b"%d" % index for index in range(60)]


def occupy(channel, methods):
    """Gives both threads a call that waits for the gate."""
    calls = [channel.unary_unary(HOLD).future(b"first", timeout=60) for _ in range(2)]
    wait_until(lambda: len(methods.held) == 2)
    return calls


def test_a_call_that_is_cancelled_before_it_runs_is_not_run(channel, methods):
    first = occupy(channel, methods)
    cancelled = [channel.unary_unary(HOLD).future(b"cancelled", timeout=60) for _ in range(5)]
    last = channel.unary_unary(HOLD).future(b"last", timeout=60)
    assert (
        channel.unary_unary("/t.T/None").future(b"", timeout=20).code() == Code.UNIMPLEMENTED
    )  # all have arrived
    for call in cancelled:
        call.cancel()
    ping = channel.unary_unary("/t.T/None").future(b"", timeout=20)
    assert ping.code() == Code.UNIMPLEMENTED  # and their cancellations
    methods.gate.set()
    assert [call.result() for call in [*first, last]] == [b"first", b"first", b"last"]
    wait_until(lambda: methods.not_run == ["cancelled"] * 5)  # each in a thread of its own
    assert methods.held == [b"first", b"first", b"last"]


def test_a_call_past_its_deadline_before_it_runs_is_not_run(channel, methods):
    first = occupy(channel, methods)
    late = [channel.unary_unary(HOLD).future(b"late", timeout=0.2) for _ in range(5)]
    assert {call.code() for call in late} == {Code.DEADLINE_EXCEEDED}
    methods.gate.set()
    assert [call.result() for call in first] == [b"first", b"first"]
    wait_until(lambda: len(methods.not_run) == 5)
    assert methods.held == [b"first", b"first"]


@pytest.mark.parametrize(
    "half",
    [
        pytest.param(lambda number: headers(number, ECHO), id="headers only"),
        pytest.param(lambda number: headers(number, ECHO) + frame(0, 0, number, b"\0\0"), id="half a prefix"),
        pytest.param(
            lambda number: headers(number, ECHO) + frame(0, 0, number, b"\0\0\0\0\x09half"),
            id="half a message",
        ),
    ],
)
def test_callers_that_say_half_stop_nobody(server, channel, half):
    with connect(server.ports[0], *(half(2 * index + 1) for index in range(500))):
        for _ in range(3):
            assert channel.unary_unary(ECHO)(b"next", timeout=30) == b"next"


def test_a_caller_that_reads_nothing_holds_no_thread(server, channel, methods):
    window = (2**31 - 1).to_bytes(4, "big")
    initial_window = frame(4, 0, 0, b"\0\x04" + window)
    calls = (headers(number, BIG) + data(number, b"") for number in range(1, 200, 2))
    with connect(server.ports[0], initial_window, frame(WINDOW_UPDATE, 0, 0, window[:3] + b"\0"), *calls):
        wait_until(
            lambda: len(methods.held) == 100
        )  # 400 MB of answers, more than the buffers between us hold
        for _ in range(5):
            assert channel.unary_unary(ECHO)(b"next", timeout=30) == b"next"


def test_a_broken_peer_ends_its_own_connection_only(server, channel):
    for garbage in (
        b"\0" * 100,
        b"GET / HTTP/1.1\r\n\r\n",
        frame(1, 4, 1, b"\xff" * 50),
        frame(4, 0, 0, b"x"),
    ):
        with connect(server.ports[0], garbage):
            assert channel.unary_unary(ECHO)(b"next", timeout=30) == b"next"


def test_a_taken_port_is_one_error(server, methods):
    address = f"127.0.0.1:{server.ports[0]}"
    with pytest.raises(StatusError, match=re.escape(f"Failed to listen on {address}")):
        GrpcServer([address], {}, threads=1, max_message_bytes=LARGEST)


def test_stop_under_load_fails_no_call_that_was_accepted(models, serve):
    client = serve(model_name="m", model_base_path=str(models / "ranker"))
    request = predict_request(item_id=["a"], age=[1.0])
    stopping = threading.Event()
    codes = []

    def ask(index):
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{client.server.port}", options) as channel:
            call = channel.unary_unary(
                "/tensorflow.serving.PredictionService/Predict", type(request).SerializeToString
            )
            for _ in range(100_000):
                stopped = stopping.is_set()
                try:
                    call(request, timeout=60)
                except grpc.RpcError as error:
                    codes.append((stopped, error.code()))
                    return

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(ask, index) for index in range(8)]
        for _ in range(50):
            client.predict(item_id=["a"], age=[1.0])
        stopping.set()
        assert client.server.stop(30)
        for caller in callers:
            caller.result()
    assert {code for _, code in codes} == {Code.UNAVAILABLE}, codes
