"""The gRPC transport: grpcio, for plain text, TLS, Unix sockets and channel arguments alike.

grpcio gives a call to a thread when its headers arrive, and the thread waits for the message. With a fixed
number of threads, as many callers that send half a message would stop everybody else. So there are as many
threads as calls, and a limit on those that run. (grpcio's asyncio server needs no thread for a caller that
waits, but a fifth more processor time for every call.)
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc

from serving.server.models.model_config import read_text
from serving.server.requests.endpoints import CallContext, Method
from serving.status import Code, StatusError, invalid
from serving.wire import HealthCheckRequest, HealthCheckResponse, SSLConfig

_LOG = logging.getLogger(__name__)
_STATUS = {status.value[0]: status for status in grpc.StatusCode}
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
    # Each call has a thread: a peer's calls beyond these wait at the peer.
    ("grpc.max_concurrent_streams", 1024),
    # A peer that is gone, or reads nothing, is noticed by its missing answer to a ping.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # C core's default cuts the connection of a client that pings more often than every five minutes.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)
_IDLE_SECONDS = 10.0
_QUIET_SECONDS = 0.1
_REFUSE_SECONDS = 2.0
_HEALTH_SERVICES = ("", "ModelService", "PredictionService")
_WATCH_SECONDS = 1.0


class CallThreads:
    """A thread for each job, kept for a while for the next one. Stands in for a `ThreadPoolExecutor`."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._free = 0  # idle threads less jobs in the queue

    def submit(self, function: Callable[..., object], *arguments: Any) -> CallThreads:
        """Runs a job on an idle thread or a new one. It must not raise.

        Returns:
            The object that grpcio takes for a future. It calls nothing but `add_done_callback`.
        """
        with self._lock:
            needs_thread = self._free <= 0
            self._free -= 1
        self._jobs.put((function, arguments))
        if needs_thread:
            try:
                threading.Thread(target=self._run_jobs, name="grpc", daemon=True).start()
            except RuntimeError as error:  # the system's limit: the job waits for a thread
                _LOG.error("%s", error)
        return self

    def add_done_callback(self, callback: Callable[..., object]) -> None:
        """Does nothing: grpcio uses it only to count calls where their number is limited."""

    def _run_jobs(self) -> None:
        with self._lock:
            self._free += 1
        while True:
            try:
                function, arguments = self._jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._free <= 0:
                        continue  # a job was promised to this thread
                    self._free -= 1
                return
            function(*arguments)
            del function, arguments  # an idle thread holds no request
            with self._lock:
                self._free += 1


