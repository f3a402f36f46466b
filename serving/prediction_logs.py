"""TF Serving's request logs as scored rows: PredictionLog records in TFRecord files.

A record holds one Predict call with its answer: a request and its candidates. So two models that were asked the same
calls can be compared by their logs alone.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ranker.errors import UserError
from ranker.layout import REQUEST_SEPARATOR
from ranker.scored.align import ModelScores
from ranker.scored.probe import request_hash
from ranker.text import texts
from ranker.tfrecord import records
from serving.wire import PredictionLog, to_array


def read_prediction_log(
    source: str,
    model: str,
    request: Sequence[str],
    item: str,
    score: str | None = None,
    label: str | None = None,
    further: Sequence[str] = (),
) -> ModelScores:
    """Reads what a server logged.

    Args:
        source: a file or a glob.
        model: the name of the model in the comparison.
        request: input features whose values identify a request; empty: the inputs of the call as a whole do, so that
            the same call to another model is the same request.
        item: the input feature that identifies a candidate.
        score: the output; None: the only one.
        label: an input feature that holds labels; None: none.
        further: input features to keep beside, for slices.

    Raises:
        UserError: no file matches, a file is damaged, a record is no Predict call, lacks the item or the output, or has
            another number of scores than candidates.
    """
    request_ids: list[str] = []
    item_ids: list[str] = []
    scores: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    columns: dict[str, list[np.ndarray]] = {name: [] for name in further}
    for path in _paths(source):
        for number, record in enumerate(records(Path(path)), start=1):
            where = f"{path}: record {number}"
            inputs, values = _call(record, score, where)
            if item not in inputs:
                raise UserError(
                    f"{where}: the call must have the input {item}. Received: {', '.join(sorted(inputs))}"
                )
            candidates = texts(inputs[item].ravel(), name=item)
            if len(values) != len(candidates):
                raise UserError(
                    f"{where}: must have a score a candidate. Received: {len(values)} for {len(candidates)}"
                )
            request_ids += [_request_id(inputs, request, where)] * len(candidates)
            item_ids += list(candidates)
            scores.append(values)
            if label is not None:
                labels.append(_broadcast(inputs, label, len(candidates), where).astype(np.float64))
            for name, parts in columns.items():
                parts.append(_broadcast(inputs, name, len(candidates), where))
    if not scores:
        raise UserError(f"{source}: must have at least one record. Received: none")
    return ModelScores(
        model=model,
        request=pa.chunked_array([pa.array(request_ids, pa.string())]),
        item=pa.chunked_array([pa.array(item_ids, pa.string())]),
        score=np.concatenate(scores),
        label=np.concatenate(labels) if label is not None else None,
        columns={name: _arrow_column(np.concatenate(parts), name) for name, parts in columns.items()},
    )


def read_logged_requests(
    source: str, request: Sequence[str], item: str, count: int
) -> tuple[pa.Table, pa.ChunkedArray]:
    """Reads a sample of the requests that a server logged, for probe requests.

    Args:
        source: a file or a glob.
        request: as in `read_prediction_log`.
        item: the input feature that identifies a candidate; calls without it (of another signature) are left out.
        count: how many requests at most: those with the smallest hashes.

    Returns:
        A row a candidate with a column an input, null where a call lacks it; and the request of each row.

    Raises:
        UserError: as `read_prediction_log`; an input has neither one value nor one a candidate; no call has the item.
    """
    calls: dict[str, dict[str, np.ndarray]] = {}
    names: set[str] = set()
    for path in _paths(source):
        for number, record in enumerate(records(Path(path)), start=1):
            where = f"{path}: record {number}"
            inputs, _ = _tensors(record, where)
            names |= inputs.keys()
            if item not in inputs or inputs[item].size < 2:
                continue
            calls.setdefault(_request_id(inputs, request, where), _rows(inputs, inputs[item].size, where))
            if len(calls) > 4 * count:
                calls = _smallest(calls, count)
    if not calls:
        inputs_seen = ", ".join(sorted(names)) or "no calls"
        raise UserError(
            f"{source}: a call must have the input {item} with two candidates. Received: {inputs_seen}"
        )
    calls = _smallest(calls, count)
    table = pa.concat_tables([_arrow(columns) for columns in calls.values()], promote_options="permissive")
    ids = [name for name, columns in calls.items() for _ in range(len(columns[item]))]
    return table, pa.chunked_array([pa.array(ids, pa.string())])


def _smallest(calls: dict[str, dict[str, np.ndarray]], count: int) -> dict[str, dict[str, np.ndarray]]:
    return {name: calls[name] for name in sorted(calls, key=request_hash)[:count]}


def _rows(inputs: dict[str, np.ndarray], count: int, where: str) -> dict[str, np.ndarray]:
    """The inputs as columns of `count` rows; one value is every row's."""
    for name, values in inputs.items():
        if values.size not in (1, count):
            raise UserError(
                f"{where}: {name} must have a value a candidate. Received: {values.size} for {count}"
            )
    return {name: np.broadcast_to(values.ravel(), count) for name, values in inputs.items()}


