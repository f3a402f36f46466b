"""The caller's side: TF Serving's methods, bytes in and bytes out, each answered by one replica."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio

from serving import wire
from serving.gateway.compare import Sampled
from serving.gateway.forward import Forwarder
from serving.gateway.metrics import Metrics
from serving.gateway.sampling import is_sampled, request_id
from serving.gateway.upstream import Reply

REQUEST_ID = "x-request-id"
REPLICA = "x-ranker-replica"

# A reload through a gateway would change one replica of several: it belongs at the replica's own address.
_FORWARDED = frozenset(method.path for method in wire.METHODS) - {wire.RELOAD_CONFIG.path}
# The hop's own metadata, which gRPC writes anew.
_HOP = ("grpc-", ":", "user-agent", "content-type", "te")

Handler = Callable[[bytes, Any], Awaitable[bytes]]


class Proxy(grpc.GenericRpcHandler):
    """Forwards each call to a replica and passes its answer on untouched.

    The trailing metadata `x-ranker-replica` names who answered.

    Args:
      forward: gets the answer.
      metrics: counts calls.
      sticky: the metadata key that decides the replica; None: in turn.
      rate: the part of Predict calls offered to `mirror`.
      mirror: takes a sampled call; must not wait nor raise.
    """

    def __init__(
        self,
        forward: Forwarder,
        metrics: Metrics,
        *,
        sticky: str | None,
        rate: float,
        mirror: Callable[[Sampled], object],
    ) -> None:
        self._forward = forward
        self._metrics = metrics
        self._sticky = sticky
        self._rate = rate
        self._mirror = mirror
        self._handlers = {
            path: grpc.unary_unary_rpc_method_handler(self._handler(path)) for path in _FORWARDED
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Returns the handler of a forwarded method; gRPC answers UNIMPLEMENTED to the others."""
        return self._handlers.get(handler_call_details.method)

    def _handler(self, path: str) -> Handler:
        method = path.rpartition("/")[2]
        is_predict = path == wire.PREDICT.path

        async def handle(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            clock, arrived = time.time(), time.monotonic()
            metadata = context.invocation_metadata() or ()
            # For look-ups; what is forwarded keeps keys that stand twice.
            given = dict(metadata)
            key = given.get(self._sticky) if self._sticky else None
            passed_on = tuple((name, value) for name, value in metadata if not name.startswith(_HOP))
            name, reply = await self._forward(
                path, request, passed_on, key if isinstance(key, str) else None, context.time_remaining()
            )
            self._metrics.call(method, name, reply.code, time.monotonic() - arrived)
            trailers = (*reply.trailers, (REPLICA, name))
            if reply.code != "OK":
                await context.abort(grpc.StatusCode[reply.code], reply.details, trailers)
            context.set_trailing_metadata(trailers)
            if is_predict and self._rate > 0:
                # After this handler's return has sent the answer.
                asyncio.get_running_loop().call_soon(self._sample, clock, name, request, reply, given)
            return reply.body

        return handle

    def _sample(
        self, clock: float, name: str, request: bytes, reply: Reply, given: Mapping[str, Any]
    ) -> None:
        sent = given.get(REQUEST_ID)
        identifier = request_id(sent if isinstance(sent, str) else None, request)
        if is_sampled(identifier, self._rate):
            self._mirror(Sampled(identifier, clock, name, reply.latency, request, reply.body))
