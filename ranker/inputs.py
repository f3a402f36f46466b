"""What the model sees after encoding: the plan of its input columns. Loads no TensorFlow.

Raw columns become two matrices: integer ids (one column for a categorical or bucketed feature or a part of a time, several
for a multi-valued feature or a sequence) and dense numbers (a value and a missing indicator for each numeric feature).
Id 0 means missing everywhere. `ranker.features` does the encoding; the model and the trainer are built from this plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ranker import layout
from ranker.config import Categorical, Experiment, Feature, Numeric, SequenceFeature, TimeFeature, fingerprint
from ranker.errors import UserError

TIME_PARTS = {"hour": 24, "weekday": 7}
"""How many values each part of a time has."""


@dataclass(frozen=True)
class Column:
    """The place of a feature, or of a part of one, among the inputs.

    Attributes:
        name: the feature, or the feature and its part (`time.hour`).
        feature: the feature's configuration.
        width: id columns it occupies (0 for a dense number).
        size: rows of its embedding table (0 for a dense number): missing, then either out-of-vocabulary
            buckets after the vocabulary, or quantile buckets.
        embedding_dim: length of its embedding vectors (0 for a dense number).
        vocabulary: the vocabulary file; None where texts are hashed.
        unknown: embeddings that texts outside the vocabulary share.
        mean: subtracted from a standardised number, and
        std: what it is divided by.
        boundaries: inner cut points of a bucketed number, increasing.
        edges: the quantiles between which a number has shares (see `ranker.pieces`), of the transformed number, increasing.
        share_means: the mean of each share, one fewer than `edges`.
        source: the raw column.
        table: the name of the embedding table, that of another column where both share one.
        part: which part of a time it is.
    """

    name: str
    feature: Feature
    width: int
    size: int
    embedding_dim: int
    vocabulary: Path | None = None
    unknown: int = 0
    mean: float = 0.0
    std: float = 1.0
    boundaries: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    share_means: tuple[float, ...] = ()
    source: str = ""
    table: str = ""
    part: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", self.source or self.name)
        object.__setattr__(self, "table", self.table or self.name)

    @property
    def is_dense(self) -> bool:
        """Whether the feature enters as a number instead of an embedding."""
        return self.width == 0

    @property
    def is_token(self) -> bool:
        """Whether it holds texts that are looked up or hashed."""
        return self.feature.kind in ("categorical", "sequence")

    @property
    def separator(self) -> str | None:
        """What joins several texts; None where it holds one."""
        feature = self.feature
        return (
            feature.separator
            if isinstance(feature, SequenceFeature)
            else getattr(feature, "multivalued", None)
        )

    @property
    def attends_to(self) -> str | None:
        """The column whose embedding weighs this one's several; None for their plain mean."""
        feature = self.feature
        return feature.of if isinstance(feature, SequenceFeature) and feature.pool == "attention" else None


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
class TrainingTarget:
    """What is learnt from a row.

    Attributes:
        label: the expression whose column is learnt, `label` or `grade`.
        compares_rows: whether the loss compares the rows of a request.
        is_value: whether the model gives the label's value (a regression) and not its probability.
        mean: of the label in the training rows; a regression learns (label - mean) / std.
        std: of the label in the training rows.
        low: the least label in the training rows.
        high: the greatest label in the training rows.
    """

    label: str = "label"
    compares_rows: bool = False
    is_value: bool = False
    mean: float = 0.0
    std: float = 1.0
    low: float = 0.0
    high: float = 1.0

    @property
    def scale(self) -> str:
        """What predictions are, as `ranker.scored.scale` reads it."""
        return f"range:{self.low:g}:{self.high:g}" if self.is_value else "probability"

    def prediction(self, output: Any) -> Any:
        """The model's prediction from the output of its last layer, a tensor of the same shape."""
        if self.is_value:
            return self.mean + self.std * output
        from ranker.backend import tf

        return tf.sigmoid(output)


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
        target: what is learnt.
    """

    columns: tuple[Column, ...]
    stored: tuple[StoredColumn, ...]
    spec_hash: str
    vocabulary_hash: str
    encoding_hash: str
    target: TrainingTarget = TrainingTarget()

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

    @property
    def expanded_width(self) -> int:
        """Columns that enter the model of the dense matrix: its own, and each number's shares (see `ranker.pieces`)."""
        return self.dense_width + sum(len(column.share_means) for column in self.dense)


