"""The plain text transport: HTTP/2 as RFC 9113 has it, against raw sockets and grpcio."""

from __future__ import annotations

import gzip
import os
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.server.http2 import connection, frames, hpack, messages
from serving.server.http2.connection import Service
from serving.server.http2.server import Http2Server
from serving.server.status import Code, ServingError
from tests.serving.server.server_client import failure

ECHO, FAIL, SLOW, STREAM = "/t.T/Echo", "/t.T/Fail", "/t.T/Slow", "/t.T/Stream"


class Nothing:
    """A run of a given kind that gives nothing."""

    def __init__(self, quick=True, now=lambda: []):
        self.is_quick = lambda: quick
        self.now = now

    def later(self, done):
        return False


def echo(request, call):
    return request


def echo_steps(request, call):
    yield Nothing()
    return request


def fail(request, call):
    raise ServingError(Code.DATA_LOSS, "100% b\u00e4d\nluck")


def slow(request, call):
    time.sleep(0.2)
    return call.metadata.get("x-name", "").encode()


def stream(request, wanted):
    for index in range(3):
        yield request + str(index).encode()


@pytest.fixture(scope="module")
def server():
    methods = {ECHO: echo, FAIL: fail, SLOW: slow}
    service = Service(methods, {STREAM: stream}, 16, 8 * 2**20, {ECHO: echo_steps})
    running = Http2Server(["127.0.0.1:0"], service)
    yield running
    running.stop(1)


@pytest.fixture
def channel(server):
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.ports[0]}", options) as made:
        yield made


