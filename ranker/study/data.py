"""A prepared run's rows in memory, as a study needs them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from ranker import layout
from ranker.backend import tf
from ranker.config import Experiment, fingerprint
from ranker.errors import UserError
from ranker.features import FeatureEncoder
from ranker.inputs import Inputs, plan
from ranker.training.rows.examples import Examples, parse_block, read
from ranker.training.specs import read_manifest

_VALIDATION_SHARE = 4
"""One request in so many chooses the learning rate; the others are what is reported."""

_ID_VALUES = 100
"""A categorical feature of more values than this is an identity: a user, an item, a city."""
FeatureKinds = Literal["all", "ids only", "no ids"]


@dataclass(frozen=True)
class LogChange:
    """A property of the log turned for an experiment.

    Attributes:
        label_noise: share of the training labels that are flipped, each row's fate the same in every call; in [0, 0.5].
        columns: which features stay: all, the identities alone (`_ID_VALUES`), or the others alone. A feature that does not
            stay is missing in every row, a number 0.
    """

    label_noise: float = 0.0
    columns: FeatureKinds = "all"

    def train(self, rows: Examples, inputs: Inputs) -> Examples:
        """The training rows under this change."""
        label = rows.label
        if self.label_noise:
            flipped = np.random.default_rng(_NOISE_SEED).random(label.shape[0]) < self.label_noise
            label = tf.where(flipped, 1.0 - label, label)
        return self.features(
            Examples(ids=rows.ids, dense=rows.dense, label=label, weight=rows.weight), inputs
        )

    def features(self, rows: Examples, inputs: Inputs) -> Examples:
        """The rows with the features that this change leaves."""
        if self.columns == "all":
            return rows
        identities = self.columns == "ids only"
        present = np.concatenate([[(c.size > _ID_VALUES) == identities] * c.width for c in inputs.embedded])
        return Examples(
            ids=tf.where(present, rows.ids, 0),
            dense=tf.zeros_like(rows.dense) if identities else rows.dense,
            label=rows.label,
            weight=rows.weight,
        )


_NOISE_SEED = 0x1ABE1
UNCHANGED = LogChange()


@dataclass(frozen=True)
class StudySource:
    """Where the rows come from; other processes load them from it.

    Attributes:
        experiment: the configuration of the run.
        run: the run directory, after `prepare`.
        rows: at most so many training rows, the first of the base order; None takes all.
        change: what is changed in them.
    """

    experiment: Experiment
    run: Path
    rows: int | None = None
    change: LogChange = UNCHANGED

    def load(self) -> StudyData:
        """Reads the rows; raises as `load`."""
        return load(self.experiment, self.run, self.rows, self.change)


@dataclass(frozen=True)
class StudyData:
    """Rows to train on, and rows to compare replicas on.

    Attributes:
        source: where it comes from.
        inputs: the plan of the input columns.
        fingerprint: of the data's contents.
        train: the training rows, in the base order.
        eval: the held-out rows, whole requests.
        label: float32 [rows] of `eval`.
        request: request of each row of `eval`, int64 [rows].
        item: candidate of each row of `eval`, int64 [rows].
    """

    source: StudySource
    inputs: Inputs
    fingerprint: str
    train: Examples
    eval: Examples
    label: np.ndarray
    request: np.ndarray
    item: np.ndarray

    @cached_property
    def validation(self) -> np.ndarray:
        """Rows of `eval` whose requests choose between recipes, bool [rows]."""
        return self.request % _VALIDATION_SHARE == 0


def load(
    experiment: Experiment, run: Path, rows: int | None = None, change: LogChange = UNCHANGED
) -> StudyData:
    """Reads a prepared run.

    Args:
        experiment: its configuration.
        run: the run directory, after `prepare`.
        rows: take at most so many training rows, the first of the base order.
        change: what is changed in the log.

    Raises:
        UserError: the run is not prepared, or has no held-out rows.
    """
    inputs = plan(experiment, run)
    train = read(layout.shard_paths(run, "train"), inputs, weighted=experiment.data.weight is not None)
    key = read_manifest(run)["fingerprint"]
    if rows is not None and rows < int(train.label.shape[0]):
        train = Examples(
            ids=train.ids[:rows],
            dense=train.dense[:rows],
            label=train.label[:rows],
            weight=train.weight[:rows],
            request=None if train.request is None else train.request[:rows],
        )
        key = fingerprint(key, rows)
    if change != UNCHANGED:
        key = fingerprint(key, asdict(change))
    encoder = FeatureEncoder(inputs)
    parse = parse_block(encoder, requests=True)
    parts: dict[str, list[np.ndarray]] = {n: [] for n in ("ids", "dense", "label", "request", "item")}
    for record in tf.data.TFRecordDataset([str(p) for p in layout.shard_paths(run, "eval")]):
        block = parse(record)
        parts["label"].append(block.pop(layout.LABEL).numpy())
        parts["request"].append(block.pop(layout.REQUEST).numpy().astype(bytes))
        parts["item"].append(block[experiment.item].numpy().astype(bytes))
        for name, value in encoder({name: block[name] for name in encoder.raw_signature()}).items():
            parts[name].append(value.numpy())
    if not parts["label"]:
        raise UserError(f"{layout.split_dir(run, 'eval')}: no held-out rows; run `ranker prepare` first")
    whole = {name: np.concatenate(values) for name, values in parts.items()}
    label = whole["label"]
    held_out = Examples(ids=whole["ids"], dense=whole["dense"], label=label, weight=np.ones_like(label))
    return StudyData(
        source=StudySource(experiment, run, rows, change),
        inputs=inputs,
        fingerprint=key,
        train=change.train(train, inputs),
        eval=change.features(held_out, inputs),
        label=label,
        request=np.unique(whole["request"], return_inverse=True)[1],
        item=np.unique(whole["item"], return_inverse=True)[1],
    )
