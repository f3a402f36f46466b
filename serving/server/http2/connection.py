"""One client's connection: requests read on the loop's thread, answers written from any.

The loop's thread takes each call's first step. A call whose run is quick it finishes too, because waking
another thread would cost more than the run. A batched one it finishes when its batch has run: threads that
share the interpreter lock, and objects between processors, cost more than they bring. Everything else goes
to workers, up to a number of calls a connection, so that the loop never waits.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from serving.http2 import frames, messages
from serving.http2.books import Books
from serving.http2.frames import ProtocolError
from serving.http2.outgoing import Outgoing
from serving.http2.requests import RequestReader
from serving.http2.stream import Stream
from serving.server.endpoints import Call, Method
from serving.server.http2.loop import BUGS, READ, WRITE, Loop
from serving.server.http2.outbox import Outbox
from serving.server.http2.workers import Workers
from serving.server.steps import Outputs, Run, Steps, attempt, resume
from serving.status import Code, ServingError

_LOG = logging.getLogger(__name__)
_RECEIVE_BYTES = 256 * 1024
_LARGE_BYTES = 64 * 1024
_GREETING_SECONDS = 20.0
_STALL_SECONDS = 60.0

StreamMethod = Callable[[bytes, Callable[[], bool]], Iterator[bytes]]
"""A method that answers with a stream: (request, still wanted?) to messages."""


@dataclass(frozen=True)
class Service:
    """What all connections of a server share.

    Attributes:
        methods: gRPC path to unary method.
        streams: gRPC path to streaming method.
        threads: calls of one connection answered by workers at a time.
        max_message_bytes: largest request.
        steps: gRPC path to the steps of a unary method, for those of `methods` that have them.
    """

    methods: Mapping[str, Method]
    streams: Mapping[str, StreamMethod]
    threads: int
    max_message_bytes: int
    steps: Mapping[str, Callable[[bytes, Call], Steps]] = field(default_factory=dict)


class Connection:
    """Serves one accepted socket until it closes.

    All methods but `busy` belong to the loop's thread.
    """

    def __init__(
        self,
        sock: socket.socket,
        service: Service,
        loop: Loop,
        workers: Workers,
        on_close: Callable[[Connection], None],
    ):
        sock.setblocking(False)
        self._socket = sock
        self._service = service
        self._loop = loop
        self._workers = workers
        self._on_close = on_close
        self._books = Books()
        self._outbox = Outbox(sock, partial(loop.call, self._watch_for_room))
        paths = {*service.methods, *service.streams}
        self._reader = RequestReader(self._books, self._outbox.send, paths, service.max_message_bytes)
        self._began = time.monotonic()
        self._outgoing = Outgoing(self._books, self._outbox.send, lambda: self._outbox.empty)
        self._count_lock = threading.Lock()
        self._working = 0
        self._backlog: deque[Callable[[], None]] = deque()
        self._closed = False

    def start(self) -> None:
        """Begins to serve."""
        self._loop.watch(self._socket, self._ready)

    def drain(self) -> None:
        """Tells the peer to send no new calls; those running are finished."""
        self._reader.draining = True
        self._outbox.send(frames.goaway(self._reader.last_stream, frames.NO_ERROR))

    def busy(self) -> bool:
        """Whether a call is arriving, being answered, or its answer not yet written. Any thread may ask."""
        return self._books.busy() or not self._outbox.empty

    def close(self) -> None:
        """Cuts the connection."""
        if self._closed:
            return
        self._closed = True
        self._loop.forget(self._socket)
        self._outbox.close()
        self._books.end()
        self._outgoing.clear()
        self._on_close(self)

    def sweep(self, now: float) -> None:
        """Ends what has waited too long: a peer that never greeted, answers that nobody takes."""
        if not self._reader.greeted and now - self._began > _GREETING_SECONDS:
            self.close()
            return
        for stream in self._outgoing.give_up(now - _STALL_SECONDS):
            self._release(stream, frames.rst_stream(stream.number, frames.CANCEL))
            stream.cancelled = True

    # Reading

    def _ready(self, events: int) -> None:
        if events & WRITE and self._outbox.flush():
            self._loop.watch(self._socket, self._ready)
            self._outgoing.pump()
        if events & READ:
            self._read()

    def _watch_for_room(self) -> None:
        if not self._closed:
            self._loop.watch(self._socket, self._ready, READ | WRITE)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            _LOG.debug("connection ended: %s", error)
            data = b""
        if not data:
            self.close()
            return
        try:
            for stream in self._reader.feed(data):
                self._begin(stream)
        except ProtocolError as error:
            self._outbox.send(frames.goaway(self._reader.last_stream, error.code, str(error)))
            self.close()
            return
        self._outgoing.pump()

    # Answering

    def _begin(self, stream: Stream) -> None:
        """Takes the first step of a complete request."""
        try:
            encoding = stream.metadata.get("grpc-encoding", "")
            request = messages.unpack(bytes(stream.body), encoding, self._service.max_message_bytes)
        except ServingError as error:
            self._refuse(stream, error)
            return
        stream.body = bytearray()
        if stream.path in self._service.streams:
            self._workers.submit(partial(self._answer_with_stream, stream, request))
            return
        call = Call("GRPC", stream.deadline, stream.metadata)
        in_steps = self._service.steps.get(stream.path)
        if in_steps is None or len(request) > _LARGE_BYTES:
            method = self._service.methods[stream.path]
            self._hand_over(
                partial(self._guard, stream, partial(self._answer, stream, method, request, call))
            )
        else:
            self._guard(stream, partial(self._take_steps, stream, in_steps(request, call)))

    def _guard(self, stream: Stream, job: Callable[[], None]) -> None:
        """Answers with what goes wrong."""
        try:
            job()
        except ServingError as error:
            self._refuse(stream, error)
        except BUGS:
            _LOG.exception("%s failed", stream.path)
            self._refuse(stream, ServingError(Code.UNKNOWN, "Exception calling application"))

    def _answer(self, stream: Stream, method: Method, request: bytes, call: Call) -> None:
        self._reply(stream, method(request, call))

    def _take_steps(self, stream: Stream, steps: Steps) -> None:
        run = next(steps)
        if run.is_quick():
            self._run(stream, steps, run)
            return
        try:
            queued = run.later(partial(self._run_later_ended, stream, steps))
        except ServingError as error:
            self._go_on(stream, steps, error)
            return
        if not queued:
            self._hand_over(partial(self._guard, stream, partial(self._run, stream, steps, run)))

    def _run_later_ended(self, stream: Stream, steps: Steps, got: Outputs | ServingError) -> None:
        """Called by the thread that ran the batch; the loop's thread answers, so that batches go on."""
        self._loop.call(partial(self._guard, stream, partial(self._go_on, stream, steps, got)))

    def _run(self, stream: Stream, steps: Steps, run: Run) -> None:
        self._go_on(stream, steps, attempt(run))

    def _go_on(self, stream: Stream, steps: Steps, got: Outputs | ServingError) -> None:
        self._reply(stream, resume(steps, got))

    def _hand_over(self, job: Callable[[], None]) -> None:
        """Lets a worker do it, at once or when one of this connection's is free."""
        with self._count_lock:
            if self._working >= self._service.threads:
                self._backlog.append(job)
                return
            self._working += 1
        self._workers.submit(partial(self._work, job))

    def _work(self, job: Callable[[], None] | None) -> None:
        while job is not None:
            job()
            with self._count_lock:
                job = self._backlog.popleft() if self._backlog else None
                if job is None:
                    self._working -= 1

    def _answer_with_stream(self, stream: Stream, request: bytes) -> None:
        def send_all() -> None:
            self._outbox.send(messages.opening(stream.number))
            for answer in self._service.streams[stream.path](request, lambda: not stream.cancelled):
                sent = threading.Event()
                self._loop.call(partial(self._outgoing.hold, stream, messages.pack(answer), sent.set))
                while not sent.wait(0.1):
                    if stream.cancelled:
                        return
            self._loop.call(partial(self._release, stream, messages.ending(stream.number)))

        self._guard(stream, send_all)

    # Writing

    def _reply(self, stream: Stream, answer: bytes) -> None:
        if self._books.take_whole(stream, answer):
            if not stream.cancelled:
                self._outbox.send(messages.unary_answer(stream.number, answer))
        else:
            self._outbox.send(messages.opening(stream.number))
            ended = partial(self._release, stream, messages.ending(stream.number))
            self._loop.call(partial(self._outgoing.hold, stream, messages.pack(answer), ended))

    def _refuse(self, stream: Stream, error: ServingError) -> None:
        self._release(stream, messages.refusal(stream.number, error))

    def _release(self, stream: Stream, last_frame: bytes) -> None:
        self._books.forget(stream)
        if not stream.cancelled:
            self._outbox.send(last_frame)
