"""The caller's side: TF Serving's methods, bytes in and bytes out, each answered by one replica."""

from __future__ import annotations

import time
from collections.abc import Callable

from serving import wire
from serving.gateway.compare import Sampled
from serving.gateway.connection import Cancel, Reply
from serving.gateway.forward import Forwarder
from serving.gateway.listener import Handler
from serving.gateway.metrics import Metrics
from serving.gateway.sampling import is_sampled, request_id
from serving.http2.stream import Stream

REQUEST_ID = "x-request-id"
REPLICA = b"x-ranker-replica"

# A reload through a gateway would change one replica of several: it belongs at the replica's own address.
_FORWARDED = frozenset(method.path for method in wire.METHODS) - {wire.RELOAD_CONFIG.path}
# The hop's own metadata, which gRPC writes anew.
_HOP = (b"grpc-", b":", b"user-agent", b"content-type", b"te")


class Proxy:
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

    def handlers(self) -> dict[str, Handler]:
        """The forwarded methods by path."""
        return {path: self._handler(path) for path in _FORWARDED}

    def _handler(self, path: str) -> Handler:
        method = path.rpartition("/")[2]
        is_predict = path == wire.PREDICT.path

        def handle(request: bytes, call: Stream, done: Callable[[Reply], None]) -> Cancel:
            clock, arrived = time.time(), time.monotonic()
            # Keys that stand twice are passed on twice; for look-ups the last one counts.
            passed_on = [header for header in call.headers if not header[0].startswith(_HOP)]
            key = call.metadata.get(self._sticky) if self._sticky else None
            remaining = None if call.deadline is None else call.deadline - arrived

            def answered(name: str, reply: Reply) -> None:
                self._metrics.call(method, name, reply.code, time.monotonic() - arrived)
                trailers = (*reply.trailers, (REPLICA, name.encode()))
                done(Reply(reply.code, reply.body, reply.details, trailers))
                if is_predict and self._rate > 0 and reply.code == "OK":
                    self._sample(clock, name, request, reply, call.metadata.get(REQUEST_ID))

            return self._forward(path, request, passed_on, key, remaining, answered)

        return handle

    def _sample(self, clock: float, name: str, request: bytes, reply: Reply, sent: str | None) -> None:
        identifier = request_id(sent, request)
        if is_sampled(identifier, self._rate):
            self._mirror(Sampled(identifier, clock, name, reply.latency, request, reply.body))