def plan(experiment: Experiment, run: Path) -> Inputs:
    """Reads vocabularies and statistics of a prepared run and lays the inputs out.

    Args:
        experiment: the configuration, of one arm where arms differ in features.
        run: the run directory, after `prepare`.

    Raises:
        UserError: the run has no statistics, or they lack a feature of the configuration.
    """
    try:
        described = json.loads(layout.statistics_path(run).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{layout.statistics_path(run)}: not there; run `ranker prepare` first") from None
    statistics = described["features"]
    columns, vocabularies = [], {}
    for name, feature in experiment.features.items():
        if name not in statistics:
            raise UserError(
                f"{layout.statistics_path(run)}: has no feature '{name}'; run `ranker prepare` again"
            )
        if isinstance(feature, Categorical):
            columns.append(_categorical(experiment, run, name, feature))
            vocabulary = columns[-1].vocabulary
            if vocabulary is not None:
                vocabularies[name] = hashlib.sha256(vocabulary.read_bytes()).hexdigest()
        elif isinstance(feature, SequenceFeature):
            shared = experiment.features[feature.of]
            assert isinstance(shared, Categorical)
            item_column = _categorical(experiment, run, feature.of, shared)
            columns.append(replace(item_column, name=name, feature=feature, width=feature.last, source=name))
        elif isinstance(feature, TimeFeature):
            dim = feature.embedding_dim or experiment.model.embedding_dim
            columns += [
                Column(f"{name}.{part}", feature, 1, 1 + TIME_PARTS[part], dim, source=name, part=part)
                for part in feature.parts
            ]
        else:
            columns.append(_numeric(experiment, name, feature, statistics[name]))
    _check_names(columns)
    transforms = {c.name: [c.mean, c.std, list(c.boundaries)] for c in columns if c.feature.kind == "numeric"}
    transforms |= {f"{c.name} pieces": list(c.edges) for c in columns if c.edges}
    settings = {
        c.name: c.feature.model_dump(mode="json", exclude={"embedding_dim", "pieces"}) for c in columns
    }
    separators = experiment.separators
    schema = {
        name: [column.kind, column.role, separators.get(name)]
        for name, column in experiment.served_columns.items()
    }
    stored = [
        StoredColumn(name, column.kind != "numeric", not column.training_only)
        for name, column in experiment.columns.items()
    ]
    return Inputs(
        columns=tuple(columns),
        stored=tuple(stored),
        spec_hash=fingerprint(dict(sorted(schema.items())), experiment.item),
        vocabulary_hash=fingerprint(vocabularies),
        encoding_hash=fingerprint(settings, transforms),
        target=_target(experiment, described),
    )


def _check_names(columns: Iterable[Column]) -> None:
    names = [column.name for column in columns]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UserError(
            f"features: a feature and a part of a time must not have one name. Received: {repeated[0]!r}"
        )


def _categorical(experiment: Experiment, run: Path, name: str, feature: Categorical) -> Column:
    width = feature.max_values if feature.multivalued else 1
    dim = feature.embedding_dim or experiment.model.embedding_dim
    if feature.hash_buckets is not None:
        return Column(name, feature, width, 1 + feature.hash_buckets, dim)
    path = layout.vocabulary_path(run, name)
    size = 1 + path.read_bytes().count(b"\n") + feature.oov_buckets
    return Column(name, feature, width, size, dim, vocabulary=path, unknown=feature.oov_buckets)


def _target(experiment: Experiment, described: Mapping[str, Any]) -> TrainingTarget:
    if experiment.task == "regression":
        label = described["label"]
        return TrainingTarget(
            is_value=True, mean=label["mean"], std=label["std"], low=label["min"], high=label["max"]
        )
    compares_rows = experiment.training.compares_rows
    return TrainingTarget("grade" if compares_rows and experiment.data.grade else "label", compares_rows)


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
    column = Column(name, feature, 0, 0, 0, mean=float(mean), std=float(std) if std and std > 0 else 1.0)
    if not feature.pieces or not statistics["quantiles"]:
        return column
    # Data that an earlier version prepared have percentiles alone.
    distinct = statistics.get("distinct_quantiles", statistics["quantiles"])
    return _with_shares(column, feature, np.asarray(statistics["quantiles"]), np.asarray(distinct))


def _with_shares(column: Column, feature: Numeric, percentiles: np.ndarray, distinct: np.ndarray) -> Column:
    """The column with the edges and means of its shares.

    Args:
        column: the number's.
        feature: its entry in the configuration.
        percentiles: 101 of the number as it is in the training rows.
        distinct: distinct values of it, increasing, among which the edges lie.
    """

    def entering(values: np.ndarray) -> np.ndarray:
        if feature.transform == "log1p":
            values = np.sign(values) * np.log1p(np.abs(values))
        return ((values - column.mean) / column.std).astype(np.float32).astype(np.float64)

    values, edges = entering(percentiles), np.unique(entering(distinct))
    places = np.linspace(0, len(edges) - 1, min(feature.pieces + 1, len(edges)))
    edges = np.interp(places, np.arange(len(edges)), edges)
    shares = np.clip((values[:, np.newaxis] - edges[:-1]) / np.diff(edges), 0.0, 1.0)
    return replace(column, edges=tuple(edges.tolist()), share_means=tuple(shares.mean(axis=0).tolist()))
