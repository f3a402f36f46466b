"""What the model sees after encoding: the plan of its input columns. Loads no TensorFlow.

Raw columns become two matrices: integer ids (one column for a categorical or bucketed feature, several for
a multi-valued one) and dense numbers (a value and a missing indicator for each numeric feature). Id 0 means
missing everywhere. `ranker.features` does the encoding; the model and the trainer are built from this plan.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ranker import layout
from ranker.config import Experiment, Feature, fingerprint
from ranker.errors import UserError


@dataclass(frozen=True)
class Column:
    """One feature's place among the inputs.

    Attributes:
        name: the feature.
        feature: its configuration.
        width: id columns it occupies (0 for a dense number).
        size: rows of its embedding table (0 for a dense number): missing, then either out-of-vocabulary
            buckets after the vocabulary, or quantile buckets.
        embedding_dim: length of its embedding vectors (0 for a dense number).
        vocabulary: the vocabulary file, for categorical features.
        mean: subtracted from a standardised number, and
        std: what it is divided by.
        boundaries: inner cut points of a bucketed number, increasing.
    """

    name: str
    feature: Feature
    width: int
    size: int
    embedding_dim: int
    vocabulary: Path | None = None
    mean: float = 0.0
    std: float = 1.0
    boundaries: tuple[float, ...] = ()

    @property
    def is_dense(self) -> bool:
        """Whether the feature enters as a number instead of an embedding."""
        return self.width == 0

    @property
    def is_text(self) -> bool:
        """Whether the raw column is text (categorical) rather than float32 (numeric)."""
        return self.feature.kind == "categorical"


@dataclass(frozen=True)
class StoredColumn:
    """One column of an example.

    Attributes:
        name: its key.
        is_text: whether it is text rather than float32.
        is_served: whether a client sends it; a column for training only is missing in serving and evaluation.
    """

    name: str
    is_text: bool
    is_served: bool


@dataclass(frozen=True)
class Inputs:
    """All columns, in the configuration's order.

    Attributes:
        columns: one entry a feature.
        stored: the columns of an example.
        spec_hash: of the schema: names, kinds and roles of the raw columns, what separates several values.
            Replicas with different hashes do not take the same requests and cannot be compared.
        vocabulary_hash: of all vocabulary files.
        encoding_hash: of how raw values are transformed: settings, means, deviations, cut points. It and the
            vocabulary are other ones after a refresh on newer rows, which is part of why such a refresh churns.
    """

    columns: tuple[Column, ...]
    stored: tuple[StoredColumn, ...]
    spec_hash: str
    vocabulary_hash: str
    encoding_hash: str

    @cached_property
    def embedded(self) -> tuple[Column, ...]:
        """The columns that enter as embeddings."""
        return tuple(column for column in self.columns if not column.is_dense)

    @cached_property
    def dense(self) -> tuple[Column, ...]:
        """The columns that enter as a number and its missing indicator."""
        return tuple(column for column in self.columns if column.is_dense)

    @property
    def id_width(self) -> int:
        """Columns of the id matrix."""
        return sum(column.width for column in self.columns)

    @property
    def dense_width(self) -> int:
        """Columns of the dense matrix: two a number."""
        return 2 * len(self.dense)


def plan(experiment: Experiment, run: Path) -> Inputs:
    """Reads vocabularies and statistics of a prepared run and lays the inputs out.

    Args:
        experiment: the configuration, of one arm where arms differ in features.
        run: the run directory, after `prepare`.

    Raises:
        UserError: the run has no statistics, or they lack a feature of the configuration.
    """
    try:
        statistics = json.loads(layout.statistics_path(run).read_text(encoding="utf-8"))["features"]
    except FileNotFoundError:
        raise UserError(f"{layout.statistics_path(run)}: not there; run `ranker prepare` first") from None
    columns, vocabularies = [], {}
    for name, feature in experiment.features.items():
        if name not in statistics:
            raise UserError(
                f"{layout.statistics_path(run)}: has no feature '{name}'; run `ranker prepare` again"
            )
        if feature.kind == "categorical":
            path = layout.vocabulary_path(run, name)
            content = path.read_bytes()
            vocabularies[name] = hashlib.sha256(content).hexdigest()
            size = 1 + content.count(b"\n") + feature.oov_buckets
            width = feature.max_values if feature.multivalued else 1
            dim = feature.embedding_dim or experiment.model.embedding_dim
            columns.append(Column(name, feature, width, size, dim, vocabulary=path))
        else:
            columns.append(_numeric(experiment, name, feature, statistics[name]))
    transforms = {c.name: [c.mean, c.std, list(c.boundaries)] for c in columns if not c.is_text}
    settings = {c.name: c.feature.model_dump(mode="json", exclude={"embedding_dim"}) for c in columns}
    schema = {
        name: [column.kind, column.role, getattr(column, "multivalued", None)]
        for name, column in experiment.served_columns.items()
    }
    stored = [
        StoredColumn(name, column.kind != "numeric", not column.training_only)
        for name, column in experiment.columns.items()
    ]
    return Inputs(
        tuple(columns),
        tuple(stored),
        fingerprint(dict(sorted(schema.items())), experiment.item),
        fingerprint(vocabularies),
        fingerprint(settings, transforms),
    )


def _numeric(experiment: Experiment, name: str, feature: Feature, statistics: dict) -> Column:
    assert feature.kind == "numeric"
    if feature.transform == "buckets":
        levels = np.linspace(0, 100, feature.buckets + 1)[1:-1]
        cuts = np.interp(levels, np.arange(101), np.asarray(statistics["quantiles"], dtype=np.float64))
        boundaries = tuple(float(np.float32(cut)) for cut in np.unique(cuts.astype(np.float32)))
        dim = feature.embedding_dim or experiment.model.embedding_dim
        return Column(name, feature, 1, 2 + len(boundaries), dim, boundaries=boundaries)
    mean, std = 0.0, 1.0
    if feature.transform == "standardize":
        mean, std = statistics["mean"], statistics["std"]
    elif feature.transform == "log1p":
        mean, std = statistics["log1p_mean"], statistics["log1p_std"]
    # A constant column has no spread: dividing by it would turn one value into NaN for ever.
    return Column(name, feature, 0, 0, 0, mean=float(mean), std=float(std) if std and std > 0 else 1.0)
