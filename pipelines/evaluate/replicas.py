"""Which trained replicas are compared, and where each one is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ranker import layout
from ranker.config import Experiment
from ranker.errors import UserError
from ranker.seeds import ReplicaSpec
from ranker.training.specs import content_key, pilot_arm, replica_specs

_NOT_IN_REPORT = {"path", "curve", "ended_by", "pilot"}


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
        curve: its mean training loss of each epoch.
        ended_by: how the number of epochs came about, in words; empty: not known.
        pilot: the training that chose the number of epochs, with its curves; None where no pilot did.
    """

    arm: str
    replica: int
    version: int
    key: str
    init_seed: int
    shuffle_seed: int
    path: str
    steps: int | None = None
    curve: tuple[float, ...] = ()
    ended_by: str = ""
    pilot: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The column of its predictions, `<arm>/<replica>`."""
        return f"{self.arm}/{self.replica}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the report; without the path, which is another one after a move, and without the training."""
        return {"name": self.name, **{k: v for k, v in asdict(self).items() if k not in _NOT_IN_REPORT}}


def find_replicas(experiment: Experiment, run: Path, manifest: dict[str, Any]) -> list[TrainedReplica]:
    """The newest version of every replica of the configuration.

    Args:
        experiment: the configuration.
        run: the run directory, after `train`.
        manifest: of the prepared data.

    Raises:
        UserError: a replica is not there, has no model, or was made from another configuration or other data.
    """
    pilot = pilot_arm(experiment, manifest, run)
    return [
        _find(run, spec, content_key(experiment, spec, manifest, pilot)) for spec in replica_specs(experiment)
    ]


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
        made_from = training["key"]
    except (OSError, ValueError, KeyError, TypeError):
        training, made_from = {}, None
    if made_from != key:
        raise UserError(
            f"{name}: {path} was made from another configuration or other data; run `ranker train` first"
        )
    seeds = spec.seeds
    return TrainedReplica(
        arm=spec.arm,
        replica=spec.replica,
        version=version,
        key=key,
        init_seed=seeds.init,
        shuffle_seed=seeds.shuffle,
        path=str(path),
        steps=training.get("steps"),
        curve=tuple(training.get("curve", ())),
        ended_by=training.get("ended_by", ""),
        pilot=training.get("pilot"),
    )
