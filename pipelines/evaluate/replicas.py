"""Which trained replicas are compared, and where each one is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ranker import layout
from ranker.config import Experiment
from ranker.errors import UserError
from ranker.seeds import ReplicaSpec
from ranker.training.specs import content_key, replica_specs


@dataclass(frozen=True)
class TrainedReplica:
    """One published replica.

    Attributes:
        arm: its recipe.
        replica: its index in the arm.
        version: the version that is compared, the newest.
        key: the fingerprint of everything its weights come from.
        init_seed: decided its initial weights.
        shuffle_seed: decided its order of rows.
        path: its SavedModel.
        steps: how many it was trained for; None: not known.
    """

    arm: str
    replica: int
    version: int
    key: str
    init_seed: int
    shuffle_seed: int
    path: str
    steps: int | None = None

    @property
    def name(self) -> str:
        """The column of its predictions, `<arm>/<replica>`."""
        return f"{self.arm}/{self.replica}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the report; without the path, which is another one after a move."""
        return {"name": self.name, **{k: v for k, v in asdict(self).items() if k != "path"}}


def find_replicas(experiment: Experiment, run: Path, manifest: dict[str, Any]) -> list[TrainedReplica]:
    """The newest version of every replica of the configuration.

    Args:
        experiment: the configuration.
        run: the run directory, after `train`.
        manifest: of the prepared data.

    Raises:
        UserError: a replica is not there, has no model, or was made from another configuration or other data.
    """
    return [_find(run, spec, content_key(experiment, spec, manifest)) for spec in replica_specs(experiment)]


def _find(run: Path, spec: ReplicaSpec, key: str) -> TrainedReplica:
    base = layout.replica_dir(run, spec.arm, spec.replica)
    name = f"replica {spec.arm}/{spec.replica}"
    version = layout.newest_version(base)
    if version == 0:
        raise UserError(f"{name}: {base} has no version; run `ranker train` first")
    path = layout.version_dir(run, spec.arm, spec.replica, version)
    if not (path / "saved_model.pb").is_file():
        raise UserError(f"{name}: {path} has no saved_model.pb; remove it and run `ranker train` again")
    try:
        training = json.loads((path / "training.json").read_text(encoding="utf-8"))
        made_from, steps = training["key"], training.get("steps")
    except (OSError, ValueError, KeyError, TypeError):
        made_from = steps = None
    if made_from != key:
        raise UserError(
            f"{name}: {path} was made from another configuration or other data; run `ranker train` first"
        )
    seeds = spec.seeds
    return TrainedReplica(spec.arm, spec.replica, version, key, seeds.init, seeds.shuffle, str(path), steps)
