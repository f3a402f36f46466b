"""The whole experiment: what one YAML file describes."""

from __future__ import annotations

import copy
import hashlib
import re
from typing import Any, Literal

from pydantic import field_validator, model_validator

from ranker.config.base import Name, Section
from ranker.config.data import Data
from ranker.config.deployment import Monitor, Serving
from ranker.config.features import Categorical, Feature, Identifier, RawColumn, SequenceFeature
from ranker.config.mitigation import Mitigation
from ranker.config.model import Model
from ranker.config.training import Replicas, Training
from ranker.json_text import json_text


class Experiment(Section):
    """A validated experiment. `arms` are recipes under comparison, as overrides; the first is deployed."""

    name: Name
    task: Literal["classification", "regression"] = "classification"
    data: Data
    features: dict[Name, Feature]
    model: Model = Model()
    training: Training = Training()
    mitigation: Mitigation | None = None
    replicas: Replicas = Replicas()
    arms: dict[Name, dict[str, Any]] = {"smelu": {}}
    serving: Serving = Serving()
    monitor: Monitor = Monitor()

    @field_validator("features", mode="before")
    @classmethod
    def _ranges(cls, value: Any) -> Any:
        """One feature for each number of a range: `f1..f300`."""
        if not isinstance(value, dict):
            return value
        features: dict[Any, Any] = {}
        for name, feature in value.items():
            match = re.fullmatch(r"(.*?)(\d+)\.\.(.*?)(\d+)", str(name))
            if match is None or match[1] != match[3] or int(match[2]) > int(match[4]):
                features[name] = feature
                continue
            features.update({f"{match[1]}{n}": feature for n in range(int(match[2]), int(match[4]) + 1)})
        return features

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        roles = {feature.role for feature in self.features.values() if not feature.training_only}
        if "item" not in roles:
            raise ValueError(
                "features: at least one must have role 'item' (and not be training_only), or there is nothing to rank"
            )
        if not self.arms:
            raise ValueError("arms: must name at least one arm, for example {smelu: {}}")
        self._check_item()
        self._check_loss()
        self._check_sequences()
        for column in self.monitor.slices:
            if column not in self.features or self.features[column].training_only:
                raise ValueError(f"monitor.slices: must name features that are served. Received: {column!r}")
        return self

    def _check_sequences(self) -> None:
        for name, feature in self.features.items():
            if not isinstance(feature, SequenceFeature):
                continue
            shared = self.features.get(feature.of)
            if not isinstance(shared, Categorical) or shared.multivalued or shared.training_only:
                raise ValueError(
                    f"features.{name}.of: must name a single-valued categorical feature that is served."
                    f" Received: {feature.of!r}"
                )

    def _check_loss(self) -> None:
        training, is_regression = self.training, self.task == "regression"
        loss = "regression" if is_regression else training.loss
        if is_regression and self.data.negatives is not None:
            raise ValueError("data.negatives: have label 0, and are no rows of a regression")
        if is_regression and training.compares_rows:
            raise ValueError(f"training.loss: must be pointwise for a regression. Received: {training.loss}")
        if is_regression and training.distribution != "none":
            raise ValueError(
                f"training.distribution: must be none for a regression. Received: {training.distribution}"
            )
        if training.compares_rows and not self.data.has_requests:
            raise ValueError(
                f"training.loss: {loss} compares the rows of a request, and data.request is not set"
            )
        mitigation = None if self.mitigation is None else self.mitigation.name
        if training.warm_start is not None and mitigation is not None:
            raise ValueError(
                f"training.warm_start: must not be set where there is a mitigation. Received: {mitigation}"
            )
        if loss != "pointwise" and mitigation not in (None, "ensemble", "self_ensemble"):
            raise ValueError(
                f"mitigation: {mitigation} mixes labels with probabilities, which {loss} has none of; it must be ensemble"
                f" or self_ensemble. Received: {mitigation}"
            )

    def _check_item(self) -> None:
        if self.data.item is not None and not self.data.item.feature:
            if self.item in self.features:
                raise ValueError(
                    f"data.item: with feature: false its column must not be in features. Received: {self.item!r}"
                )
            return
        item = self.features.get(self.item)
        if not isinstance(item, Categorical) or item.role != "item" or item.multivalued or item.training_only:
            raise ValueError(
                "data.item: must name a single-valued categorical feature with role 'item' that is served, or be"
                f" {{column: NAME, feature: false}}. Received: {self.item!r}"
            )

    @property
    def item(self) -> str:
        """The feature that identifies a candidate: `data.item`, or the first categorical item feature."""
        if self.data.item is not None:
            return self.data.item.column
        for name, feature in self.features.items():
            if feature.role == "item" and feature.kind == "categorical" and not feature.multivalued:
                return name
        return ""

    @property
    def keeps_requests_together(self) -> bool:
        """Whether the rows of a request stand together in the training rows: an arm's loss compares them."""
        return any(self.arm(name).training.compares_rows for name in self.arms)

    @property
    def columns(self) -> dict[str, RawColumn]:
        """What an example holds of a row beside its label: the features, and the item where it is none."""
        columns: dict[str, RawColumn] = dict(self.features)
        if self.data.item is not None and not self.data.item.feature:
            columns[self.data.item.column] = Identifier()
        return columns

    @property
    def served_columns(self) -> dict[str, RawColumn]:
        """What a client sends: the columns but those that are for training only."""
        return {name: column for name, column in self.columns.items() if not column.training_only}

    @property
    def separators(self) -> dict[str, str]:
        """What joins the values of the served columns that hold several."""
        texts = {
            name: column.separator
            if isinstance(column, SequenceFeature)
            else getattr(column, "multivalued", None)
            for name, column in self.served_columns.items()
        }
        return {name: text for name, text in texts.items() if text}

    @property
    def context_features(self) -> tuple[str, ...]:
        """Names of the served columns with one value a request."""
        return tuple(name for name, column in self.served_columns.items() if column.role == "context")

    @property
    def item_features(self) -> tuple[str, ...]:
        """Names of the served columns with one value a candidate."""
        return tuple(name for name, column in self.served_columns.items() if column.role == "item")

    @property
    def deployed_arm(self) -> str:
        """The arm that serves: the first."""
        return next(iter(self.arms))

    def arm(self, name: str) -> Experiment:
        """This experiment under one arm's recipe: its overrides applied, and it alone among the arms."""
        tree = self.model_dump(mode="json")
        for key, value in self.arms[name].items():
            assign(tree, key, value)
        tree["arms"] = {name: self.arms[name]}
        return Experiment.model_validate(tree)


def assign(tree: dict[str, Any], dotted: str, value: Any) -> None:
    """Sets `tree[a][b][c] = value` for the dotted key `a.b.c`, making the tables on the way.

    Raises:
        ValueError: a part of the key leads through something that is not a table.
    """
    *parents, last = dotted.split(".")
    node: Any = tree
    for part in parents:
        if node.get(part) is None:
            node[part] = {}
        node = node[part]
        if not isinstance(node, dict):
            raise ValueError(f"{dotted}: '{part}' is a value, not a table of keys")
    node[last] = copy.deepcopy(value)


def fingerprint(*parts: Any) -> str:
    """A short stable hash (16 hex digits) of JSON-serialisable parts: equal content, equal fingerprint."""
    plain = [part.model_dump(mode="json") if isinstance(part, Section) else part for part in parts]
    text = json_text(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
