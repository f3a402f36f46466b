"""One Predict: arrays in, arrays out, in TF Serving's order of checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from serving.server.pace import Pace
from serving.server.signatures import Feeds, Signature, TensorSpec, find, prepare_feeds, select_outputs
from serving.server.steps import Done, Outputs, Run


class Model(Protocol):
    """What a request needs of a loaded version: `backend.SessionModel`, batched or not, or a test's own."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """By name."""

    @property
    def signature_defs(self) -> Mapping[str, Any]:
        """The protos by name."""

    @property
    def pace(self) -> Pace | None:
        """How long runs take; None if that is not decided by the input alone: loops, waiting for others."""

    def run(self, feeds: Feeds, fetches: Sequence[TensorSpec], timeout_ms: int = 0) -> Outputs:
        """Runs the graph once."""

    def submit(self, feeds: Feeds, fetches: Sequence[TensorSpec], timeout_ms: int, done: Done) -> bool:
        """Has the graph run together with other requests'; False if this model runs each on its own.

        Raises:
            ServingError: refused; `done` is not called.
        """

    def close(self) -> None:
        """Frees it."""


@dataclass(slots=True)
class ModelRun:
    """The `Run` of one request.

    Attributes:
        model: the version that answers.
        feeds: inputs with their arrays.
        fetches: outputs wanted.
        timeout_ms: gives the milliseconds left, 0 for no limit; raises when none are left.
        size: bytes of the request, which tell how long it will take; 0 if unknown.
    """

    model: Model
    feeds: Feeds
    fetches: Sequence[TensorSpec]
    timeout_ms: Callable[[], int]
    size: int = 0

    def is_quick(self) -> bool:
        """Whether runs of such requests were quick so far."""
        pace = self.model.pace
        return pace is not None and pace.is_quick(self.size)

    def now(self) -> Outputs:
        """Runs on this thread."""
        pace = self.model.pace
        if pace is None:
            return self.model.run(self.feeds, self.fetches, self.timeout_ms())
        began = time.thread_time()
        outputs = self.model.run(self.feeds, self.fetches, self.timeout_ms())
        pace.took(self.size, time.thread_time() - began)
        return outputs

    def later(self, done: Done) -> bool:
        """Runs in a batch, where the model has them."""
        return self.model.submit(self.feeds, self.fetches, self.timeout_ms(), done)


def no_timeout() -> int:
    """For calls without a deadline."""
    return 0


def predict(
    model: Model,
    signature_name: str,
    names: Iterable[str],
    decode: Callable[[str], np.ndarray],
    output_filter: Iterable[str] = (),
    timeout_ms: Callable[[], int] = no_timeout,
    strict: bool = False,
    max_rows: int = 0,
    size: int = 0,
) -> Generator[Run, Outputs, tuple[str, dict[str, np.ndarray]]]:
    """Runs one signature, in steps.

    Args:
        model: the version that answers.
        signature_name: "" for `serving_default`. Any signature may be run, whatever its method name.
        names: the request's input aliases.
        decode: gives an input's array.
        output_filter: outputs wanted; none means all.
        timeout_ms: gives the milliseconds left, 0 for no limit.
        strict: check shapes against the signature.
        max_rows: most rows of an input; 0 for no limit.
        size: bytes of the request.

    Returns:
        The signature's effective name and the outputs by alias.

    Raises:
        ServingError: as TF Serving answers.
    """
    signature = find(model.signatures, signature_name)
    feeds = prepare_feeds(signature, names, decode, strict, max_rows)
    fetches = select_outputs(signature, output_filter)
    outputs = yield ModelRun(model, feeds, fetches, timeout_ms, size)
    return signature.name, {spec.alias: array for spec, array in zip(fetches, outputs, strict=True)}
