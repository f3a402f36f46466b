"""The gRPC transport for TLS and gRPC channel arguments: grpcio, with a thread pool."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any

import grpc

from serving.server.endpoints import Call, Method
from serving.server.http2.connection import StreamMethod
from serving.status import Code, ServingError

_LOG = logging.getLogger(__name__)
_STATUS = {status.value[0]: status for status in grpc.StatusCode}


class Services(grpc.GenericRpcHandler):
    """Finds the handler of a path; an unknown one is answered with UNIMPLEMENTED by gRPC."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        streams: Mapping[str, StreamMethod],
    ):
        self._handlers = {
            path: grpc.unary_unary_rpc_method_handler(_adapt(method)) for path, method in methods.items()
        }
        self._handlers.update(
            {
                path: grpc.unary_stream_rpc_method_handler(_adapt_stream(stream))
                for path, stream in streams.items()
            }
        )

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Called by gRPC for every call."""
        return self._handlers.get(handler_call_details.method)


def build(
    methods: Mapping[str, Method],
    addresses: list[str],
    threads: int,
    max_message_bytes: int,
    credentials: grpc.ServerCredentials | None = None,
    channel_arguments: list[tuple[str, Any]] | None = None,
    streams: Mapping[str, StreamMethod] | None = None,
) -> tuple[grpc.Server, list[int]]:
    """Makes and starts a server.

    Args:
        methods: gRPC path to method.
        addresses: what to listen on, such as `127.0.0.1:0` or `unix:/path`.
        threads: calls handled at a time.
        max_message_bytes: largest request accepted; -1 for no limit.
        credentials: TLS, for all addresses but Unix sockets; None for plain text.
        channel_arguments: further gRPC channel arguments.
        streams: gRPC path to a method that answers with a stream.

    Returns:
        The started server and the port of each address (1 for a Unix socket).

    Raises:
        ServingError: INVALID_ARGUMENT if an address can't be bound.
    """
    server = grpc.server(
        futures.ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
        handlers=[Services(methods, streams or {})],
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            *(channel_arguments or []),
        ],
    )
    ports = []
    for address in addresses:
        try:
            if credentials is not None and not address.startswith("unix:"):
                ports.append(server.add_secure_port(address, credentials))
            else:
                ports.append(server.add_insecure_port(address))
        except RuntimeError:
            raise ServingError(Code.INVALID_ARGUMENT, f"Failed to listen on {address}") from None
    server.start()
    return server, ports


def _adapt(method: Method) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
        left = context.time_remaining()
        deadline = None if left is None or left > 1e8 else time.monotonic() + left
        call = Call("GRPC", deadline, dict(context.invocation_metadata()))
        try:
            return method(request, call)
        except ServingError as error:
            code, text = error.code, error.wire_message
        context.abort(_STATUS[code], text)
        raise AssertionError("abort raises")

    return handle


def _adapt_stream(method: StreamMethod) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
    return lambda request, context: method(request, context.is_active)
