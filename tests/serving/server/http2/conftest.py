"""A server with the methods of `peer`, and ways to reach it."""

from __future__ import annotations

import grpc
import pytest

from serving.server.http2.connection import Service
from serving.server.http2.server import Http2Server
from tests.serving.server.http2.peer import (
    ECHO,
    FAIL,
    LARGEST,
    SLOW,
    STREAM,
    Raw,
    echo,
    echo_steps,
    fail,
    slow,
    stream,
)


@pytest.fixture(scope="module")
def server():
    methods = {ECHO: echo, FAIL: fail, SLOW: slow}
    service = Service(methods, {STREAM: stream}, 16, LARGEST, {ECHO: echo_steps})
    running = Http2Server(["127.0.0.1:0"], service)
    yield running
    running.stop(1)


@pytest.fixture
def channel(server):
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.ports[0]}", options) as made:
        yield made


@pytest.fixture
def raw(server):
    made = []

    def make(**options):
        made.append(Raw(server, **options))
        return made[-1]

    yield make
    for peer in made:
        peer.close()
