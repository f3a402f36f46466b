"""Decodes mirrored Predict calls to requests that every replica is asked. Pure: bytes in, a set of requests out."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from ranker.slices import Cut, Slice
from ranker.text import texts
from serving import wire
from serving.monitor.requests.probe import Array, Columns, ProbeSet
from serving.monitor.requests.reservoir import MirroredCall

MAX_ELEMENTS = 1 << 20
"""Values of one call: a message of a few bytes may claim a tensor of any size."""
MAX_SAMPLE_ELEMENTS = 1 << 24
"""Values of all calls of a round, 128 MiB as numbers."""

_LONGEST_ID = 128
_RANKING_SIGNATURES = ("serving_default", "rank")


@dataclass(frozen=True, eq=False)
class LiveRequests:
    """What a sample of calls asks.

    Attributes:
        requests: the calls that ask for a ranking, each one request; None: there is none.
        unreadable: reason -> calls that cannot be asked of every replica.
    """

    requests: ProbeSet | None
    unreadable: Counter[str] = field(default_factory=Counter)


def live_requests(calls: Sequence[MirroredCall], model_name: str, item: str, probe: ProbeSet) -> LiveRequests:
    """Decodes a sample of calls to requests that are asked as the probe is.

    A call of the signature `rank` has its context once, which is repeated for each candidate. Unknown and missing
    features stay as they came: the replicas answer as they answered the caller.

    Args:
        calls: the sample.
        model_name: the model under watch.
        item: the feature that identifies a candidate.
        probe: says which features are text and which are numbers.
    """
    # A model of rows without requests is probed by single rows, and asked for them.
    least = 1 if len(probe) and int(np.diff(probe.offsets).max()) == 1 else 2
    unreadable: Counter[str] = Counter()
    decoded: list[Columns] = []
    ids: list[str] = []
    repeated, elements = 0, 0
    for call in calls:
        try:
            columns = _columns(call.body, model_name, item, probe)
            rows = _first_positions(columns[item])
            if len(rows) < least:
                raise ValueError("there is nothing to rank: fewer than two candidates")
            elements += len(rows) * len(columns)
            if elements > MAX_SAMPLE_ELEMENTS:
                raise ValueError("the sample is too large")
        except (DecodeError, ValueError, OverflowError) as error:
            unreadable[_reason(error)] += 1
            continue
        repeated += len(columns[item]) - len(rows)
        decoded.append({name: values[rows] for name, values in columns.items()})
        ids.append(_request_id(call))
    if not decoded:
        return LiveRequests(None, unreadable)
    sizes = [len(columns[item]) for columns in decoded]
    fields = tuple(frozenset(columns) for columns in decoded)
    requests = ProbeSet(
        _number_repeats(ids),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        _join_columns(decoded, sizes),
        item,
        hash="",
        repeated=repeated,
        fields=fields,
    )
    return LiveRequests(requests, unreadable)


def live_slices(requests: ProbeSet, cuts: Sequence[Cut]) -> tuple[Slice, ...]:
    """Cuts the requests as the probe was cut. A feature that no request carries gives no slice."""
    return tuple(
        part
        for cut in cuts
        if cut.feature in requests.columns
        for part in cut.slices(cut.parts(requests.columns[cut.feature]), requests.owner, len(requests))
    )


def _columns(body: bytes, model_name: str, item: str, probe: ProbeSet) -> Columns:
    message = wire.PredictRequest.FromString(body)
    signature = message.model_spec.signature_name or "serving_default"
    if message.model_spec.name != model_name:
        raise ValueError(f"it asks for model {message.model_spec.name!r}")
    if signature not in _RANKING_SIGNATURES:
        raise ValueError(f"it asks for signature {signature!r}")
    if item not in message.inputs:
        raise ValueError(f"it has no `{item}`")
    claimed = sum(
        math.prod(max(dim.size, 0) for dim in tensor.tensor_shape.dim) for tensor in message.inputs.values()
    )
    if claimed > MAX_ELEMENTS:
        raise ValueError(f"it has more than {MAX_ELEMENTS} values")
    arrays = {name: _values(wire.to_array(tensor).ravel()) for name, tensor in message.inputs.items()}
    arrays[item] = texts(arrays[item])
    candidates = len(arrays[item])
    for name, values in arrays.items():
        if len(values) == 1 and signature == "rank":
            arrays[name] = np.repeat(values, candidates)
        elif len(values) != candidates:
            raise ValueError(f"`{name}` and `{item}` have different numbers of values")
        if values.dtype.kind == "f" and np.isinf(values).any():
            raise ValueError(f"`{name}` has an infinite number")
        if name in probe.columns and (probe.columns[name].dtype == object) != (values.dtype == object):
            raise ValueError(f"`{name}` is {'text' if values.dtype == object else 'numbers'}")
    return arrays


def _values(array: Array) -> Array:
    if array.dtype.kind == "c":
        raise ValueError("it has complex numbers")
    return texts(array) if array.dtype == object else array


def _first_positions(items: Array) -> Array:
    """Positions of the candidates, without those whose item stood before; int64."""
    places: dict[str, int] = {}
    for place, value in enumerate(items.tolist()):
        places.setdefault(value, place)
    return np.fromiter(places.values(), np.int64, len(places))


def _join_columns(decoded: Sequence[Columns], sizes: Sequence[int]) -> Columns:
    joined: Columns = {}
    for name in sorted(set().union(*decoded)):
        is_text = any(name in columns and columns[name].dtype == object for columns in decoded)
        absent: Any = "" if is_text else np.float32(np.nan)
        parts = [
            columns[name] if name in columns else np.full(size, absent, object if is_text else np.float32)
            for columns, size in zip(decoded, sizes, strict=True)
        ]
        joined[name] = np.concatenate([part.astype(object) for part in parts] if is_text else parts)
    return joined


def _request_id(call: MirroredCall) -> str:
    request_id = call.request_id
    if 0 < len(request_id) <= _LONGEST_ID and request_id.isprintable():
        return request_id
    return hashlib.blake2b(call.body, digest_size=16).hexdigest()


def _number_repeats(ids: Sequence[str]) -> tuple[str, ...]:
    """The ids, numbered where one comes again: a caller may send several requests under one id."""
    counts: Counter[str] = Counter()
    distinct = []
    for request_id in ids:
        counts[request_id] += 1
        count = counts[request_id]
        distinct.append(request_id if count == 1 else f"{request_id}#{count}")
    return tuple(distinct)


def _reason(error: Exception) -> str:
    if isinstance(error, DecodeError):
        return "it is no PredictRequest"
    return ascii(str(error))[1:-1][:120]
