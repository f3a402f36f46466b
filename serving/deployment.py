"""What serves now, and where: `deployment.yaml` as values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from ranker.address import parse_address
from ranker.errors import UserError
from ranker.files import write_whole

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Replica:
    """One served copy of the model.

    Attributes:
      name: unique in the deployment, as it appears in measures and alerts.
      target: `host:port` of its gRPC server.
      path: TF Serving base path, relative to the run directory; empty: not known.
      labels: what tells it from the others: arm, replica, seeds, data, hardware.
    """

    name: str
    target: str
    path: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise UserError(
                f"a replica's name must be letters, digits, `_`, `.`, `-`. Received: {self.name!r}"
            )
        parse_address(self.target, f"replica {self.name}: `target`")


@dataclass(frozen=True)
class Deployment:
    """The replicas that answer for one model.

    Attributes:
      model_name: the name that every replica serves the model by.
      replicas: at least one.
      feature_spec, vocabulary: hashes; replicas with others are not compared. Empty: not known.
      item: the feature that identifies a candidate.
      context, candidate: the features of a request's context and of its candidates.
    """

    model_name: str
    replicas: tuple[Replica, ...]
    feature_spec: str = ""
    vocabulary: str = ""
    item: str = "item_id"
    context: tuple[str, ...] = ()
    candidate: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key in ("model_name", "item", "feature_spec", "vocabulary"):
            value = getattr(self, key)
            if not isinstance(value, str) or (not value and key in ("model_name", "item")):
                raise UserError(f"`{key}` must be text. Received: {value!r}")
        if not self.replicas:
            raise UserError("a deployment must have at least one replica. Received: none")
        for key in ("name", "target"):
            values = [getattr(replica, key) for replica in self.replicas]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise UserError(f"replicas must differ in their {key}. Received twice: {', '.join(twice)}")

    def replica(self, name: str) -> Replica:
        """Returns the replica of this name.

        Raises:
          UserError: there is none.
        """
        for replica in self.replicas:
            if replica.name == name:
                return replica
        known = ", ".join(replica.name for replica in self.replicas)
        raise UserError(f"the deployment has no such replica (it has {known}). Received: {name}")


def load(path: Path | str) -> Deployment:
    """Reads a deployment.

    Raises:
      UserError: no such file, not YAML, an unknown or missing key, a value of the wrong type; one line with
        file, key and value.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{path}: cannot read the deployment: {reason}") from None
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return _parse(tree)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def dump(deployment: Deployment, path: Path | str) -> None:
    """Writes a deployment as YAML, by a rename: a reader finds the old file or the new one, never a part."""
    tree = asdict(deployment)
    tree["replicas"] = [
        {key: value for key, value in replica.items() if value} for replica in tree.pop("replicas")
    ]
    tree = {key: list(value) if isinstance(value, tuple) else value for key, value in tree.items()}
    # Without allow_unicode: PyYAML writes U+0085 plain, and reads it back as a line break.
    write_whole(Path(path), yaml.safe_dump(tree, sort_keys=False, width=120))


def from_targets(targets: Iterable[str], *, model_name: str = "ranker", item: str = "item_id") -> Deployment:
    """Makes a deployment of `name=host:port` texts.

    Raises:
      UserError: a text of another form, or a name or address given twice.
    """
    replicas = []
    for text in targets:
        name, equals, target = text.partition("=")
        if not equals:
            raise UserError(f"a replica must read name=host:port. Received: {text!r}")
        replicas.append(Replica(name, target))
    return Deployment(model_name, tuple(replicas), item=item)


def _parse(tree: Any) -> Deployment:
    keys = _checked(tree, Deployment, "", required={"model_name", "replicas"})
    for key in ("context", "candidate"):
        keys[key] = tuple(_texts(keys.get(key, ()), key))
    if not isinstance(keys["replicas"], list):
        raise UserError(f"`replicas` must be a list. Received: {keys['replicas']!r}")
    keys["replicas"] = tuple(_replica(entry, place) for place, entry in enumerate(keys["replicas"]))
    return Deployment(**keys)


def _replica(tree: Any, place: int) -> Replica:
    where = f"replicas[{place}]"
    keys = _checked(tree, Replica, f"{where}.", required={"name", "target"})
    if not isinstance(keys.get("path", ""), str):
        raise UserError(f"`{where}.path` must be text. Received: {keys['path']!r}")
    labels = keys.get("labels", {})
    if not isinstance(labels, dict) or any(isinstance(value, (dict, list)) for value in labels.values()):
        raise UserError(f"`{where}.labels` must be a table of texts. Received: {labels!r}")
    keys["labels"] = {str(key): str(value) for key, value in labels.items()}
    return Replica(**keys)


def _checked(tree: Any, kind: type, where: str, required: set[str]) -> dict[str, Any]:
    known = [entry.name for entry in fields(kind)]
    if not isinstance(tree, dict):
        raise UserError(f"`{where.rstrip('.') or 'deployment'}` must be a table of keys. Received: {tree!r}")
    for key in tree:
        if key not in known:
            raise UserError(f"`{where}{key}` is not a key here (allowed: {', '.join(known)})")
    for key in sorted(required - tree.keys()):
        raise UserError(f"`{where}{key}` is missing")
    return dict(tree)


def _texts(values: Any, key: str) -> list[str]:
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values):
        raise UserError(f"`{key}` must be a list of feature names. Received: {values!r}")
    return list(values)