def _arrow(columns: dict[str, np.ndarray]) -> pa.Table:
    return pa.table({name: _arrow_column(values, name) for name, values in columns.items()})


def _arrow_column(values: np.ndarray, name: str) -> pa.ChunkedArray:
    flat = texts(values, name=name) if values.dtype.kind == "O" else np.array(values)
    return pa.chunked_array([pa.array(flat)])


def _paths(source: str) -> list[str]:
    paths = [source] if Path(source).exists() else sorted(glob.glob(source, recursive=True))
    if not paths:
        raise UserError(f"{source}: no such file, and no file matches it")
    return paths


def _tensors(record: bytes, where: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The inputs and outputs of a logged call."""
    try:
        log = PredictionLog.FromString(record)
        if not log.HasField("predict_log"):
            raise UserError(f"{where}: must be a Predict call with its answer")
        inputs = {name: to_array(tensor) for name, tensor in log.predict_log.request.inputs.items()}
        outputs = {name: to_array(tensor) for name, tensor in log.predict_log.response.outputs.items()}
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 (protobuf's own errors share no public class)
        raise UserError(f"{where}: is no PredictionLog: {error}") from None
    return inputs, outputs


def _call(record: bytes, score: str | None, where: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The inputs of a logged call and its scores."""
    inputs, outputs = _tensors(record, where)
    if score is None and len(outputs) == 1:
        score = next(iter(outputs))
    if score is None or score not in outputs:
        raise UserError(
            f"{where}: choose the output with the scores. Received: {score or 'none'} of {', '.join(sorted(outputs))}"
        )
    return inputs, outputs[score].astype(np.float64).ravel()


def _request_id(inputs: dict[str, np.ndarray], request: Sequence[str], where: str) -> str:
    if not request:
        digest = hashlib.blake2b(digest_size=8)
        for name in sorted(inputs):
            for value in (name, *texts(inputs[name].ravel(), name=name)):
                digest.update(value.encode() + b"\0")
        return digest.hexdigest()
    values = []
    for name in request:
        if name not in inputs:
            raise UserError(
                f"{where}: the call must have the input {name}. Received: {', '.join(sorted(inputs))}"
            )
        distinct = set(texts(inputs[name].ravel(), name=name))
        if len(distinct) != 1:
            raise UserError(
                f"{where}: {name} must have one value in a request. Received: {len(distinct)} values"
            )
        values.append(distinct.pop())
    return REQUEST_SEPARATOR.join(values)


def _broadcast(inputs: dict[str, np.ndarray], name: str, count: int, where: str) -> np.ndarray:
    if name not in inputs:
        raise UserError(
            f"{where}: the call must have the input {name}. Received: {', '.join(sorted(inputs))}"
        )
    values = inputs[name].ravel()
    if len(values) not in (1, count):
        raise UserError(f"{where}: {name} must have a value a candidate. Received: {len(values)} for {count}")
    return np.broadcast_to(values, count)
