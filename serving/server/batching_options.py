"""What a batching parameters file says, with TF Serving's defaults and rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serving.status import invalid


@dataclass(frozen=True)
class BatchingOptions:
    """`BatchingParameters`, with TF Serving's defaults."""

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = 0
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0
    thread_pool_name: str = "model_server_batch_threads"

    def execution_size(self) -> int:
        """Most rows run at once."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size:
            return self.max_execution_batch_size
        return self.max_batch_size


def from_proto(proto: Any) -> BatchingOptions:
    """Options of a `BatchingParameters`.

    Raises:
        ServingError: INVALID_ARGUMENT if `allowed_batch_sizes` does not end in the largest batch size,
            or is not increasing.
    """
    defaults = BatchingOptions()

    def value(name: str) -> Any:
        return getattr(proto, name).value if proto.HasField(name) else getattr(defaults, name)

    options = BatchingOptions(
        max_batch_size=value("max_batch_size"),
        batch_timeout_micros=value("batch_timeout_micros"),
        max_enqueued_batches=value("max_enqueued_batches"),
        num_batch_threads=value("num_batch_threads"),
        allowed_batch_sizes=tuple(proto.allowed_batch_sizes),
        pad_variable_length_inputs=proto.pad_variable_length_inputs,
        enable_large_batch_splitting=value("enable_large_batch_splitting"),
        max_execution_batch_size=value("max_execution_batch_size"),
        thread_pool_name=value("thread_pool_name"),
    )
    sizes = options.allowed_batch_sizes
    if list(sizes) != sorted(set(sizes)):
        raise invalid("allowed_batch_sizes entries must be monotonically increasing")
    if sizes and sizes[-1] != options.execution_size():
        raise invalid(
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            f"{sizes[-1]}; expected {options.execution_size()}"
        )
    if options.max_batch_size <= 0 or options.max_enqueued_batches < 0:
        raise invalid(f"max_batch_size must be positive; was {options.max_batch_size}")
    return options
