"""One call to one good answer: late, failed and malformed answers are made up for by the next replica."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from serving.gateway.connection import Cancel, Metadata, Reply
from serving.gateway.metrics import Metrics
from serving.gateway.pace import Budget, Pace
from serving.gateway.routing import Router
from serving.gateway.upstream import Upstream

_LOG = logging.getLogger(__name__)

Done = Callable[[str, Reply], None]
"""Takes who answered, and what."""

# What says something of the caller's patience, not of a replica.
_CALLERS = frozenset({"DEADLINE_EXCEEDED", "CANCELLED"})


class Forwarder:
    """Asks the replica whose turn it is, and others where that one does not do.

    Every method forwarded is free of effects, so that asking twice is safe.

    - UNAVAILABLE: the next replica is asked, each at most once.
    - Late (see `Pace`): the next healthy one is asked too, and the first good answer wins. Who is overtaken
      has failed; five times in a row, and the replica's breaker leaves it alone.
    - Another error, or an answer that cannot be one to this request: a second opinion from the next. A good
      one is the caller's answer and the first replica has failed; where both complain, the fault is the request's,
      and the caller gets the first complaint as it is.
    - A replica left alone is tried with copies of calls, never with a caller's own.

    Args:
      upstreams: the replicas by name.
      router: who is asked first.
      metrics: counts who was passed over.
      slow: seconds; an answer is late after this in any case.
      is_good: whether an OK answer's bytes can be an answer to a request's: (path, request, answer).

    Attributes:
      upstreams, metrics: as given.
      budget: how many more calls may be asked twice.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        router: Router,
        metrics: Metrics,
        slow: float,
        is_good: Callable[[str, bytes, bytes], bool],
    ) -> None:
        self.upstreams = upstreams
        self._router = router
        self.metrics = metrics
        self._slow = slow
        self._is_good = is_good
        self._paces: dict[tuple[str, int], Pace] = {}
        self.budget = Budget()
        self._trials: dict[str, Cancel] = {}

    def __call__(
        self,
        path: str,
        request: bytes,
        metadata: Metadata,
        key: str | None,
        remaining: float | None,
        done: Done,
    ) -> Cancel:
        """Sends a call on its way.

        Args:
          path: the method.
          request: the message's bytes.
          metadata: what goes with it.
          key: what decides the replica; None: in turn.
          remaining: seconds the caller waits; None: without end.
          done: told the answer, once, later.

        Returns:
          What ends the call without an answer.
        """
        # Requests of one method and about one size take about as long.
        pace = self._paces.setdefault((path, len(request).bit_length()), Pace(longest=self._slow))
        healthy = {name for name, upstream in self.upstreams.items() if upstream.is_healthy}
        waiting = self._router.order(key, healthy)
        call = _Call(path, request, metadata, None if remaining is None else time.monotonic() + remaining)
        self.budget.earn()
        self._try_again(call, besides=waiting[0], patience=2 * pace.late_after)
        journey = _Journey(self, call, pace, waiting, healthy, done)
        journey.ask_next()
        return journey.end

    def close(self) -> None:
        """Ends the trials under way."""
        for cancel in self._trials.values():
            cancel()

    def _try_again(self, call: _Call, besides: str, patience: float) -> None:
        for name, upstream in self.upstreams.items():
            if name != besides and upstream.wants_trial:
                # The breaker has begun its trial when `ask` returns, or every call of this moment would be copied.
                tried = partial(self._tried, upstream, call, patience)
                self._trials[name] = call.to(upstream, tried, self._slow)

    def _tried(self, upstream: Upstream, call: _Call, patience: float, reply: Reply) -> None:
        self._trials.pop(upstream.name, None)
        upstream.settle(reply, ok=self.is_answer(call, reply) and reply.latency < patience)

    def is_answer(self, call: _Call, reply: Reply) -> bool:
        """Whether a reply is a good answer to the call."""
        return reply.code == "OK" and self._is_good(call.path, call.request, reply.body)


