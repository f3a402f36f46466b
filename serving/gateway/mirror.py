"""Asks the other replicas what a caller asked one, and hands on what they said."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from serving import wire
from serving.gateway.compare import Question, Sampled, comparison, failed_answer, question, usable_answer
from serving.gateway.upstream import Upstream
from serving.mirrored import MirroredRequest, ReplicaAnswer

Sink = Callable[[MirroredRequest], None]


class Mirror:
    """A bounded queue of sampled calls and the workers that empty it.

    Each call goes to the other replicas one after the other in an order drawn by its id, so that no replica
    is always asked first, on a cold cache, or always last.

    Args:
      upstreams: the replicas by name, with breakers of their own: what mirroring learns of a replica never
        decides where callers go.
      sink: takes each comparison; called on the event loop, so it must be quick.
      model_name: the model whose requests are compared.
      item: the feature that identifies a candidate.
      features: whose values are kept, to slice by.
      deadline: seconds for one mirrored call.
      queue: calls that may wait; more are dropped and counted.
      workers: calls under way at a time.

    Attributes:
      counts: (event, replica, code): `compared`, `skipped`, `dropped`, `answer`, `sink_failed`.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        sink: Sink,
        *,
        model_name: str,
        item: str,
        features: Sequence[str] = (),
        deadline: float = 1.0,
        queue: int = 1000,
        workers: int = 4,
    ) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self._upstreams = upstreams
        self._sink = sink
        self._model_name, self._item, self._features = model_name, item, tuple(features)
        self._deadline = deadline
        self._queue: asyncio.Queue[Sampled] = asyncio.Queue(queue)
        self._workers = [asyncio.create_task(self._work()) for _ in range(workers)]

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return self._queue.qsize()

    def offer(self, call: Sampled) -> bool:
        """Queues a call; returns False, and counts it, if the queue is full. Never waits."""
        try:
            self._queue.put_nowait(call)
        except asyncio.QueueFull:
            self.counts["dropped", "", "queue"] += 1
            return False
        return True

    async def drain(self, seconds: float) -> None:
        """Works off the queue for at most this long, then stops."""
        try:
            await asyncio.wait_for(self._queue.join(), seconds)
        except asyncio.TimeoutError:
            self.counts["dropped", "", "shutdown"] += self._queue.qsize()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            call = await self._queue.get()
            try:
                await self._compare(call)
            finally:
                self._queue.task_done()

    async def _compare(self, call: Sampled) -> None:
        asked = question(call.request, self._model_name, self._item, self._features)
        if asked is None:
            self.counts["skipped", "", "not_comparable"] += 1
            return
        others = [name for name in self._upstreams if name != call.replica]
        random.Random(call.request_id).shuffle(others)
        answers = [await self._ask(self._upstreams[name], call, asked) for name in others]
        for answer in answers:
            self.counts["answer", answer.replica, answer.error or "OK"] += 1
        try:
            self._sink(comparison(call, asked, answers))
        except OSError:
            # A full disk must not stop the mirror; the counter tells.
            self.counts["sink_failed", "", ""] += 1
        else:
            self.counts["compared", "", ""] += 1

    async def _ask(self, upstream: Upstream, call: Sampled, asked: Question) -> ReplicaAnswer:
        if not upstream.breaker.allows(time.monotonic()):
            return failed_answer(asked, upstream.name, 0.0, "BREAKER_OPEN")
        metadata = ((b"x-request-id", call.request_id.encode()),) if call.request_id.isascii() else ()
        reply = await upstream.call(wire.PREDICT.path, call.request, metadata, self._deadline)
        if reply.code != "OK":
            return failed_answer(asked, upstream.name, reply.latency, reply.code)
        return usable_answer(asked, upstream.name, False, reply.latency, reply.body)
