"""A prepared run's rows in memory, as a study needs them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ranker import layout
from ranker.backend import tf
from ranker.config import Experiment, fingerprint
from ranker.errors import UserError
from ranker.features import FeatureEncoder
from ranker.inputs import Inputs, plan
from ranker.training.examples import Examples, parse_block, read
from ranker.training.specs import read_manifest

_VALIDATION_SHARE = 4
"""One request in so many chooses the learning rate; the others are what is reported."""


@dataclass(frozen=True)
class StudySource:
    """Where the rows come from; other processes load them from it.

    Attributes:
        experiment: the configuration of the run.
        run: the run directory, after `prepare`.
        rows: at most so many training rows, the first of the base order; None takes all.
    """

    experiment: Experiment
    run: Path
    rows: int | None = None

    def load(self) -> StudyData:
        """Reads the rows; raises as `load`."""
        return load(self.experiment, self.run, self.rows)


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


def load(experiment: Experiment, run: Path, rows: int | None = None) -> StudyData:
    """Reads a prepared run.

    Args:
        experiment: its configuration.
        run: the run directory, after `prepare`.
        rows: take at most so many training rows, the first of the base order.

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
        )
        key = fingerprint(key, rows)
    encoder = FeatureEncoder(inputs)
    parse = parse_block(encoder, weighted=False, requests=True)
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
    return StudyData(
        StudySource(experiment, run, rows),
        inputs,
        key,
        train,
        Examples(ids=whole["ids"], dense=whole["dense"], label=label, weight=np.ones_like(label)),
        label,
        np.unique(whole["request"], return_inverse=True)[1],
        np.unique(whole["item"], return_inverse=True)[1],
    )
