"""One Predict: arrays in, arrays out, in TF Serving's order of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from serving.server.requests.signatures import (
    Feeds,
    ServedSignature,
    SignatureTensor,
    find,
    prepare_feeds,
    select_outputs,
)


class ServedModel(Protocol):
    """What a request needs of a loaded version: `backend.SessionModel`, batched or not, or a test's own."""

    @property
    def signatures(self) -> Mapping[str, ServedSignature]:
        """By name."""

    @property
    def signature_defs(self) -> Mapping[str, Any]:
        """The protos by name."""

    def run(self, feeds: Feeds, fetches: Sequence[SignatureTensor], timeout_ms: int = 0) -> list[np.ndarray]:
        """Runs the graph once."""

    def close(self) -> None:
        """Frees it."""


def no_timeout() -> int:
    """For calls without a deadline."""
    return 0


def predict(
    model: ServedModel,
    signature_name: str,
    names: Iterable[str],
    decode: Callable[[str], np.ndarray],
    output_filter: Iterable[str] = (),
    timeout_ms: Callable[[], int] = no_timeout,
    strict: bool = False,
    max_rows: int = 0,
) -> tuple[str, dict[str, np.ndarray]]:
    """Runs one signature.

    Args:
        model: the version that answers.
        signature_name: "" for `serving_default`. Any signature may be run, whatever its method name.
        names: the request's input aliases.
        decode: gives an input's array.
        output_filter: outputs wanted; none means all.
        timeout_ms: gives the milliseconds left, 0 for no limit; raises when none are left.
        strict: check shapes against the signature.
        max_rows: most rows of an input; 0 for no limit.

    Returns:
        The signature's effective name and the outputs by alias.

    Raises:
        StatusError: as TF Serving answers.
    """
    signature = find(model.signatures, signature_name)
    feeds = prepare_feeds(signature, names, decode, strict, max_rows)
    fetches = select_outputs(signature, output_filter)
    outputs = model.run(feeds, fetches, timeout_ms())
    return signature.name, {spec.alias: array for spec, array in zip(fetches, outputs, strict=True)}
