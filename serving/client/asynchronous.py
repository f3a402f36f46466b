"""The asynchronous client: the blocking one's twin on asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from serving.client import plans
from serving.client.answers import Prediction, Ranking, Signature, VersionStatus
from serving.client.connection import Tls, backoff, channel_options, check_limits, check_target
from serving.client.errors import FailedPrecondition, InvalidArgument, ServingError, error_for


class AsyncRankerClient:
    """`RankerClient` on asyncio: same operations, results and errors, awaited; for one event loop.

    Args:
      target: `host:port`.
      model_name: the model's name on the server.
      deadline: seconds for one operation, retries and look-ups of types included.
      retries: how often a call is sent again after UNAVAILABLE (and nothing else), with growing waits.
      tls: whom to trust and who we are; None: no TLS.
      item: the feature that identifies a candidate.
    """

    def __init__(
        self,
        target: str,
        *,
        model_name: str = "ranker",
        deadline: float = 5.0,
        retries: int = 2,
        tls: Tls | None = None,
        item: str = "item_id",
    ) -> None:
        check_limits(deadline, retries)
        self.target = check_target(target)
        self.deadline = deadline
        self.retries = retries
        self._known = plans.Knowledge(target, model_name, item)
        options = channel_options(tls)
        self._channel = (
            grpc.aio.secure_channel(target, tls.credentials(), options)
            if tls
            else grpc.aio.insecure_channel(target, options)
        )
        self._methods: dict[str, Any] = {}

    async def predict(
        self, rows: Mapping[str, Any], *, version: int | None = None, label: str | None = None
    ) -> Prediction:
        """Scores rows, given as columns of raw values of one length, by `serving_default`."""
        return await self._run(plans.predict(self._known, rows, version, label))

    async def rank(
        self,
        context: Mapping[str, Any],
        candidates: Mapping[str, Any],
        k: int | None = None,
        *,
        version: int | None = None,
        label: str | None = None,
    ) -> Ranking:
        """Orders candidates for a context, the best `k` of them (None: all)."""
        return await self._run(plans.rank(self._known, context, candidates, k, version, label))

    async def describe(self, *, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        """Returns who is served: the `describe` signature's object, and `served_version`."""
        return await self._run(plans.describe(self._known, version, label))

    async def metadata(self, *, version: int | None = None, label: str | None = None) -> dict[str, Signature]:
        """Returns the model's signatures by name."""
        return await self._run(plans.metadata(self._known, version, label))

    async def status(self) -> list[VersionStatus]:
        """Returns the state of every version that the server knows, the newest first."""
        return await self._run(plans.status(self._known))

    async def close(self) -> None:
        """Closes the connection; calls under way end with an error."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncRankerClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, plan: plans.Plan) -> Any:
        expires = time.monotonic() + self.deadline
        try:
            call = next(plan)
            while True:
                try:
                    answer = await self._send(call, expires)
                except ServingError as error:
                    call = plan.throw(error)
                else:
                    call = plan.send(answer)
        except StopIteration as stop:
            return stop.value
        except (InvalidArgument, FailedPrecondition):
            self._known.forget()
            raise

    async def _send(self, call: plans.Call, expires: float) -> plans.Answer:
        waits = backoff(self.retries)
        while True:
            started = time.monotonic()
            if started >= expires:
                raise error_for(self.target, "DEADLINE_EXCEEDED", "", self.deadline)
            try:
                message = await self._method(call)(call.request, timeout=expires - started)
                return plans.Answer(message, time.monotonic() - started)
            except grpc.aio.AioRpcError as status:
                error = error_for(self.target, status.code().name, status.details() or "", self.deadline)
            wait = next(waits, None) if error.code == "UNAVAILABLE" else None
            if wait is None or time.monotonic() + wait >= expires:
                raise error
            await asyncio.sleep(wait)

    def _method(self, call: plans.Call) -> Any:
        path = call.method.path
        if path not in self._methods:
            self._methods[path] = self._channel.unary_unary(
                path,
                request_serializer=call.method.request.SerializeToString,
                response_deserializer=call.method.response.FromString,
            )
        return self._methods[path]