@dataclass(frozen=True, slots=True)
class _Call:
    path: str
    request: bytes
    metadata: Metadata
    expires: float | None

    def to(self, upstream: Upstream, done: Callable[[Reply], None], timeout: float | None = None) -> Cancel:
        if timeout is None and self.expires is not None:
            timeout = max(self.expires - time.monotonic(), 0.0)
        return upstream.ask(self.path, self.request, self.metadata, timeout, done)


class _Journey:
    """One call's way from replica to replica."""

    def __init__(
        self,
        forwarder: Forwarder,
        call: _Call,
        pace: Pace,
        waiting: list[str],
        healthy: set[str],
        done: Done,
    ) -> None:
        self._forwarder, self._call, self._pace, self._done = forwarder, call, pace, done
        self._waiting, self._healthy = waiting, healthy
        self._asked: dict[str, Cancel] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._complaint: tuple[str, Reply] | None = None

    def ask_next(self) -> None:
        """Asks the replica whose turn it is."""
        name = self._waiting.pop(0)
        self._asked[name] = self._call.to(self._forwarder.upstreams[name], partial(self._answered, name))
        self._watch_the_clock()

    def end(self) -> None:
        """Gives up whoever has not answered."""
        if self._timer is not None:
            self._timer.cancel()
        for cancel in self._asked.values():
            cancel()
        self._asked.clear()

    def _watch_the_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if len(self._asked) == 1 and self._waiting and self._waiting[0] in self._healthy:
            self._timer = asyncio.get_running_loop().call_later(self._pace.late_after, self._late)

    def _late(self) -> None:
        self._timer = None
        if self._forwarder.budget.spend():
            self.ask_next()

    def _answered(self, name: str, reply: Reply) -> None:
        earlier = list(self._asked)[: list(self._asked).index(name)]
        del self._asked[name]
        try:
            final = self._judge(name, reply, earlier)
        except Exception:  # noqa: BLE001 - whatever it is, the caller must hear of it
            _LOG.exception("%s could not be forwarded", self._call.path)
            final = (name, Reply("UNKNOWN", details="Unexpected error in the gateway"))
        if final is None and self._asked:
            self._watch_the_clock()
        elif final is None:
            self.ask_next()
        else:
            self.end()
            self._done(*final)

    def _judge(self, name: str, reply: Reply, earlier: Sequence[str]) -> tuple[str, Reply] | None:
        """What the caller gets; None if others are to be heard first."""
        upstream, metrics = self._forwarder.upstreams[name], self._forwarder.metrics
        if self._forwarder.is_answer(self._call, reply):
            upstream.settle(reply)
            self._pace.observe(reply.latency)
            self._pass_over(earlier)
            return name, reply
        if reply.code == "UNAVAILABLE" or reply.code in _CALLERS:
            upstream.settle(reply)
            if reply.code == "UNAVAILABLE":
                metrics.retry(name)
            else:
                self._waiting.clear()
            ended = (name, reply)
        elif self._complaint is not None:
            upstream.settle(reply)
            return self._give_in()
        else:
            self._complaint = ended = (name, reply)
        if self._asked or self._waiting:
            return None
        return self._give_in() or ended

    def _give_in(self) -> tuple[str, Reply] | None:
        """The first complaint is right: nobody has answered."""
        if self._complaint is not None:
            name, reply = self._complaint
            self._forwarder.upstreams[name].settle(reply)
        return self._complaint

    def _pass_over(self, overtaken: Sequence[str]) -> None:
        upstreams, metrics = self._forwarder.upstreams, self._forwarder.metrics
        if self._complaint is not None:
            name, reply = self._complaint
            upstreams[name].settle(reply, ok=False)
            metrics.passed_over(name, "error")
        for name in overtaken:
            upstreams[name].late()
            metrics.passed_over(name, "late")
