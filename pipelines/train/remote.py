"""Trainings for a run directory in an object store: fetched, computed on this disk, published.

Workers share only the store. A worker first fetches what its training needs to its working copy. While the training runs,
its checkpoint and progress are copied to the store whenever they change. If the worker dies, another one continues from
there. A finished version is put into the store with `saved_model.pb` as the last object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from pipelines.progress import polling
from ranker import layout, storage
from ranker.config import Experiment, load
from ranker.errors import UserError
from ranker.files import temporary_directory
from ranker.seeds import ReplicaSpec
from ranker.training.publish import finished
from ranker.training.specs import content_key, pilot_arm, read_manifest
from ranker.working_copy import fetch_prepared, fetch_version, train_shards

_DECISION = ".epochs-*.json"
_STATE = (".checkpoint-*.npz", _DECISION)
"""What a training leaves for another one to go on from."""
_SHOWN = (*_STATE, ".progress.jsonl")
"""And what it leaves for others to see."""
_CLAIM = re.compile(r"\.claim-([0-9]+)")
_SECONDS = 5.0


@contextmanager
def local_run(run: Path, members: Sequence[ReplicaSpec], seconds: float = _SECONDS) -> Iterator[Path]:
    """A run directory on this disk in which replicas can be trained; what is trained in the block ends up in `run`.

    Args:
        run: the run directory.
        members: replicas that can only be trained together; none for the pilot that chooses the number of epochs.
        seconds: between two looks for a new checkpoint.

    Raises:
        UserError: the run is not prepared, the store cannot be used, or several machines are to train one replica.
    """
    if not storage.is_remote(run):
        yield run
        return
    experiment = load(layout.config_path(run))
    prepared = fetch_prepared(run, train_shards(run))
    with temporary_directory() as local:
        layout.data_dir(local).symlink_to(layout.data_dir(prepared))
        layout.config_path(local).write_bytes(layout.config_path(run).read_bytes())
        bases = [layout.replica_dir(local, member.arm, member.replica) for member in members]
        manifest = read_manifest(local)
        pilot = pilot_arm(experiment, manifest, run)
        for member, base in zip(members, bases, strict=True):
            _check_arm(experiment.arm(member.arm), run)
            _fetch_anchor(run, local, experiment.arm(member.arm))
            key = content_key(experiment, member, manifest, pilot)
            _claim(_remote(run, local, base), base, key)
        _fetch_state(run, local, layout.replicas_dir(local), (_DECISION,) if members else _STATE)
        mirror = Mirror(run, local, bases or [layout.replicas_dir(local)])
        try:
            with polling(mirror.put_if_possible, "checkpoint-upload", seconds):
                yield local
        finally:
            # What a failed training leaves is for the next one to go on from.
            mirror.put()
        for member, base in zip(members, bases, strict=True):
            _publish(_remote(run, local, base), base)
            logs = layout.tensorboard_dir(local, member.arm, member.replica)
            for name in storage.local_files(logs):
                storage.put(logs / name, layout.tensorboard_dir(run, member.arm, member.replica) / name)


class Mirror:
    """Copies the state of trainings to the store, a file when it has changed.

    Args:
        run: the run directory, in a store.
        local: where they train.
        directories: whose state it is, in `local`; what the store has there is fetched first.
    """

    def __init__(self, run: Path, local: Path, directories: Sequence[Path]):
        self._run, self._local, self._directories = run, local, directories
        for directory in directories:
            _fetch_state(run, local, directory, _STATE)
        self._stamps = {path: _stamp(path) for path in self._files()}

    def put(self) -> None:
        """Uploads what has changed; what is gone here goes there too.

        Raises:
            UserError: the store cannot be written.
        """
        files = self._files()
        for path in sorted(files):
            try:
                stamp = _stamp(path)
                if self._stamps.get(path) != stamp:
                    storage.put(path, _remote(self._run, self._local, path))
                    self._stamps[path] = stamp
            except FileNotFoundError:
                continue  # its training has just removed it
        for path in self._stamps.keys() - files:
            _remote(self._run, self._local, path).unlink(missing_ok=True)
            del self._stamps[path]

    def put_if_possible(self) -> None:
        """As `put`; a store that is away for a while ends no training."""
        with suppress(UserError):
            self.put()

    def _files(self) -> set[Path]:
        return {
            directory / name
            for directory in self._directories
            for name in storage.children(directory)
            if _is_state(name, _SHOWN)
        }


def _fetch_state(run: Path, local: Path, directory: Path, patterns: Sequence[str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in storage.children(_remote(run, local, directory)):
        if _is_state(name, patterns):
            storage.fetch(_remote(run, local, directory) / name, directory / name)


def _remote(run: Path, local: Path, path: Path) -> Path:
    """The object of the run directory that a local path stands for."""
    return run / path.relative_to(local).as_posix()


def _check_arm(arm_config: Experiment, run: Path) -> None:
    if arm_config.training.distribution == "multi_worker":
        raise UserError(
            "training.distribution: multi_worker needs a run directory on a file system that its machines mount."
            f" Received: {run}"
        )
    if arm_config.training.warm_start is not None:
        raise UserError(f"training.warm_start: needs a run directory on a file system. Received: {run}")


def _is_state(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _fetch_anchor(run: Path, local: Path, arm_config: Experiment) -> None:
    """Downloads the SavedModel that an arm's anchor names, if it lies in the run directory."""
    name = getattr(arm_config.mitigation, "replica", None)
    if not name or Path(name).is_absolute():
        return
    from ranker.mitigation.teachers import anchor_version

    directory = anchor_version(run, name)
    link = local / directory.relative_to(run).as_posix()
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(fetch_version(directory))


def _claim(remote: Path, base: Path, key: str) -> None:
    """Makes a replica's local base path say what the store has: the version of the key, or which number comes next.

    A number is claimed for good, so that two workers that train the same replica never write under the same one.
    """
    version = finished(remote, key)
    if version is not None:
        # All of it that says that the replica is finished.
        storage.fetch(remote / str(version) / "training.json", base / str(version) / "training.json")
        return
    names = storage.children(remote)
    claims = [int(claim[1]) for claim in map(_CLAIM.fullmatch, names) if claim]
    number = max([0, *claims, *(int(name) for name in names if name.isdigit())]) + 1
    while not storage.create(remote / f".claim-{number}", key.encode()):
        number += 1
    if number > 1:
        # Trainings number on from the highest version there is.
        (base / str(number - 1)).mkdir(parents=True)


def _publish(remote: Path, base: Path) -> None:
    """Puts the version that was trained here into the store, `saved_model.pb` last, and removes claims up to it."""
    for version, directory in layout.model_versions(base).items():
        if not (directory / "saved_model.pb").exists():
            continue
        storage.add_tree(directory, remote / str(version), "saved_model.pb")
        for name in storage.children(remote):
            claim = _CLAIM.fullmatch(name)
            if claim and int(claim[1]) <= version:
                (remote / name).unlink(missing_ok=True)
