"""Which replicas an experiment has, and what each one is made from. Loads no TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranker import __version__, layout
from ranker.config import Codistillation, Experiment, fingerprint
from ranker.errors import UserError
from ranker.seeds import ReplicaSpec, derive

_NOT_LEARNT_FROM = {"checkpoint_minutes", "segment_rows"}
_PILOT_ONLY = {"max_epochs", "patience", "validation", "validation_measure"}


def replica_specs(experiment: Experiment) -> list[ReplicaSpec]:
    """Every replica of every arm, with its seeds."""
    return [
        ReplicaSpec(arm, index, derive(arm_config.replicas.seed, index, arm_config.replicas.vary))
        for arm in experiment.arms
        for arm_config in [experiment.arm(arm)]
        for index in range(arm_config.replicas.count)
    ]


def content_key(
    experiment: Experiment, spec: ReplicaSpec, manifest: Mapping[str, Any], pilot: str | None = None
) -> str:
    """A fingerprint of everything that decides the replica's weights: equal key, equal replica.

    An anchor counts by its path: name a version's directory, not a base path, where it may change.

    Args:
        experiment: the whole configuration.
        spec: the replica.
        manifest: of the prepared data.
        pilot: the arm that decides how long to train, see `pilot_arm`; default: the deployed arm.
    """
    arm_config = experiment.arm(spec.arm)
    features = {name: feature.model_dump(mode="json") for name, feature in arm_config.features.items()}
    auto = arm_config.training.epochs == "auto"
    excluded = _NOT_LEARNT_FROM if auto else _NOT_LEARNT_FROM | _PILOT_ONLY
    training = arm_config.training.model_dump(mode="json", exclude=excluded)
    seeds = [spec.seeds.init, spec.seeds.shuffle]
    parts = [
        arm_config.task,
        arm_config.model,
        training,
        features,
        arm_config.item,
        seeds,
        manifest["fingerprint"],
        __version__,
    ]
    if auto:
        parts.append(pilot_key(experiment, manifest, pilot))
    if arm_config.mitigation is not None:
        # A replica that learns with others is made from their seeds too.
        partner_seeds = [[s.seeds.init, s.seeds.shuffle] for s in together(experiment, spec)]
        parts += [arm_config.mitigation, partner_seeds]
    return fingerprint(*parts)


def pilot_arm(experiment: Experiment, manifest: Mapping[str, Any], run: Path) -> str:
    """The arm whose pilot decides how long the replicas of a run train where `training.epochs` is `auto`.

    The first arm with a pilot in this run, else the deployed arm: an arm that is added before the others, or another
    order of arms, leaves the number of epochs, and with it what is trained, as it is.
    """
    for arm in experiment.arms:
        if decision_path(run, pilot_key(experiment, manifest, arm)).exists():
            return arm
    return experiment.deployed_arm


def decision_path(run: Path, key: str) -> Path:
    """Where the decision of a pilot's key is kept."""
    return layout.replicas_dir(run) / f".epochs-{key}.json"


def pilot_key(experiment: Experiment, manifest: Mapping[str, Any], pilot: str | None = None) -> str:
    """A fingerprint of everything that decides the number of epochs where it is `auto`; see `ranker.training.pilot`.

    Args:
        experiment: the whole configuration.
        manifest: of the prepared data.
        pilot: the arm that decides; default: the deployed arm.
    """
    arm = experiment.arm(pilot or experiment.deployed_arm)
    features = {name: feature.model_dump(mode="json") for name, feature in arm.features.items()}
    training = arm.training.model_dump(mode="json", exclude={*_NOT_LEARNT_FROM, "epochs"})
    split = [arm.data.split.model_dump(mode="json"), list(arm.data.request or ())]
    parts = [
        arm.task,
        arm.model,
        training,
        features,
        arm.replicas.seed,
        split,
        manifest["fingerprint"],
        __version__,
    ]
    return fingerprint(*parts)


def together(experiment: Experiment, spec: ReplicaSpec) -> list[ReplicaSpec]:
    """The replicas that can only be trained with `spec`: it alone, but for co-distillation."""
    if isinstance(experiment.arm(spec.arm).mitigation, Codistillation):
        return [replica for replica in replica_specs(experiment) if replica.arm == spec.arm]
    return [spec]


def read_manifest(run: Path) -> dict[str, Any]:
    """The prepared data's manifest.

    Raises:
        UserError: it is not there or not JSON.
    """
    path = layout.manifest_path(run)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run `ranker prepare` first") from None
    except ValueError:
        raise UserError(f"{path}: is not JSON; remove {path.parent} and run `ranker prepare` again") from None
