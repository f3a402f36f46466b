"""Scores the probe with a SavedModel in this process, so that the gate measures a model before it is served."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ranker import layout
from ranker.errors import UserError
from ranker.text import texts
from serving.monitor.collect import Answers
from serving.monitor.requests import Array, ProbeSet


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


def answer_offline(name: str, path: Path, probe: ProbeSet) -> Answers:
    """Scores every probe request with a SavedModel, one request a call, as the monitor asks a server.

    Raises:
        UserError: there is no SavedModel, or it does not load, or it has no `serving_default` that takes the probe.
    """
    directory, version = saved_model(path)
    from ranker.backend import tf  # only here: the monitor itself runs without TensorFlow

    try:
        model = tf.saved_model.load(str(directory))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise UserError(
            f"the SavedModel must load. Received: {directory} ({' '.join(str(error).split())[:200]})"
        ) from None
    if "serving_default" not in model.signatures:
        raise UserError(f"the SavedModel must have the signature `serving_default`. Received: {directory}")
    function = model.signatures["serving_default"]
    inputs = function.structured_input_signature[1]
    missing = sorted(set(inputs) - set(probe.columns))
    if missing:
        raise UserError(
            f"the probe must have every input of the model. Missing in {directory}: {', '.join(missing)}"
        )
    scores = np.full(int(probe.offsets[-1]), np.nan)
    kinds: dict[int, str] = {}
    for n in range(len(probe)):
        rows = probe.rows(n)
        try:
            output = function(
                **{
                    key: tf.constant(_to_input(rows[key], spec.dtype), spec.dtype)
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
        answer = output["score"] if "score" in output else next(iter(output.values()))
        values = answer.numpy().ravel()
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


def _to_input(values: Array, dtype: Any) -> Any:
    if dtype.name == "string":
        return texts(values).tolist()
    return values.astype(dtype.as_numpy_dtype)


def _describe(model: Any) -> dict[str, Any]:
    if "describe" not in model.signatures:
        return {}
    text = model.signatures["describe"]()["description"].numpy()
    try:
        description = json.loads(np.asarray(text).ravel()[0])
    except (ValueError, TypeError):
        return {}
    return description if isinstance(description, dict) else {}