class Raw:
    """A socket that speaks just as much HTTP/2 as a test wants."""

    def __init__(self, server, greet=True):
        self.socket = socket.create_connection(("127.0.0.1", server.ports[0]), 10)
        self.buffer = b""
        if greet:
            self.socket.sendall(frames.PREFACE + frames.settings([]))

    def send(self, *parts):
        self.socket.sendall(b"".join(parts))

    def frame(self):
        """The next frame as (kind, flags, stream, payload); None at the end."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + frames.parse_header(self.buffer, 0)[0]:
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not data:
                return None
            self.buffer += data
        length, kind, flags, number = frames.parse_header(self.buffer, 0)
        payload, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
        return kind, flags, number, payload

    def until(self, kind, number=None):
        while (got := self.frame()) is not None:
            if got[0] == kind and number in (None, got[2]):
                return got
        return None

    def close(self):
        self.socket.close()


@pytest.fixture
def raw(server):
    made = []

    def make(**options):
        made.append(Raw(server, **options))
        return made[-1]

    yield make
    for peer in made:
        peer.close()


def request_headers(path=ECHO, **extra):
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"t")]
    fields += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    return hpack.encode(fields + [(k.encode().replace(b"_", b"-"), v) for k, v in extra.items()])


def call_frames(number, message, path=ECHO, **extra):
    return frames.frame(
        frames.HEADERS, frames.END_HEADERS, number, request_headers(path, **extra)
    ) + frames.frame(frames.DATA, frames.END_STREAM, number, messages.pack(message))


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


@pytest.mark.parametrize("size", [1, 16_379, 16_380, 65_535, 65_536, 1_000_003, 8 * 2**20])
def test_messages_of_every_size_come_back_whole(channel, size):
    message = os.urandom(size)
    for _ in range(2):
        assert channel.unary_unary(ECHO)(message, timeout=30) == message


def test_a_message_above_the_limit_is_refused_before_it_arrives(channel):
    code, text = failure(channel.unary_unary(ECHO), b"x" * (8 * 2**20 + 1), timeout=10)
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


@pytest.mark.parametrize("other_path", [False, True])
def test_a_long_call_after_quick_ones_leaves_the_server_free(other_path):
    answered = threading.Event()

    def wait(request, call):
        return b"free" if answered.wait(20) else b"blocked"

    def mixed(request, call):
        if request == b"long":
            yield Nothing(quick=False, now=lambda: answered.wait(20) and [])
            return b"free" if answered.is_set() else b"blocked"
        yield Nothing()
        return request

    running = Http2Server(["127.0.0.1:0"], Service({ECHO: echo, SLOW: wait}, {}, 16, 2**20, {ECHO: mixed}))
    with grpc.insecure_channel(f"127.0.0.1:{running.ports[0]}") as made:
        echo_call = made.unary_unary(ECHO)
        for _ in range(5):
            echo_call(b"quick", timeout=20)
        long_call = made.unary_unary(SLOW if other_path else ECHO).future(b"long", timeout=60)
        time.sleep(0.1)  # it has been read before the next one is sent
        assert echo_call(b"next", timeout=15) == b"next"
        answered.set()
        assert long_call.result() == b"free"
    running.stop(1)


def test_a_run_that_others_end_is_answered_with_what_they_bring():
    waiting = []

    class Batched(Nothing):
        def later(self, done):
            waiting.append(done)
            return True

    def steps(request, call):
        try:
            outputs = yield Batched(quick=False)
        except ServingError as error:
            raise ServingError(error.code, "batch: " + error.message) from None
        return request + bytes(outputs)

    running = Http2Server(["127.0.0.1:0"], Service({ECHO: echo}, {}, 1, 2**20, {ECHO: steps}))
    with grpc.insecure_channel(f"127.0.0.1:{running.ports[0]}") as made:
        calls = [made.unary_unary(ECHO).future(b"%d" % index, timeout=20) for index in range(3)]
        limit = time.monotonic() + 10
        while len(waiting) < 3 and time.monotonic() < limit:  # one thread a connection, and none is held
            time.sleep(0.01)
        for done, got in zip(waiting, ([1], ServingError(Code.INTERNAL, "no"), [3]), strict=True):
            done(got)
        answers = [call.exception() or call.result() for call in calls]
        assert {answer for answer in answers if isinstance(answer, bytes)} <= {
            b"%d%c" % (index, byte) for index in range(3) for byte in (1, 3)
        }
        [failed] = [answer for answer in answers if not isinstance(answer, bytes)]
        assert (failed.code(), failed.details()) == (grpc.StatusCode.INTERNAL, "batch: no")
    running.stop(1)


def test_a_mistake_in_any_step_is_an_answer_and_not_the_end():
    def steps(request, call):
        if request == b"first":
            raise KeyError("first")
        outputs = yield Nothing(quick=request != b"slow", now=lambda: [])
        return outputs[0]

    running = Http2Server(["127.0.0.1:0"], Service({ECHO: echo}, {}, 2, 2**20, {ECHO: steps}))
    with grpc.insecure_channel(f"127.0.0.1:{running.ports[0]}") as made:
        for request in (b"first", b"last", b"slow", b"first"):
            assert failure(made.unary_unary(ECHO), request, timeout=10) == (
                grpc.StatusCode.UNKNOWN,
                "Exception calling application",
            )
    running.stop(1)


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


def test_small_windows_hold_the_answer_back(raw):
    peer = raw(greet=False)
    peer.send(frames.PREFACE, frames.settings([(frames.INITIAL_WINDOW_SIZE, 10)]), call_frames(1, b"x" * 30))
    got, total = b"", 35
    while len(got) < total:
        _, _, _, payload = peer.until(frames.DATA, 1)
        assert len(payload) <= 10
        got += payload
        peer.send(frames.window_update(1, 10))
    assert got == messages.pack(b"x" * 30)
    assert peer.until(frames.HEADERS, 1)[1] & frames.END_STREAM


def test_a_window_change_while_waiting_counts(raw):
    peer = raw(greet=False)
    peer.send(frames.PREFACE, frames.settings([(frames.INITIAL_WINDOW_SIZE, 0)]), call_frames(1, b"abc"))
    assert peer.until(frames.HEADERS, 1) is not None
    peer.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, 100)]))
    assert peer.until(frames.DATA, 1)[3] == messages.pack(b"abc")


def test_a_stalled_peer_does_not_stop_its_other_calls(raw):
    peer = raw(greet=False)
    peer.send(frames.PREFACE, frames.settings([(frames.INITIAL_WINDOW_SIZE, 20)]))
    peer.send(call_frames(1, b"x" * 100), call_frames(3, b"y"))
    assert peer.until(frames.DATA, 3)[3] == messages.pack(b"y")
    peer.send(frames.rst_stream(1, frames.CANCEL), call_frames(5, b"z"))
    assert peer.until(frames.DATA, 5)[3] == messages.pack(b"z")


def test_an_answer_that_nobody_takes_is_given_up(raw, monkeypatch):
    monkeypatch.setattr(connection, "_STALL_SECONDS", 0.5)
    peer = raw(greet=False)
    peer.send(frames.PREFACE, frames.settings([(frames.INITIAL_WINDOW_SIZE, 20)]))
    peer.send(call_frames(1, b"x" * 100))
    assert peer.until(frames.RST_STREAM, 1)[3] == frames.CANCEL.to_bytes(4, "big")
    peer.send(frames.window_update(1, 1000), call_frames(3, b"y"))
    assert peer.until(frames.DATA)[2] == 3


def test_a_peer_that_never_greets_is_let_go(raw, monkeypatch):
    monkeypatch.setattr(connection, "_GREETING_SECONDS", 0.5)
    assert raw(greet=False).frame() is None


def test_ping_padding_priority_continuation_and_unknown_frames(raw):
    peer = raw()
    block = request_headers()
    padded = bytes([3]) + b"\0" * 4 + b"\x10" + block[:7] + b"\0" * 3
    message = messages.pack(b"hi")
    peer.send(
        frames.frame(frames.PING, 0, 0, b"12345678"),
        frames.frame(99, 7, 0, b"??"),
        frames.frame(frames.HEADERS, frames.PADDED | frames.HAS_PRIORITY, 1, padded),
        frames.frame(frames.CONTINUATION, 0, 1, block[7:20]),
        frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[20:]),
        frames.frame(frames.DATA, frames.PADDED, 1, bytes([2]) + message[:3] + b"\0\0"),
        frames.frame(frames.DATA, frames.END_STREAM, 1, message[3:]),
    )
    assert peer.until(frames.PING) == (frames.PING, frames.ACK, 0, b"12345678")
    assert peer.until(frames.DATA, 1)[3] == message


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([frames.frame(frames.DATA, 0, 1, b"x")], frames.PROTOCOL_ERROR),
        ([frames.frame(frames.HEADERS, frames.END_HEADERS, 2, b"")], frames.PROTOCOL_ERROR),
        ([frames.frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff")], frames.COMPRESSION_ERROR),
        ([frames.frame(frames.HEADERS, 0, 1, b""), frames.frame(frames.PING, 0, 0, b"12345678")], frames.PROTOCOL_ERROR),
        ([frames.frame(frames.CONTINUATION, 0, 1, b"")], frames.PROTOCOL_ERROR),
        ([frames.frame(frames.HEADERS, 0, 1, b"")] + [frames.frame(frames.CONTINUATION, 0, 1, b"\0" * 16000)] * 9,
         frames.ENHANCE_YOUR_CALM),
        ([frames.frame(frames.PING, 0, 0, b"1")], frames.FRAME_SIZE_ERROR),
        ([frames.frame(frames.SETTINGS, 0, 0, b"1")], frames.FRAME_SIZE_ERROR),
        ([frames.settings([(frames.INITIAL_WINDOW_SIZE, 2**31)])], frames.FLOW_CONTROL_ERROR),
        ([frames.settings([(frames.MAX_FRAME_SIZE, 1)])], frames.PROTOCOL_ERROR),
        ([frames.window_update(0, 2**31 - 1)], frames.FLOW_CONTROL_ERROR),
        ([frames.window_update(0, 0)], frames.FLOW_CONTROL_ERROR),
        ([frames.frame(frames.PUSH_PROMISE, 0, 1, b"")], frames.PROTOCOL_ERROR),
        ([b"\xff\xff\xff\0\0\0\0\0\1"], frames.FRAME_SIZE_ERROR),
        ([frames.frame(frames.HEADERS, frames.PADDED | frames.END_HEADERS, 1, b"\xff")], frames.PROTOCOL_ERROR),
        ([frames.rst_stream(1, 8)] * 600, frames.ENHANCE_YOUR_CALM),
    ],
)  # fmt: skip
def test_broken_protocol_ends_the_connection_with_its_code(raw, channel, parts, code):
    peer = raw()
    peer.send(*parts)
    ended = peer.until(frames.GOAWAY)
    if ended is not None:  # the end may overtake the reason
        assert struct.unpack(">II", ended[3][:8])[1] == code
    assert peer.until(frames.DATA) is None
    assert channel.unary_unary(ECHO)(b"still here", timeout=10) == b"still here"


def test_not_http2_is_closed(raw, channel):
    peer = raw(greet=False)
    peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    peer.until(frames.DATA)
    assert channel.unary_unary(ECHO)(b"ok", timeout=10) == b"ok"


def test_wrong_method_and_content_type(raw):
    peer = raw()
    get = hpack.encode([(b":method", b"GET"), (b":path", b"/"), (b":scheme", b"http")])
    text = hpack.encode([(b":method", b"POST"), (b":path", b"/"), (b"content-type", b"text/plain")])
    peer.send(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, get))
    assert hpack.Decoder().decode(peer.until(frames.HEADERS, 1)[3]) == [(b":status", b"405")]
    peer.send(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 3, text))
    assert hpack.Decoder().decode(peer.until(frames.HEADERS, 3)[3]) == [(b":status", b"415")]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=60)),
        max_size=12,
    )
)
def test_random_frames_never_take_the_server_down(server, parts):
    peer = Raw(server)
    try:
        peer.send(*[frames.frame(*part) for part in parts])
        peer.socket.shutdown(socket.SHUT_WR)
        while peer.frame() is not None:
            pass
    except ConnectionError:
        pass
    finally:
        peer.close()
    good = Raw(server)
    good.send(call_frames(1, b"good"))
    assert good.until(frames.DATA, 1)[3] == messages.pack(b"good")
    good.close()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1S", 1.0), ("250m", 0.25), ("3M", 180.0), ("7u", 7e-6), ("", None), ("1", None), ("-1S", None)],
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
