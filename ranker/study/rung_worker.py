"""Trains and serves one replica on one kind of machine: `python -m ranker.study.rung_worker JOB`, see `ranker.study.rungs`.

What kind of machine it is, the parent says in the environment, before TensorFlow is loaded.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from itertools import islice
from pathlib import Path

import numpy as np

from ranker.architecture import Architecture, Weights, design
from ranker.backend import keras, tf
from ranker.combined import served_model
from ranker.config import Experiment, load
from ranker.seeds import Seeds, derive
from ranker.study import data as study_data
from ranker.study.recipes import RELU, SMELU, arms
from ranker.training import multi_worker, threads
from ranker.training.rows.examples import Examples
from ranker.training.rows.feed import Memory
from ranker.training.step.forward import Forward
from ranker.training.step.program import Program
from ranker.training.trainer import train

_ROWS = 1024
"""Rows of one call when serving."""
_SAMPLE_CALLS = 4
"""Calls whose rows give int8 the ranges of the activations."""


class HalfForward(Forward):
    """Computes in bfloat16; weights, loss and optimizer stay float32, as in Keras' policy `mixed_bfloat16`."""

    def __call__(
        self,
        weights: Mapping[str, tf.Tensor],
        pooled: Sequence[tf.Tensor],
        dense: tf.Tensor,
        noise: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """As `Forward`; the logits come back as float32."""
        half = {name: tf.cast(value, tf.bfloat16) for name, value in weights.items()}
        vectors = [tf.cast(value, tf.bfloat16) for value in pooled]
        return tf.cast(super().__call__(half, vectors, tf.cast(dense, tf.bfloat16), noise), tf.float32)


def train_replica(
    recipe: Experiment, architecture: Architecture, rows: Examples, seeds: Seeds, half: bool = False
) -> Weights:
    """One replica's served weights; with `half` computed in bfloat16."""
    program = Program(
        architecture,
        recipe.training,
        [architecture.initialise(seeds)],
        averages=1 if recipe.training.average_last > 0 or recipe.training.ema > 0 else 0,
        noise=[seeds.noise],
        forward=HalfForward if half else Forward,
    )
    return train(program, rows, recipe.training, [seeds]).weights[0]


def serve(model: keras.Model, rows: Examples, batch: int = _ROWS) -> np.ndarray:
    """What the exported graph predicts, so many rows a call, float32 [rows]."""
    score = tf.function(lambda ids, dense: model({"ids": ids, "dense": dense}), reduce_retracing=True)
    return np.concatenate([score(ids, dense).numpy()[:, 0] for ids, dense in _calls(rows, batch)])


def convert(
    architecture: Architecture, weights: Weights, kind: str, samples: Examples
) -> Callable[[Examples], np.ndarray]:
    """The model as TensorFlow Lite, from encoded inputs on: TensorFlow Lite has no text lookups among its own operations.

    Args:
        architecture: what is converted.
        weights: of the replica.
        kind: `float32`; `float16` (weights are stored so); `int8 weights` (activations are quantised as they come); `int8`
            (activations are quantised by the ranges of the samples).
        samples: encoded training rows.

    Returns:
        A function from rows to predictions [rows].
    """
    inputs = architecture.inputs
    model = served_model(architecture, [weights], False)
    function = tf.function(lambda ids, dense: model({"ids": ids, "dense": dense})).get_concrete_function(
        tf.TensorSpec([None, inputs.id_width], tf.int32, name="ids"),
        tf.TensorSpec([None, inputs.dense_width], tf.float32, name="dense"),
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        converter.representative_dataset = lambda: (
            {"ids": ids, "dense": dense} for ids, dense in islice(_calls(samples, _ROWS), _SAMPLE_CALLS)
        )
    with warnings.catch_warnings():
        # TensorFlow announces the end of its interpreter; the package that replaces it is not a dependency of ours.
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
        interpreter = tf.lite.Interpreter(model_content=converter.convert(), num_threads=1)
    runner = interpreter.get_signature_runner()

    def predict(rows: Examples) -> np.ndarray:
        parts = [next(iter(runner(ids=ids, dense=dense).values())) for ids, dense in _calls(rows, _ROWS)]
        return np.clip(np.concatenate(parts)[:, 0], 0.0, 1.0)

    return predict


def _calls(rows: Examples, batch: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    ids, dense = rows.ids.numpy(), rows.dense.numpy()
    return ((ids[i : i + batch], dense[i : i + batch]) for i in range(0, len(ids), batch))


def main(directory: Path) -> None:
    """Does the job in `directory`, whose `job.json` is written by `ranker.study.rungs`."""
    job = json.loads((directory / "job.json").read_text(encoding="utf-8"))
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if job["task"] == "multi_worker" else None
    if strategy is None:
        threads.use(job["threads"], 1)
    experiment = load(directory / "config.yaml")
    data = study_data.load(experiment, Path(job["run"]), job["rows"])
    seeds = {
        name: derive(experiment.replicas.seed, replica, vary)
        for name, (replica, vary) in {
            "first": (0, ()),
            "order": (1, ("shuffle",)),
            "both": (1, ("init", "shuffle")),
        }.items()
    }
    scores: dict[str, np.ndarray] = {}
    for name, recipe in arms(experiment, {m.label: m.overrides for m in (RELU, SMELU)}).items():
        architecture = design(data.inputs, recipe.model)

        def scores_of(weights: Weights, architecture: Architecture = architecture) -> np.ndarray:
            return serve(served_model(architecture, [weights], False), data.eval)

        if strategy is not None:
            trained = multi_worker.train(
                strategy, architecture, recipe.training, Memory(data.train), seeds["first"]
            )
            if multi_worker.is_chief(strategy):
                scores[f"{name}/trained"] = scores_of(trained.weights[0])
            continue
        weights = train_replica(recipe, architecture, data.train, seeds["first"])
        saved = directory / f"{name}.npz"
        if job["task"] == "platform":
            with np.load(saved) as first:
                scores[f"{name}/served"] = scores_of(dict(first))
            scores[f"{name}/trained"] = scores_of(weights)
            continue
        np.savez(saved, allow_pickle=False, **weights)
        model = served_model(architecture, [weights], False)
        scores[f"{name}/first"] = serve(model, data.eval)
        scores[f"{name}/again"] = serve(model, data.eval)
        scores[f"{name}/other batches"] = serve(model, data.eval, batch=37)
        for kind in ("float32", "float16", "int8 weights", "int8"):
            # Where the samples' ranges round a divisor to 0, the interpreter refuses to divide: no rung then.
            with suppress(RuntimeError) if kind == "int8" else nullcontext():
                scores[f"{name}/TFLite {kind}"] = convert(architecture, weights, kind, data.train)(data.eval)
        scores[f"{name}/retrained"] = scores_of(
            train_replica(recipe, architecture, data.train, seeds["first"])
        )
        scores[f"{name}/bfloat16"] = scores_of(
            train_replica(recipe, architecture, data.train, seeds["first"], half=True)
        )
        for source in ("order", "both"):
            scores[f"{name}/{source}"] = scores_of(
                train_replica(recipe, architecture, data.train, seeds[source])
            )
    if scores:  # a worker that is not the chief has none
        np.savez(directory / f"scores-{job['name']}.npz", allow_pickle=False, **scores)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
