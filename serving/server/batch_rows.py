"""Rows of several requests put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.server.signatures import Feeds
from serving.status import Code, ServingError, invalid


def rows_of(feeds: Feeds) -> int:
    """How many rows a request has.

    Raises:
        ServingError: INVALID_ARGUMENT if its inputs have no first dimension, or not the same.
    """
    sizes = set()
    for _, array in feeds:
        if array.ndim == 0:
            raise invalid("Batching Run() input tensors must have at least one dimension")
        sizes.add(len(array))
    if len(sizes) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    if not sizes:
        raise invalid("Batching session Run() must have at least one input tensor")
    return sizes.pop()


def merge(tasks: Sequence[Feeds], padding_rows: int, pad_lengths: bool) -> Feeds:
    """Concatenates the inputs of several requests along the first dimension.

    Args:
        tasks: the requests' inputs, the same tensors in each.
        padding_rows: rows to add; the last request's first row repeats.
        pad_lengths: pad other dimensions with zeros to the longest, instead of refusing a mix.

    Raises:
        ServingError: FAILED_PRECONDITION if shapes differ and `pad_lengths` is off, INVALID_ARGUMENT if
            ranks or dtypes differ.
    """
    merged: Feeds = []
    by_name = [{spec.name: array for spec, array in feeds} for feeds in tasks]
    for spec, _ in tasks[0]:
        arrays = [feeds[spec.name] for feeds in by_name]
        if len({array.shape[1:] for array in arrays}) > 1:
            if not pad_lengths:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"Tensors with name '{spec.name}' from different tasks have different shapes and padding is turned "
                    "off.Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
                    "have equal dimensions starting with the first dim.",
                )
            arrays = _pad(arrays)
        if padding_rows:
            arrays += [arrays[-1][:1]] * padding_rows
        merged.append((spec, arrays[0] if len(arrays) == 1 else np.concatenate(arrays)))
    return merged


def _pad(arrays: list[np.ndarray]) -> list[np.ndarray]:
    if len({array.ndim for array in arrays}) > 1:
        raise invalid("Cannot pad tensors of different ranks")
    target = [max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True)]
    padded = []
    for array in arrays:
        widths = [(0, 0)] + [(0, want - have) for want, have in zip(target, array.shape[1:], strict=True)]
        filler: Any = b"" if array.dtype == object else 0
        padded.append(np.pad(array, widths, constant_values=filler) if any(w for _, w in widths) else array)
    return padded
