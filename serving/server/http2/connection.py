"""One client's connection: threads that take turns at reading, and answer what they read.

Whoever reads a complete request normally passes the turn on and answers it, so that calls of one
connection run beside each other. If its calls are quick and nothing else has arrived, it answers without
passing the turn on, which saves waking a thread; should this call be of the other kind after all, it says so
before it begins. Such calls take one of a few slots of the server: more
threads than that would only fight over the interpreter lock.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from serving.server.endpoints import Call, Method
from serving.server.http2 import frames, messages
from serving.server.http2.books import Books
from serving.server.http2.frames import ProtocolError
from serving.server.http2.reader import Reader
from serving.server.http2.stream import Stream
from serving.server.status import Code, MustWaitError, ServingError

_LOG = logging.getLogger(__name__)
_QUICK_SECONDS = 0.002
_QUICK_SLOTS = 2
_IDLE_SECONDS = 10.0
_STALL_SECONDS = 60.0
_BUGS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

StreamMethod = Callable[[bytes, Callable[[], bool]], Iterator[bytes]]
"""A method that answers with a stream: (request, still wanted?) to messages."""


@dataclass(frozen=True)
class Service:
    """What all connections of a server share.

    Attributes:
        methods: gRPC path to unary method.
        streams: gRPC path to streaming method.
        threads: calls of one connection answered at a time.
        max_message_bytes: largest request.
        slots: calls answered without passing the turn on at a time, over all connections.
    """

    methods: Mapping[str, Method]
    streams: Mapping[str, StreamMethod]
    threads: int
    max_message_bytes: int
    slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_QUICK_SLOTS))


class Connection:
    """Serves one accepted socket until it closes."""

    def __init__(self, sock: socket.socket, service: Service, on_close: Callable[[Connection], None]):
        self._socket = sock
        self._service = service
        self._on_close = on_close
        self._books = Books()
        paths = {*service.methods, *service.streams}
        self._reader = Reader(sock, self._books, self._send, paths, service.max_message_bytes)
        self._turn = threading.Lock()
        self._write_lock = threading.Lock()
        self._backlog: deque[Stream] = deque()
        self._count_lock = threading.Lock()
        self._threads = 0
        self._waiting = 0
        self._quick = ""
        self._closed = False

    def start(self) -> None:
        """Begins to serve on a thread of its own."""
        self._spawn()

    def drain(self) -> None:
        """Tells the peer to send no new calls; those running are finished."""
        self._reader.draining = True
        self._send(frames.goaway(self._reader.last_stream, frames.NO_ERROR))

    def busy(self) -> bool:
        """Whether a call is arriving or being answered."""
        return self._books.busy()

    def close(self) -> None:
        """Cuts the connection."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    # Threads

    def _spawn(self) -> None:
        with self._count_lock:
            self._threads += 1
        threading.Thread(target=self._work, name="grpc-connection", daemon=True).start()

    def _work(self) -> None:
        try:
            while self._take_turn():
                try:
                    stream = self._read()
                finally:
                    self._turn.release()
                if stream is None:
                    return
                self._answer(stream)
                while self._backlog:
                    with contextlib.suppress(IndexError):  # another thread may be quicker
                        self._answer(self._backlog.popleft())
        finally:
            with self._count_lock:
                self._threads -= 1
                last = self._threads == 0
            if last:
                self._socket.close()
                self._on_close(self)

    def _take_turn(self) -> bool:
        """Waits for the turn to read; False if this thread is not needed."""
        with self._count_lock:
            self._waiting += 1
        got = self._turn.acquire(timeout=_IDLE_SECONDS)
        with self._count_lock:
            self._waiting -= 1
        if got and self._closed:
            self._turn.release()
            return False
        return got

    def _can_pass_on(self) -> bool:
        """Makes sure that another thread reads when this one stops; False if there may be no more."""
        with self._count_lock:
            if self._waiting:
                return True
            if self._threads > self._service.threads:
                return False
        self._spawn()
        return True

    def _read(self) -> Stream | None:
        """Reads on until a call should be answered without the turn; None when the connection is over."""
        try:
            while True:
                stream = self._reader.next_call()
                alone = self._quick == stream.path and not self._reader.has_more and not self._backlog
                if alone and self._answer(stream, has_turn=True):
                    continue
                if self._can_pass_on():
                    return stream
                self._backlog.append(stream)
        except ProtocolError as error:
            self._send(frames.goaway(self._reader.last_stream, error.code, str(error)))
        except (OSError, EOFError) as error:
            _LOG.debug("connection ended: %s", error)
        self._closed = True
        self._books.end()
        self.close()
        return None

    # Answering

    def _answer(self, stream: Stream, has_turn: bool = False) -> bool:
        """Runs one call and writes its answer.

        Args:
            stream: the complete request.
            has_turn: this thread is the one that reads: it must not wait for the peer, nor for a long call.

        Returns:
            False if the call, begun with the turn, must be answered without it.
        """
        try:
            encoding = stream.metadata.get("grpc-encoding", "")
            request = messages.unpack(bytes(stream.body), encoding, self._service.max_message_bytes)
            if stream.path in self._service.streams:
                self._later(self._stream_answers, stream, request)
                return True
            if has_turn:
                with self._service.slots:
                    answer = self._run(stream, request, prompt=True)
            else:
                stream.body = bytearray()
                answer = self._run(stream, request)
        except MustWaitError:
            return False
        except ServingError as error:
            self._finish(stream, messages.refusal(stream.number, error))
            return True
        except _BUGS:
            _LOG.exception("%s failed", stream.path)
            bug = ServingError(Code.UNKNOWN, "Exception calling application")
            self._finish(stream, messages.refusal(stream.number, bug))
            return True
        if self._books.take_whole(stream, answer):
            if not stream.cancelled:
                self._send(messages.unary_answer(stream.number, answer))
        elif has_turn:
            self._later(self._long_answer, stream, answer)
        else:
            self._long_answer(stream, answer)
        return True

    def _run(self, stream: Stream, request: bytes, prompt: bool = False) -> bytes:
        call = Call("GRPC", stream.deadline, stream.metadata, prompt=prompt)
        started = time.monotonic()
        answer = self._service.methods[stream.path](request, call)
        # A single slow one (the machine was busy) does not make a connection slow; ten times as slow does.
        limit = _QUICK_SECONDS * (10 if self._quick else 1)
        self._quick = stream.path if call.quick and time.monotonic() - started < limit else ""
        return answer

    def _later(self, work: Callable[[Stream, bytes], None], stream: Stream, data: bytes) -> None:
        threading.Thread(target=work, args=(stream, data), name="grpc-answer", daemon=True).start()

    def _long_answer(self, stream: Stream, answer: bytes) -> None:
        self._send(messages.opening(stream.number))
        if self._send_message(stream, answer):
            self._finish(stream, messages.ending(stream.number))

    def _stream_answers(self, stream: Stream, request: bytes) -> None:
        self._send(messages.opening(stream.number))
        for answer in self._service.streams[stream.path](request, lambda: not stream.cancelled):
            if not self._send_message(stream, answer):
                return
        self._finish(stream, messages.ending(stream.number))

    def _send_message(self, stream: Stream, answer: bytes) -> bool:
        """Sends a message piece by piece as the peer's windows allow; False if nobody takes it."""
        data = memoryview(messages.pack(answer))
        while data:
            size = self._books.take(stream, len(data), _STALL_SECONDS)
            if size == 0:
                self._finish(stream, frames.rst_stream(stream.number, frames.CANCEL))
                return False
            self._send(frames.frame(frames.DATA, 0, stream.number, bytes(data[:size])))
            data = data[size:]
        return True

    def _finish(self, stream: Stream, last_frame: bytes) -> None:
        self._books.forget(stream)
        if not stream.cancelled:
            self._send(last_frame)

    def _send(self, data: bytes) -> None:
        try:
            with self._write_lock:
                self._socket.sendall(data)
        except OSError as error:
            _LOG.debug("could not write: %s", error)
            self.close()
