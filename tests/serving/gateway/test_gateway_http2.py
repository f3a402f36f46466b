"""The gateway's own HTTP/2: a contract that both its sides keep with grpcio, and with each other; broken peers."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent import futures

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.errors import UserError
from serving.gateway.channel import Channel, _address
from serving.gateway.connection import Reply
from serving.gateway.listener import Listener
from serving.http2 import frames, hpack, messages

ECHO, FAIL, SLOW, META, NEVER = (f"/t.T/{name}" for name in ("Echo", "Fail", "Slow", "Meta", "Never"))
TEXT = "100% b\u00e4d\nluck"


def echo(request, call, done):
    done(Reply("OK", request))
    return lambda: None


def fail(request, call, done):
    done(Reply("DATA_LOSS", details=TEXT, trailers=((b"x-why", b"none"),)))
    return lambda: None


def slow(request, call, done):
    return asyncio.get_running_loop().call_later(0.2, done, Reply("OK", request)).cancel


def meta(request, call, done):
    done(Reply("OK", call.metadata.get("x-name", "").encode(), trailers=((b"x-name", b"back"),)))
    return lambda: None


class OnALoop:
    """Whatever lives on an event loop, from a test's thread."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def loop():
    made = OnALoop()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def cancelled():
    return []


@pytest.fixture(scope="module")
def ours(loop, cancelled):
    """The gateway's listener; gives its address."""

    def never(request, call, done):
        return lambda: cancelled.append(request)

    handlers = {ECHO: echo, FAIL: fail, SLOW: slow, META: meta, NEVER: never}
    listener = Listener(handlers)
    loop.run(listener.start("127.0.0.1", 0))
    yield f"127.0.0.1:{listener.port}"
    loop.run(listener.stop(0.0))


class Grpcio(grpc.GenericRpcHandler):
    """The same methods behind grpcio's server."""

    def service(self, details):
        def answer(request, context):
            if details.method == FAIL:
                context.set_trailing_metadata((("x-why", "none"),))
                context.abort(grpc.StatusCode.DATA_LOSS, TEXT)
            if details.method == SLOW:
                time.sleep(0.2)
            if details.method == META:
                context.set_trailing_metadata((("x-name", "back"),))
                return dict(context.invocation_metadata()).get("x-name", "").encode()
            if details.method == NEVER:
                time.sleep(5)
            return request

        known = details.method in (ECHO, FAIL, SLOW, META, NEVER)
        return grpc.unary_unary_rpc_method_handler(answer) if known else None


@pytest.fixture(scope="module")
def theirs():
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(32), handlers=[Grpcio()], options=options)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


Call = Callable[..., Reply]


@pytest.fixture(params=["our channel, our listener", "our channel, grpcio", "grpcio, our listener"])
def call(request, loop, ours, theirs):
    """A function that calls a method with bytes and gives a Reply, over each pair with one of ours in it."""
    client, _, server = request.param.partition(", ")
    target = ours if server == "our listener" else theirs
    if client == "grpcio":
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(target, options) as channel:

            def through_grpcio(path, body=b"", metadata=(), timeout=20.0):
                text = [(name.decode(), value.decode()) for name, value in metadata]
                try:
                    answer, ended = channel.unary_unary(path).with_call(body, timeout, text)
                except grpc.RpcError as error:
                    ended, answer = error, b""
                trailers = [(name.encode(), value.encode()) for name, value in ended.trailing_metadata()]
                return Reply(ended.code().name, answer, ended.details() or "", trailers)

            yield through_grpcio
        return
    made = loop.run(_channel(target))
    yield lambda path, body=b"", metadata=(), timeout=20.0: loop.run(ask(made, path, body, metadata, timeout))
    loop.run(made.close())


async def _channel(target, tls=None):
    return Channel(target, tls)


async def ask(channel, path, body=b"", metadata=(), timeout=20.0):
    answer = asyncio.get_running_loop().create_future()
    channel.call(path, body, metadata, timeout, answer.set_result)
    return await answer


