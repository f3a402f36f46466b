"""Labels that carry what another model has learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ranker import layout
from ranker.backend import tf
from ranker.config import Experiment
from ranker.errors import UserError
from ranker.features import FeatureEncoder
from ranker.inputs import plan
from ranker.training.rows.examples import Examples, parse_block


def mixed(examples: Examples, soft: np.ndarray, weight: float) -> Examples:
    """The rows with labels (1 - weight) label + weight soft.

    Cross-entropy is linear in the label: this is the same as adding a term that pulls to the soft labels.
    """
    label = (1.0 - weight) * examples.label + weight * tf.constant(soft, tf.float32)
    return Examples(ids=examples.ids, dense=examples.dense, label=label, weight=examples.weight)


def anchor_version(run: Path, replica: str) -> Path:
    """The SavedModel an anchor names: a version's directory, or the newest of a model base path.

    Raises:
        UserError: there is none.
    """
    return layout.exported_version(run / replica, "mitigation.replica")


def anchor_predictions(run: Path, replica: str, experiment: Experiment) -> np.ndarray:
    """The anchor's probability for every training row, float32 [rows].

    Raises:
        UserError: it is not there, or wants columns that the data does not have.
    """
    path = anchor_version(run, replica)
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    encoder = FeatureEncoder(plan(experiment, run))
    inputs = set(signature.structured_input_signature[1])
    missing = inputs - set(encoder.raw_signature())
    if missing:
        raise UserError(
            f"mitigation.replica: the anchor must take this experiment's features. Received: {path}, "
            f"which needs {', '.join(sorted(missing))}"
        )
    parse = parse_block(encoder)
    records = tf.data.TFRecordDataset([str(p) for p in layout.shard_paths(run, "train")])
    return np.concatenate(
        [
            signature(**{name: block[name] for name in inputs})["score"].numpy()[:, 0]
            for block in map(parse, records)
        ]
    )
