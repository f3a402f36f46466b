"""What serves now, and where: `deployment.yaml` as values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError, field_validator
from pydantic.dataclasses import dataclass

from ranker.config.validation import explain, read_yaml
from ranker.errors import UserError
from ranker.files import write_whole
from ranker.text import text
from serving.targets.target import check_scale, parse_target


def _target_text(value: object) -> str:
    try:
        return str(parse_target(value))
    except UserError as error:
        raise ValueError(str(error)) from None


def _scale_text(value: object) -> object:
    try:
        check_scale(str(value))
    except UserError as error:
        raise ValueError(str(error)) from None
    return value


def _label_texts(labels: object) -> object:
    return {str(key): text(value) for key, value in labels.items()} if isinstance(labels, Mapping) else labels


Text = Annotated[str, Strict()]
NonEmpty = Annotated[str, Strict(), Field(min_length=1)]
_CLOSED = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_CLOSED)
class Replica:
    """One served copy of the model.

    Attributes:
      name: unique in the deployment, as it appears in measures and alerts.
      target: `host:port` of its gRPC server, or a URL as `serving.targets.target` reads it.
      path: TF Serving base path, relative to the run directory; empty: not known.
      labels: what tells it from the others: arm, replica, seeds, data, hardware.

    Raises:
      pydantic.ValidationError: a value breaks its rule.
    """

    name: Annotated[str, Strict(), Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    target: Annotated[str, BeforeValidator(_target_text)]
    path: Text = ""
    labels: Annotated[Mapping[str, str], BeforeValidator(_label_texts)] = field(default_factory=dict)


@dataclass(frozen=True, config=_CLOSED)
class Deployment:
    """The replicas that answer for one model.

    Attributes:
      model_name: the name that every replica serves the model by.
      replicas: at least one.
      feature_spec: hash of the schema; replicas with another are not compared. Empty: not known.
      item: the feature that identifies a candidate.
      context, candidate: the features of a request's context and of its candidates.
      signature: the signature that scores rows.
      output: its output with the scores, `NAME` or `NAME[COLUMN]`; empty: `score`, else the only one.
      scale: what the output holds: `probability`, `logit`, `order` (scores that only order), or `range:LOW:HIGH` (values of
        a regression).
      json_request, json_scores: of servers that take plain JSON: the request's template, and the path to the scores.

    Raises:
      pydantic.ValidationError: a value breaks its rule.
    """

    model_name: NonEmpty
    replicas: tuple[Replica, ...]
    feature_spec: Text = ""
    item: NonEmpty = "item_id"
    context: tuple[Text, ...] = ()
    candidate: tuple[Text, ...] = ()
    signature: NonEmpty = "serving_default"
    output: Text = ""
    scale: Annotated[str, BeforeValidator(_scale_text)] = "probability"
    json_request: NonEmpty = '{"instances": "$rows"}'
    json_scores: NonEmpty = "predictions"

    @field_validator("replicas")
    @classmethod
    def _differ(cls, replicas: tuple[Replica, ...]) -> tuple[Replica, ...]:
        if not replicas:
            raise ValueError("a deployment must have at least one replica")
        for key in ("name", "target"):
            values = [getattr(replica, key) for replica in replicas]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"replicas must differ in their {key}. Received twice: {', '.join(twice)}")
        return replicas

    def replica(self, name: str) -> Replica:
        """Returns the replica of this name.

        Raises:
          UserError: there is none.
        """
        for replica in self.replicas:
            if replica.name == name:
                return replica
        names = ", ".join(replica.name for replica in self.replicas)
        raise UserError(f"the deployment has no such replica (it has {names}). Received: {name}")


def load(path: Path | str) -> Deployment:
    """Reads a deployment.

    Raises:
      UserError: no such file, not YAML, an unknown or missing key, a value of the wrong type; one line with
        file, key and value.
    """
    return build(read_yaml(path, "the deployment"), f"{path}: ")


def build(tree: Mapping[str, Any], source: str = "") -> Deployment:
    """Makes a deployment of plain values. `source` begins an error. Raises UserError as `load` does."""
    try:
        return TypeAdapter(Deployment).validate_python(tree)
    except ValidationError as error:
        raise UserError(f"{source}{explain(error)}") from None


def dump(deployment: Deployment, path: Path | str) -> None:
    """Writes a deployment as YAML, by a rename: a reader finds the old file or the new one, never a part."""
    tree = asdict(deployment)
    tree["replicas"] = [
        {key: value for key, value in replica.items() if value} for replica in tree.pop("replicas")
    ]
    tree = {key: list(value) if isinstance(value, tuple) else value for key, value in tree.items()}
    for key in ("signature", "output", "scale", "json_request", "json_scores"):
        if tree[key] == getattr(Deployment, key):
            del tree[key]
    # Without allow_unicode: PyYAML writes U+0085 plain, and reads it back as a line break.
    write_whole(
        Path(path) if isinstance(path, str) else path, yaml.safe_dump(tree, sort_keys=False, width=120)
    )


def from_targets(
    targets: Iterable[str], *, model_name: str = "ranker", item: str = "item_id", **keys: str
) -> Deployment:
    """Makes a deployment of `name=target` texts.

    Args:
      targets: `name=host:port`, or `name=URL`.
      model_name: the name that every replica serves the model by.
      item: the feature that identifies a candidate.
      keys: further keys of the deployment.

    Raises:
      UserError: a text of another form, or a name or address given twice.
    """
    replicas: list[dict[str, str]] = []
    for pair in targets:
        name, equals, target = pair.partition("=")
        if not equals:
            raise UserError(f"a replica must read name=target. Received: {pair!r}")
        replicas.append({"name": name, "target": target})
    return build({"model_name": model_name, "replicas": replicas, "item": item} | keys)