def test_answers_statuses_and_metadata(call):
    assert call(ECHO, b"hello").body == b"hello"
    assert call(ECHO).body == b""
    failed = call(FAIL)
    assert (failed.code, failed.details) == ("DATA_LOSS", TEXT)
    assert (b"x-why", b"none") in failed.trailers
    named = call(META, metadata=((b"x-name", b"there"),))
    assert (named.body, list(named.trailers)) == (b"there", [(b"x-name", b"back")])
    assert call("/t.T/None").code == "UNIMPLEMENTED"


@pytest.mark.parametrize("size", [1, 16_379, 65_535, 1_000_003, 20 * 2**20])
def test_messages_of_every_size_come_back_whole(call, size):
    message = os.urandom(size)
    for _ in range(2):
        assert call(ECHO, message).body == message


def test_a_deadline_ends_the_call(call):
    began = time.monotonic()
    assert call(NEVER, timeout=0.3).code == "DEADLINE_EXCEEDED"
    assert time.monotonic() - began < 4
    assert call(ECHO, b"on").body == b"on"


def test_calls_run_beside_each_other(call):
    began = time.monotonic()
    with futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda name: call(SLOW, b"%d" % name).body, range(10)))
    assert answers == [b"%d" % name for name in range(10)]
    assert time.monotonic() - began < 10 * 0.2


def test_a_callers_end_reaches_the_method(loop, ours, cancelled):
    with grpc.insecure_channel(ours) as channel:
        running = channel.unary_unary(NEVER).future(b"by cancelling", timeout=20)
        time.sleep(0.1)
        running.cancel()
        channel.unary_unary(NEVER).future(b"by leaving", timeout=20)
        time.sleep(0.1)
    limit = time.monotonic() + 10
    while len(set(cancelled) & {b"by cancelling", b"by leaving"}) < 2:
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_nobody_there_is_unavailable_and_then_connected_again(loop):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    channel = loop.run(_channel(f"127.0.0.1:{port}"))
    missing = loop.run(ask(channel, ECHO))
    assert missing.code == "UNAVAILABLE"
    assert f":{port}" in missing.details
    listener = Listener({ECHO: echo})
    for _ in range(2):
        loop.run(listener.start("127.0.0.1", port))
        limit = time.monotonic() + 10
        while (reply := loop.run(ask(channel, ECHO, b"x"))).code != "OK":
            assert reply.code == "UNAVAILABLE"
            assert time.monotonic() < limit
            time.sleep(0.02)
        loop.run(listener.stop(0.0))
    loop.run(channel.close())


def test_a_draining_server_answers_what_runs_and_gets_no_more(loop):
    listener = Listener({SLOW: slow})
    loop.run(listener.start("127.0.0.1", 0))
    channel = loop.run(_channel(f"127.0.0.1:{listener.port}"))

    async def drain():
        running = asyncio.ensure_future(ask(channel, SLOW, b"last"))
        while not channel.is_connected:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        stopping = asyncio.ensure_future(listener.stop(5.0))
        await asyncio.sleep(0.05)
        return await running, channel.is_connected, await ask(channel, SLOW), await stopping

    answer, connected, refused, _ = loop.run(drain())
    assert (answer.body, connected, refused.code) == (b"last", False, "UNAVAILABLE")
    loop.run(channel.close())


class Peer:
    """A server that answers a connection's first call with given bytes."""

    def __init__(self, answer: bytes, hangs=False):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.answer, self.hangs = answer, hangs
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @property
    def target(self):
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def _serve(self):
        connection, _ = self.listener.accept()
        with connection:
            if not self.hangs:
                connection.sendall(frames.settings([]))
                seen = b""
                while ECHO.encode() not in seen:
                    seen += connection.recv(65536)
                connection.sendall(self.answer)
            while connection.recv(65536):
                pass

    def close(self):
        self.listener.close()
        self.thread.join(10)