class GrpcServer(grpc.GenericRpcHandler):
    """Listens from construction until `stop`.

    Attributes:
        ports: the port of each address, 1 for a Unix socket.
    """

    def __init__(
        self,
        addresses: list[str],
        methods: Mapping[str, Method],
        *,
        threads: int,
        max_message_bytes: int,
        background: Mapping[str, Method] | None = None,
        with_health: bool = False,
        credentials: grpc.ServerCredentials | None = None,
        channel_arguments: list[tuple[str, Any]] | None = None,
        on_not_run: Callable[[str], None] = lambda reason: None,
    ):
        """Binds and starts accepting.

        Args:
            addresses: what to listen on, such as `127.0.0.1:0` or `unix:/path`.
            methods: gRPC path to method.
            threads: calls of `methods` that run at a time.
            max_message_bytes: largest request.
            background: gRPC path to a method that may take minutes and has no share in `threads`.
            with_health: answer grpc.health.v1.Health.
            credentials: TLS, for all addresses but Unix sockets; None for plain text.
            channel_arguments: further gRPC channel arguments; they win over the server's own.
            on_not_run: called with "cancelled" or "deadline" for a call that ended before it could run.

        Raises:
            StatusError: INVALID_ARGUMENT if an address can't be bound.
        """
        self._running = threading.Semaphore(threads)
        self._on_not_run = on_not_run
        self._draining = threading.Event()
        self._last_arrival = 0.0
        self._handlers = {
            path: grpc.unary_unary_rpc_method_handler(self._handler(self._limited(method)))
            for path, method in methods.items()
        }
        for path, method in (background or {}).items():
            self._handlers[path] = grpc.unary_unary_rpc_method_handler(self._handler(self._unlimited(method)))
        if with_health:
            health = HealthService(self._draining)
            self._handlers |= {
                "/grpc.health.v1.Health/Check": grpc.unary_unary_rpc_method_handler(health.check),
                "/grpc.health.v1.Health/Watch": grpc.unary_stream_rpc_method_handler(health.watch),
            }
        self._server = grpc.server(
            CallThreads(),
            handlers=[self],
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                *_OPTIONS,
                *(channel_arguments or []),
            ],
        )
        self.ports = []
        for address in addresses:
            try:
                if credentials is not None and not address.startswith("unix:"):
                    self.ports.append(self._server.add_secure_port(address, credentials))
                else:
                    self.ports.append(self._server.add_insecure_port(address))
            except RuntimeError:
                raise invalid(f"Failed to listen on {address}") from None
        self._server.start()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The handler of a path; gRPC answers an unknown one with UNIMPLEMENTED."""
        return self._handlers.get(handler_call_details.method)

    def stop(self, grace_seconds: float) -> None:
        """Refuses new calls, lets those under way finish for that long, then cuts them."""
        began = time.monotonic()
        limit = began + min(grace_seconds, _REFUSE_SECONDS)
        self._draining.set()
        # C core resets the streams that reach a stopping server: CANCELLED, which no client or proxy tries
        # again elsewhere. So the server answers UNAVAILABLE until its callers have gone.
        while (now := time.monotonic()) < limit and now < self._last_arrival + _QUIET_SECONDS:
            time.sleep(_QUIET_SECONDS / 4)
        self._server.stop(max(grace_seconds - (time.monotonic() - began), 0)).wait()

    def _limited(self, method: Method) -> Callable[[bytes, CallContext, grpc.ServicerContext], bytes]:
        def run(request: bytes, call: CallContext, context: grpc.ServicerContext) -> bytes:
            with self._running:
                if call.expired():
                    raise self._not_run("deadline")
                if not context.is_active():
                    raise self._not_run("cancelled")
                return method(request, call)

        return run

    def _unlimited(self, method: Method) -> Callable[[bytes, CallContext, grpc.ServicerContext], bytes]:
        def run(request: bytes, call: CallContext, context: grpc.ServicerContext) -> bytes:
            if not context.add_callback(call.cancel):  # the call has ended already
                raise self._not_run("cancelled")
            return method(request, call)

        return run

    def _not_run(self, reason: str) -> StatusError:
        self._on_not_run(reason)
        if reason == "deadline":
            return StatusError(Code.DEADLINE_EXCEEDED, "Deadline exceeded before the request was run")
        return StatusError(Code.CANCELLED, "The call was cancelled before it was run")

    def _handler(
        self, run: Callable[[bytes, CallContext, grpc.ServicerContext], bytes]
    ) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            self._last_arrival = now = time.monotonic()
            if self._draining.is_set():
                context.abort(grpc.StatusCode.UNAVAILABLE, "The server is shutting down")
            seconds = context.time_remaining()
            deadline = None if seconds is None else now + seconds
            call = CallContext("GRPC", deadline, dict(context.invocation_metadata()))
            try:
                return run(request, call, context)
            except StatusError as error:
                code, text = _STATUS[error.code], error.wire_message
            except Exception:  # noqa: BLE001 - whatever it is, the caller must hear of it, but not of our code
                _LOG.exception("a call failed")
                code, text = grpc.StatusCode.UNKNOWN, "Exception calling application"
            context.abort(code, text)
            raise AssertionError("abort raises")

        return handle


class HealthService:
    """grpc.health.v1.Health: SERVING from the moment the port is open until the drain begins."""

    def __init__(self, draining: threading.Event) -> None:
        self._draining = draining

    def check(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Health.Check: NOT_FOUND for a service that is not known."""
        service = HealthCheckRequest.FromString(request).service
        if service not in _HEALTH_SERVICES:
            context.abort(grpc.StatusCode.NOT_FOUND, "")
        return self._status(service)

    def watch(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Health.Watch: the status now, and again when the drain begins, which ends the stream."""
        service = HealthCheckRequest.FromString(request).service
        is_draining = self._draining.is_set()
        yield self._status(service)
        while context.is_active() and not is_draining:
            is_draining = self._draining.wait(_WATCH_SECONDS)
        if context.is_active():
            yield self._status(service)

    def _status(self, service: str) -> bytes:
        status = "NOT_SERVING" if self._draining.is_set() else "SERVING"
        if service not in _HEALTH_SERVICES:
            status = "SERVICE_UNKNOWN"
        return HealthCheckResponse(status=status).SerializeToString()


def server_credentials(path: str) -> grpc.ServerCredentials:
    """TLS from a text `SSLConfig` with PEM contents inline, as TF Serving has it.

    Args:
        path: file with `server_key`, `server_cert`, and for mutual TLS `custom_ca` and `client_verify`.

    Raises:
        StatusError: INVALID_ARGUMENT if the file is wrong or its key or certificate is missing.
    """
    config = read_text(path, SSLConfig)
    if not config.server_key or not config.server_cert:
        raise invalid(f"`{path}` must hold server_key and server_cert as PEM text")
    if config.client_verify and not config.custom_ca:
        raise invalid(f"`{path}` must hold custom_ca when client_verify is true")
    try:
        return grpc.ssl_server_credentials(
            [(config.server_key.encode(), config.server_cert.encode())],
            config.custom_ca.encode() or None,
            config.client_verify,
        )
    except ValueError as error:
        raise invalid(f"`{path}`: {error}") from None
