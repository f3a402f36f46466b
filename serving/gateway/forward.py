"""One call to one good answer: late, failed and malformed answers are made up for by the next replica."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping

from serving.gateway.channel import Metadata, Reply
from serving.gateway.metrics import Metrics
from serving.gateway.pace import Budget, Pace
from serving.gateway.routing import Router
from serving.gateway.upstream import Upstream

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
    """

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        router: Router,
        metrics: Metrics,
        slow: float,
        is_good: Callable[[str, bytes, bytes], bool],
    ) -> None:
        self._upstreams = upstreams
        self._router = router
        self._metrics = metrics
        self._slow = slow
        self._is_good = is_good
        self._paces: dict[tuple[str, int], Pace] = {}
        self._budget = Budget()
        self._trials: set[asyncio.Task[None]] = set()

    async def __call__(
        self, path: str, request: bytes, metadata: Metadata, key: str | None, remaining: float | None
    ) -> tuple[str, Reply]:
        """Returns who answered, and what.

        Args:
          path: the method.
          request: the message's bytes.
          metadata: what goes with it.
          key: what decides the replica; None: in turn.
          remaining: seconds the caller waits; None: without end.
        """
        # Requests of one method and about one size take about as long.
        pace = self._paces.setdefault((path, len(request).bit_length()), Pace(longest=self._slow))
        healthy = {name for name, upstream in self._upstreams.items() if upstream.is_healthy}
        waiting = self._router.order(key, healthy)
        call = _Call(path, request, metadata, None if remaining is None else time.monotonic() + remaining)
        self._budget.earn()
        self._try_again(call, besides=waiting[0], patience=2 * pace.late_after)
        asked: dict[asyncio.Future[Reply], str] = {}
        complaint: tuple[str, Reply] | None = None
        last = (waiting[0], Reply("UNAVAILABLE"))
        try:
            while asked or waiting:
                if not asked:
                    self._ask(waiting.pop(0), call, asked)
                may_ask_more = len(asked) == 1 and bool(waiting) and waiting[0] in healthy
                task = await _first(asked, pace.late_after if may_ask_more else None)
                if task is None and self._budget.spend():
                    self._ask(waiting.pop(0), call, asked)
                    continue
                task = task or await _first(asked, None)
                if task is None:  # never: `asked` is not empty
                    continue
                earlier = list(asked)[: list(asked).index(task)]
                name, reply = asked.pop(task), task.result()
                upstream = self._upstreams[name]
                if reply.code == "OK" and self._is_good(path, request, reply.body):
                    upstream.settle(reply)
                    pace.observe(reply.latency)
                    self._pass_over(complaint, [asked[task] for task in earlier])
                    return name, reply
                if reply.code == "UNAVAILABLE" or reply.code in _CALLERS:
                    upstream.settle(reply)
                    last = (name, reply)
                    if reply.code == "UNAVAILABLE":
                        self._metrics.retry(name)
                    else:
                        waiting.clear()
                elif complaint:
                    upstream.settle(reply)
                    break
                else:
                    complaint = (name, reply)
            if complaint:
                self._upstreams[complaint[0]].settle(complaint[1])
            return complaint or last
        finally:
            for task in asked:
                task.cancel()

    async def close(self) -> None:
        """Ends the trials under way."""
        for task in self._trials:
            task.cancel()
        await asyncio.gather(*self._trials, return_exceptions=True)

    def _ask(self, name: str, call: _Call, asked: dict[asyncio.Future[Reply], str]) -> None:
        asked[call.to(self._upstreams[name])] = name

    def _pass_over(self, complaint: tuple[str, Reply] | None, overtaken: list[str]) -> None:
        if complaint:
            name, reply = complaint
            self._upstreams[name].settle(reply, ok=False)
            self._metrics.passed_over(name, "error")
        for name in overtaken:
            self._upstreams[name].late()
            self._metrics.passed_over(name, "late")

    def _try_again(self, call: _Call, besides: str, patience: float) -> None:
        for name, upstream in self._upstreams.items():
            if name != besides and upstream.wants_trial:
                # Claimed at once, or every call of this moment would be copied.
                upstream.breaker.begin(time.monotonic())
                task = asyncio.create_task(self._trial(upstream, call, patience))
                self._trials.add(task)
                task.add_done_callback(self._trials.discard)

    async def _trial(self, upstream: Upstream, call: _Call, patience: float) -> None:
        reply = await upstream.ask(call.path, call.request, call.metadata, self._slow)
        good = reply.code == "OK" and self._is_good(call.path, call.request, reply.body)
        upstream.settle(reply, ok=good and reply.latency < patience)


async def _first(
    asked: Collection[asyncio.Future[Reply]], timeout: float | None
) -> asyncio.Future[Reply] | None:
    """The task that is done, the one begun first where several are; None after `timeout` seconds."""
    await asyncio.wait(asked, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    return next((task for task in asked if task.done()), None)


class _Call:
    def __init__(self, path: str, request: bytes, metadata: Metadata, expires: float | None) -> None:
        self.path, self.request, self.metadata = path, request, metadata
        self._expires = expires

    def to(self, upstream: Upstream) -> asyncio.Future[Reply]:
        timeout = None if self._expires is None else max(self._expires - time.monotonic(), 0.0)
        return upstream.ask(self.path, self.request, self.metadata, timeout)