@pytest.fixture
def peer():
    made = []

    def make(answer, **options):
        made.append(Peer(answer, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def head(number, headers, flags=frames.END_HEADERS):
    return frames.frame(frames.HEADERS, flags, number, hpack.encode(headers))


END = frames.END_HEADERS | frames.END_STREAM


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (frames.rst_stream(1, frames.REFUSED_STREAM), "UNAVAILABLE"),
        (frames.rst_stream(1, frames.CANCEL), "CANCELLED"),
        (frames.rst_stream(1, frames.ENHANCE_YOUR_CALM), "RESOURCE_EXHAUSTED"),
        (frames.rst_stream(1, frames.PROTOCOL_ERROR), "INTERNAL"),
        (frames.goaway(0, frames.NO_ERROR), "UNAVAILABLE"),
        (head(1, [(b":status", b"503")], END), "UNAVAILABLE"),
        (head(1, [(b":status", b"404")], END), "UNIMPLEMENTED"),
        (head(1, [(b":status", b"200")], END), "INTERNAL"),
        (head(1, [(b":status", b"200"), (b"grpc-status", b"99")], END), "UNKNOWN"),
        (head(1, [(b":status", b"200"), (b"grpc-status", b"\xb2")], END), "UNKNOWN"),
        (head(1, [(b":status", b"200"), (b"grpc-status", b"9" * 5000)], END), "UNKNOWN"),
        (head(1, [(b":status", b"200"), (b"grpc-status", b"0")], END), "INTERNAL"),
        (head(1, [(b":status", b"200")]) + frames.frame(frames.DATA, 0, 1, messages.pack(b"a") * 2), "INTERNAL"),
        (head(1, [(b":status", b"200")]) + frames.frame(frames.DATA, 0, 1, b"\0\xff\xff\xff\xff"), "RESOURCE_EXHAUSTED"),
        (frames.frame(frames.DATA, 0, 5, b"x"), "UNAVAILABLE"),
        (frames.frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), "UNAVAILABLE"),
        (frames.frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, b"\0\0\0\2"), "UNAVAILABLE"),
        (b"\xff\xff\xff\0\0\0\0\0\1", "UNAVAILABLE"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_an_error(loop, peer, answer, code):
    channel = loop.run(_channel(peer(answer).target))
    assert loop.run(ask(channel, ECHO, b"x")).code == code
    loop.run(channel.close())


def test_an_errors_details_are_metadata(loop, peer):
    details = (b"grpc-status-details-bin", b"CAMSAmhp")
    status = [(b":status", b"200"), (b"grpc-status", b"5"), (b"grpc-message", b"a%20b"), details]
    channel = loop.run(_channel(peer(head(1, status, END)).target))
    reply = loop.run(ask(channel, ECHO, b"x"))
    assert (reply.code, reply.details, reply.trailers) == ("NOT_FOUND", "a b", [details])
    loop.run(channel.close())


def test_a_server_that_accepts_and_says_nothing_is_not_connected(loop, peer):
    channel = loop.run(_channel(peer(b"", hangs=True).target))
    assert loop.run(ask(channel, ECHO, timeout=0.3)).code == "DEADLINE_EXCEEDED"
    assert not channel.is_connected
    loop.run(channel.close())


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200))
def test_random_answers_end_the_call_one_way_or_the_other(loop, data):
    one = Peer(data)
    channel = loop.run(_channel(one.target))
    assert loop.run(ask(channel, ECHO, b"x", timeout=0.2)).code in {
        "DEADLINE_EXCEEDED", "UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "RESOURCE_EXHAUSTED",
    }  # fmt: skip
    loop.run(channel.close())
    one.close()


def test_addresses():
    assert _address("a.b:80") == ("a.b", 80)
    assert _address("[::1]:80") == ("::1", 80)
    assert _address("dns:///a:80") == _address("dns:a:80") == ("a", 80)
    assert _address("ipv6:[::1]:80") == ("::1", 80)
    assert _address("unix:/tmp/x") == _address("unix:///tmp/x") == "/tmp/x"
    with pytest.raises(UserError, match="xds"):
        _address("xds:///a:80")


def test_unix_sockets(loop, tmp_path):
    """A listener of grpcio's on a Unix socket."""
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Grpcio()])
    server.add_insecure_port(f"unix:{tmp_path}/s")
    server.start()
    channel = loop.run(_channel(f"unix:{tmp_path}/s"))
    assert loop.run(ask(channel, ECHO, b"x")).body == b"x"
    loop.run(channel.close())
    server.stop(0).wait()
