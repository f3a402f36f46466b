"""Scores the probe with a SavedModel in this process, so that the gate measures a model before it is served."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ranker import layout
from ranker.errors import UserError
from serving import wire
from serving.client import Signature, TensorSpec
from serving.client.columns import scoring_inputs
from serving.client.outputs import OutputError, choose_output, scores_in
from serving.monitor.collection.answers import Answers
from serving.monitor.requests.probe import ProbeSet
from serving.targets.scoring import ModelCall, within_unit


def saved_model(path: Path) -> tuple[Path, int]:
    """The SavedModel in a directory and its version: the directory itself, or a base path's newest version.

    Raises:
        UserError: neither holds a `saved_model.pb`.
    """
    if (path / "saved_model.pb").is_file():
        return path, int(path.name) if path.name.isdigit() else 0
    for version, directory in layout.model_versions(path).items():
        if (directory / "saved_model.pb").is_file():
            return directory, version
    raise UserError(f"a model must be HOST:PORT or a SavedModel's directory. Received: {path}")


def answer_offline(name: str, path: Path, probe: ProbeSet, call: ModelCall) -> Answers:
    """Scores every probe request with a SavedModel, one request a call, as the monitor asks a server.

    Args:
        name: of the model, in the answers.
        path: its directory, or a base path.
        probe: the requests.
        call: its signature, output and scale.

    Raises:
        UserError: there is no SavedModel, or it does not load, or it has no such signature that takes the probe, or no
            such output.
    """
    directory, version = saved_model(path)
    from ranker.backend import tf  # only here: the monitor itself runs without TensorFlow

    try:
        model = tf.saved_model.load(str(directory))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise UserError(
            f"the SavedModel must load. Received: {directory} ({' '.join(str(error).split())[:200]})"
        ) from None
    if call.signature not in model.signatures:
        raise UserError(
            f"the SavedModel must have the signature `{call.signature}`. Received: {directory} with"
            f" {', '.join(sorted(model.signatures)) or 'none'}"
        )
    function = model.signatures[call.signature]
    try:
        output, column = choose_output(function.structured_outputs, call.output or None)
    except OutputError as error:
        raise UserError(f"{directory}: {error}") from None
    inputs = function.structured_input_signature[1]
    signature = Signature({key: _spec(spec) for key, spec in inputs.items()}, {}, "")
    missing = sorted(set(inputs) - set(scoring_inputs(probe.rows(0), signature, probe.item)))
    if missing:
        raise UserError(
            f"the probe must have every input of the model. Missing in {directory}: {', '.join(missing)}"
        )
    scores = np.full(int(probe.offsets[-1]), np.nan)
    kinds: dict[int, str] = {}
    for n in range(len(probe)):
        rows = scoring_inputs(probe.rows(n), signature, probe.item)
        try:
            answer = function(
                **{
                    key: tf.constant(
                        rows[key].tolist() if rows[key].dtype == object else rows[key], spec.dtype
                    )
                    for key, spec in inputs.items()
                }
            )
        except tf.errors.OpError as error:
            kinds[n], message = "error", " ".join(str(error).split())[:200]
            if n == len(probe) - 1 and len(kinds) == len(probe):
                raise UserError(
                    f"the SavedModel must take the probe. Received: {directory} ({message})"
                ) from None
            continue
        try:
            values = scores_in(output, answer[output].numpy(), column)
        except OutputError as error:
            raise UserError(f"{directory}: {error}") from None
        values = within_unit(values, call.scale)
        if len(values) != probe.size(n):
            kinds[n] = "coverage_mismatch"
            continue
        scores[probe.row_slice(n)] = values
        if not ((values >= 0) & (values <= 1)).all():
            kinds[n] = "invalid_score"
    description = _describe(model)
    answered = np.array([kinds.get(n, "invalid_score") == "invalid_score" for n in range(len(probe))])
    not_answered = np.zeros(len(probe), dtype=bool)
    no_scores = np.full(len(scores), np.nan)
    return Answers(
        replica=name,
        labels={},
        version=version or 1,
        description=description,
        scores=scores,
        answered=answered,
        again=no_scores,
        again_answered=not_answered,
        batched=no_scores,
        batched_answered=not_answered,
        errors=Counter(kinds.values()),
        kinds=kinds,
    )


def _spec(spec: Any) -> TensorSpec:
    shape = None if spec.shape.rank is None else tuple(-1 if size is None else size for size in spec.shape)
    return TensorSpec(wire.DataType.Name(spec.dtype.as_datatype_enum), shape)


def _describe(model: Any) -> dict[str, Any]:
    if "describe" not in model.signatures:
        return {}
    text = model.signatures["describe"]()["description"].numpy()
    try:
        description = json.loads(np.asarray(text).ravel()[0])
    except (ValueError, TypeError):
        return {}
    return description if isinstance(description, dict) else {}
