"""Calls in steps: which thread carries them on, and what becomes of what they bring."""

from __future__ import annotations

import threading
import time

import grpc
import pytest

from serving.server.http2.connection import Service
from serving.server.http2.server import Http2Server
from serving.status import Code, ServingError
from tests.serving.server.http2.peer import ECHO, SLOW, Nothing, echo
from tests.serving.server.server_client import failure


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
