"""Makes a deployment of a run directory: its replicas, their descriptions, their addresses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ranker import layout
from ranker.address import HostPort
from ranker.config import Experiment, load
from ranker.errors import UserError
from serving.deployment import Deployment, build, dump, from_targets
from serving.deployment import load as load_deployment


def experiment_of(run: Path) -> Experiment:
    """The run's resolved configuration.

    Raises:
        UserError: the directory has none.
    """
    path = layout.config_path(run)
    if not path.exists():
        raise UserError(
            f"{run}: not a run directory (has no config.yaml); make one with `ranker run --run-dir {run}`"
        )
    return load(path)


def deployment_of(run: Path, base_port: int | None = None) -> Deployment:
    """The deployed arm's replicas, replica i on port `base_port + i`.

    Args:
        run: a run directory with trained replicas.
        base_port: instead of the configuration's.

    Raises:
        UserError: a replica has no servable version, or the replicas do not see the same features.
    """
    experiment = experiment_of(run)
    arm = experiment.deployed_arm
    deployed = experiment.arm(arm)
    port = base_port if base_port is not None else experiment.serving.base_port
    if port + deployed.replicas.count - 1 > 65535:
        raise UserError(
            f"serving.base_port: leaves no room for {deployed.replicas.count} replicas. Received: {port}"
        )
    identities = [identity(run, arm, index) for index in range(deployed.replicas.count)]
    if len({description["feature_spec"] for description in identities}) > 1:
        raise UserError(
            f"{run}: replicas of arm '{arm}' differ in their feature_spec; run `ranker train` again"
        )
    replicas = [
        {
            "name": f"{arm}-{index}",
            "target": str(HostPort(experiment.serving.host.strip("[]"), port + index)),
            "path": layout.replica_dir(run, arm, index).relative_to(run).as_posix(),
            "labels": {
                key: description[key]
                for key in ("arm", "replica", "init_seed", "shuffle_seed", "data", "version")
            }
            | {"hardware": "cpu"},
        }
        for index, description in enumerate(identities)
    ]
    return build(
        {
            "model_name": experiment.serving.model_name,
            "feature_spec": identities[0]["feature_spec"],
            "item": deployed.item,
            "scale": identities[0].get("scale", "probability"),
            "context": deployed.context_features,
            "candidate": deployed.item_features,
            "replicas": replicas,
        },
        f"{run}: ",
    )


def identity(run: Path, arm: str, replica: int) -> dict[str, Any]:
    """The description that the newest version of a replica carries.

    Raises:
        UserError: there is no version with a SavedModel.
    """
    base = layout.replica_dir(run, arm, replica)
    directory = next(iter(layout.model_versions(base).values()), None)
    if directory is None:
        raise UserError(f"{base}: has no trained version; run `ranker train --run-dir {run}` first")
    if not (directory / "saved_model.pb").exists():
        raise UserError(
            f"{directory}: has no saved_model.pb; remove it and run `ranker train --run-dir {run}` again"
        )
    try:
        return json.loads((directory / "assets.extra" / "replica.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{directory}: assets.extra/replica.json is missing or not JSON") from None


def deploy(
    run: Path, base_port: int | None = None, report: Callable[[str], None] = lambda line: None
) -> Deployment:
    """Writes `deployment.yaml` from what stands in the run directory, and returns it.

    A file that is there says where replicas are: their targets stay, and so do replicas without a path, which
    somebody added by hand. Only `base_port` moves the run's own replicas.

    Args:
        run: a run directory with trained replicas.
        base_port: where they serve from now on; None: where the file, else the configuration says.
        report: called with a line for each target that moves, or that the configuration has otherwise.

    Raises:
        UserError: as `deployment_of`; or there is a file that cannot be read.
    """
    deployment, path = deployment_of(run, base_port), layout.deployment_path(run)
    if path.exists():
        deployment = _joined(load_deployment(path), deployment, base_port is not None, report)
    dump(deployment, path)
    return deployment


def _joined(
    written: Deployment, deployment: Deployment, moves: bool, report: Callable[[str], None]
) -> Deployment:
    targets = {replica.name: replica.target for replica in written.replicas}
    replicas = []
    for replica in deployment.replicas:
        target = targets.get(replica.name, replica.target)
        if target != replica.target and moves:
            report(
                f"deployment.yaml: {replica.name} is at {replica.target} from now on, no longer at {target}"
            )
        elif target != replica.target:
            report(
                f"deployment.yaml: {replica.name} stays at {target}; the configuration says {replica.target}"
            )
            replica = replace(replica, target=target)
        replicas.append(replica)
    names = {replica.name for replica in replicas}
    added = [replica for replica in written.replicas if not replica.path and replica.name not in names]
    return replace(deployment, replicas=(*replicas, *added))


def deployment_from(
    run: Path | None, replicas: list[str] | None, model_name: str | None = None, **keys: str
) -> Deployment:
    """What to talk to: `NAME=TARGET` texts where given, else the run directory's `deployment.yaml`.

    Args:
        run: says what the texts do not: the model's name, its item and features.
        replicas: the texts.
        model_name: instead of the run's; without a run `ranker`.
        keys: further keys of a deployment, instead of the run's.

    Raises:
        UserError: neither is given, or what is given cannot be read.
    """
    if replicas and run is None:
        return from_targets(replicas, model_name=model_name or "ranker", **keys)
    if run is None:
        raise UserError("give --run-dir, or --replica NAME=TARGET for each replica")
    if replicas:
        experiment = experiment_of(run)
        arm = experiment.arm(experiment.deployed_arm)
        name = model_name or experiment.serving.model_name
        deployment = from_targets(replicas, model_name=name, **({"item": arm.item} | keys))
        return replace(deployment, context=arm.context_features, candidate=arm.item_features)
    path = layout.deployment_path(run)
    deployment = load_deployment(path) if path.exists() else deployment_of(run)
    if model_name is not None:
        keys = keys | {"model_name": model_name}
    return build(asdict(deployment) | keys) if keys else deployment
