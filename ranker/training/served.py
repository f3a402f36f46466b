"""The model of an arm as it is served: exported and scored by each of its replicas, checked before it is published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ranker import layout
from ranker.architecture import Weights, design
from ranker.backend import tf
from ranker.combined import served_model
from ranker.config import Experiment
from ranker.errors import UserError
from ranker.export import ServedRanker, save
from ranker.features import FeatureEncoder
from ranker.inputs import Inputs
from ranker.mitigation.learned import Learned
from ranker.model import RankingModel
from ranker.training.rows.examples import parse_block


class ServedReplicas:
    """The model of an arm as it is served, traced once; replicas lend it their weights.

    Args:
        arm_config: the arm's experiment.
        run: the run directory.
        inputs: the plan of the input columns.
        learned: a replica of the arm.
    """

    def __init__(self, arm_config: Experiment, run: Path, inputs: Inputs, learned: Learned):
        self._model = served_model(design(inputs, arm_config.model), learned.components, learned.shared)
        self._served = ServedRanker(self._model, FeatureEncoder(inputs), arm_config.item)
        self._rows = first_rows(run, self._served.encoder, rows=layout.BLOCK_ROWS)
        self._components = learned.components
        self._are_values = inputs.target.is_value

    def export(self, components: list[Weights], identity: dict[str, Any], directory: Path) -> None:
        """Writes the SavedModel of a replica into `directory`, which must not exist.

        Raises:
            PredictionsError: its scores are no probabilities, or no finite values of a regression.
        """
        self._assign(components)
        check_predictions(self._served, self._rows, self._are_values)
        warm_up = {name: values[:8] for name, values in self._rows.items()}
        save(self._served, directory, warm_up, identity)

    def score(self, components: list[Weights], columns: Mapping[str, tf.Tensor]) -> np.ndarray:
        """A replica's probabilities of raw rows, float32 [batch], as its SavedModel computes them."""
        self._assign(components)
        return self._served.score({name: columns[name] for name in self._served.encoder.raw_signature()})

    def _assign(self, components: list[Weights]) -> None:
        if components is self._components:
            return
        if isinstance(self._model, RankingModel):
            self._model.assign(components[0])
        else:
            self._model.assign(components)
        self._components = components


class PredictionsError(ValueError):
    """Predictions that are no probabilities."""


def check_predictions(served: ServedRanker, rows: dict[str, list], are_values: bool = False) -> None:
    """Scores some raw rows as a client would.

    Raises:
        PredictionsError: a score is not finite, or not in [0, 1] where scores are no values of a regression.
    """
    columns = {
        name: tf.constant(rows[name], spec.dtype) for name, spec in served.encoder.raw_signature().items()
    }
    scores = served.score(columns)
    wrong = ~np.isfinite(scores) if are_values else ~((scores >= 0) & (scores <= 1))
    if wrong.any():
        rule = "not finite" if are_values else "no numbers in [0, 1]"
        raise PredictionsError(f"{wrong.sum()} of its predictions on {len(scores)} training rows are {rule}")


def first_rows(run: Path, encoder: FeatureEncoder, rows: int) -> dict[str, list]:
    """The first raw rows of the training split by feature, for warm-up."""
    parse = parse_block(encoder)
    for record in tf.data.TFRecordDataset([str(p) for p in layout.shard_paths(run, "train")]).take(1):
        block = parse(record)
        return {name: block[name][:rows].numpy().tolist() for name in encoder.raw_signature()}
    raise UserError(f"{layout.split_dir(run, 'train')}: no examples; run `ranker prepare` first")
