"""What a process has on its own disk of a run directory in an object store: fetched before it computes.

A run directory on a file system is its own working copy. For one in a store every process has a temporary directory of the
same layout, which goes with the process. Prepared data are held against their manifest, which their writer removes first
and uploads last: an unchanged manifest, and checksums that are its own, say that no other writer was there in between.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from ranker import layout, storage
from ranker.config import fingerprint
from ranker.errors import UserError
from ranker.files import temporary_directory, unfinished

_ATTEMPTS = 3
_LEFTOVER_SECONDS = 24 * 3600.0
_LOCK = threading.RLock()
_copies: dict[str, Path] = {}
_open_directories = ExitStack()
atexit.register(_open_directories.close)


def working_copy(run: Path) -> Path:
    """The run directory on this disk: itself, or this process's copy of one in a store, which may lack files."""
    if not storage.is_remote(run):
        return run
    with _LOCK:
        if str(run) not in _copies:
            _copies[str(run)] = _open_directories.enter_context(temporary_directory())
        return _copies[str(run)]


def fetch_prepared(run: Path, shards: Iterable[str] = ()) -> Path:
    """The working copy with the prepared data, but of examples only the shards that are named.

    Args:
        run: the run directory.
        shards: their names relative to `data`, such as `train/part-00000-of-00004.tfrecord`.

    Raises:
        UserError: the run is not prepared, the store cannot be read, or what it holds does not fit its manifest.
    """
    local = working_copy(run)
    if not storage.is_remote(run):
        return local
    chosen = set(shards)
    with _LOCK:
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError, ValueError):
                if _fetched(run, local, chosen):
                    return local
    manifest = layout.manifest_path(run)
    if not manifest.exists():
        raise UserError(f"{manifest}: not there; run `ranker prepare` first")
    raise UserError(
        f"{layout.data_dir(run)}: does not fit its manifest; if no `ranker prepare` is writing there, run it again"
    )


def train_shards(run: Path) -> list[str]:
    """Names, relative to `data`, of the shards of the training split."""
    return [f"train/{path.name}" for path in layout.shard_paths(run, "train")]


def _fetched(run: Path, local: Path, shards: set[str]) -> bool:
    marker = layout.manifest_path(run).read_bytes()
    data, manifest = layout.data_dir(local), layout.manifest_path(local)
    if not manifest.exists() or manifest.read_bytes() != marker:
        shutil.rmtree(data, ignore_errors=True)

    def is_missing(name: str) -> bool:
        top = name.partition("/")[0]
        is_needed = name in shards or top in ("vocabulary", "statistics.json")
        return is_needed and not (data / name).exists()

    fetched = storage.fetch_tree(layout.data_dir(run), data, is_missing)
    if layout.manifest_path(run).read_bytes() == marker and _fits(json.loads(marker), data, fetched):
        manifest.write_bytes(marker)
        return True
    shutil.rmtree(data)
    return False


def _fits(manifest: Mapping[str, Any], data: Path, names: list[str]) -> bool:
    checksums = {shard["name"]: shard["sha256"] for split in manifest["shards"].values() for shard in split}
    return data_fingerprint(checksums, data) == manifest["fingerprint"] and all(
        _sha256(data / name) == checksums[name] for name in names if name in checksums
    )


def data_fingerprint(checksums: Mapping[str, str], data: Path) -> str:
    """The fingerprint of prepared data: of the shards' checksums, the vocabularies and the statistics.

    Args:
        checksums: name of each shard -> its SHA-256, in hex.
        data: the data directory.
    """
    vocabulary = data / "vocabulary"
    files = [*(vocabulary.iterdir() if vocabulary.is_dir() else ()), data / "statistics.json"]
    return fingerprint(dict(checksums), {path.name: _sha256(path) for path in sorted(files)})


def fetch_version(directory: Path) -> Path:
    """A replica's version on this disk: itself, or a copy of one in a store.

    Args:
        directory: `<run>/replicas/<arm>/<replica>/<version>`.

    Raises:
        UserError: the store cannot be read.
        FileNotFoundError: it is not there whole.
    """
    if not storage.is_remote(directory):
        return directory
    run = directory.parents[3]
    base = working_copy(run) / directory.parent.relative_to(run).as_posix()
    local = base / directory.name
    with _LOCK:
        if not (local / "saved_model.pb").exists():
            shutil.rmtree(local, ignore_errors=True)
            base.mkdir(parents=True, exist_ok=True)
            fetch_model(directory, unfinished(base)).rename(local)
    return local


def fetch_model(directory: Path, target: Path) -> Path:
    """Downloads a SavedModel; returns `target`.

    Raises:
        UserError: the store cannot be read.
        FileNotFoundError: its last object, `saved_model.pb`, is not there: it is being written, or its writer was killed.
    """
    names = storage.fetch_tree(directory, target)
    if "saved_model.pb" not in names:
        shutil.rmtree(target, ignore_errors=True)
        raise FileNotFoundError(f"{directory}/saved_model.pb")
    return target


@contextmanager
def scratch(run: Path, stage: str) -> Iterator[Path]:
    """A place in a run directory's store where workers leave results, while the block runs.

    What killed runs left is removed after a day.
    """
    parent = run / ".work"
    for name in storage.children(parent):
        tree = parent / name
        if time.time() - storage.modified(tree / key for key in storage.objects(tree)) > _LEFTOVER_SECONDS:
            storage.remove(tree)
    directory = parent / f"{stage}-{uuid.uuid4().hex[:12]}"
    try:
        yield directory
    finally:
        storage.remove(directory)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
        return digest.hexdigest()
