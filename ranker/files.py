"""Files and directories that appear whole or not at all.

A writer works under a temporary name beside the final one and renames. Its bytes are on the disk before the rename
(fsync), so that after a power failure, too, the name holds the old contents or the new. The rename itself may be lost:
then the old contents stand.

Several processes, on several machines, may work in one directory. So a temporary name carries its owner's machine and
process, and `sweep` removes what a killed process has left only once that process is gone. Temporary names begin with
a dot and are no numbers, so TF Serving and every pattern for finished files pass over them.

In an object store (`ranker.storage`) an object is whole or not there, and a tree of them is there with its marker.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ranker import storage
from ranker.errors import UserError

_UNFINISHED = re.compile(r"\.tmp-(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{8}$")
_ELSEWHERE_SECONDS = 24 * 3600.0


def unfinished(directory: Path) -> Path:
    """A temporary path in `directory` that no other process uses. Nothing is there yet."""
    return directory / f".tmp-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def sweep(directory: Path) -> list[str]:
    """Removes what processes that are gone have left unfinished in a directory.

    Another machine's processes cannot be seen from here: theirs are removed after a day without a change.

    Args:
        directory: may be missing. In an object store nothing is ever unfinished.

    Returns:
        The names removed.
    """
    removed: list[str] = []
    if storage.is_remote(directory):
        return removed
    for path in sorted(directory.glob(".tmp-*")):
        owner = _UNFINISHED.match(path.name)
        if owner is not None and _is_gone(path, owner["host"], int(owner["pid"])):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Gives a temporary path to write a file to; when the block ends well, that file takes the name `path`.

    Args:
        path: the file; its directory must be there. Or an object: then the temporary file is local, and uploaded.
        sync: False for files that are worth nothing after a power failure, such as intermediate results.

    Raises:
        OSError: it cannot be written; nothing unfinished stays.
        UserError: the store cannot be written.
    """
    if storage.is_remote(path):
        with temporary_directory() as directory:
            yield directory / path.name
            storage.put(directory / path.name, path)
        return
    temporary = unfinished(path.parent)
    try:
        yield temporary
        if sync:
            _sync(temporary)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a small file, text as UTF-8, and its directory if it is not there.

    Raises:
        UserError: it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    if storage.is_remote(path):
        storage.put_bytes(path, data)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


@contextmanager
def staging(target: Path, marker: str, elsewhere: dict[str, Path] | None = None) -> Iterator[Path]:
    """Gives a new directory beside `target`; when the block ends well, it takes `target`'s place.

    Unlike a replica's base path (`ranker.training.publish`), where workers may compete, it has one writer at a time.
    What a killed run left behind is removed first. A lock, which the operating system releases with its
    process, keeps a second run away.

    In an object store the new directory is a temporary one on this disk, uploaded at the end. Nothing keeps a second
    run away there: its readers hold what they read against the marker (see `ranker.working_copy`).

    Args:
        target: the directory.
        marker: the file in it without which a store's reader finds nothing; it is uploaded last.
        elsewhere: what else belongs to it, which is in the store already: name -> object. May be filled in the block.

    Raises:
        UserError: another run is at work, the place cannot be written, or the disk is full.
    """
    if storage.is_remote(target):
        with temporary_directory() as fresh:
            yield fresh
            storage.put_tree(fresh, target, marker, extra=elsewhere)
        return
    prefix = f".{target.name}-"
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = open(target.parent / f".{target.name}.lock", "w")  # noqa: SIM115  (held for the whole run)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{target}: another run is writing here; wait for it or use another --run-dir"
            ) from None
        with explained(target):
            for leftover in target.parent.glob(f"{prefix}*"):
                shutil.rmtree(leftover)
            fresh = target.parent / f"{prefix}{uuid.uuid4().hex[:12]}"
            fresh.mkdir()
            try:
                yield fresh
                sync_tree(fresh)
                _replace(fresh, target)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns a full disk, missing permission and the like into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{path}: the disk is full; free some space and run the same command again"
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise UserError(f"{path}: cannot be written: {os.strerror(error.errno or 0)}") from None
        raise


@contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """A file as one on this disk while the block runs: itself, or a copy of an object.

    Raises:
        FileNotFoundError: an object is not there.
        UserError: the store cannot be read.
    """
    if not storage.is_remote(path):
        yield path
        return
    with temporary_directory() as directory:
        storage.fetch(path, directory / path.name)
        yield directory / path.name


@contextmanager
def temporary_directory(parent: Path | None = None) -> Iterator[Path]:
    """A directory on this disk while the block runs. Those that killed processes have left are removed first.

    Args:
        parent: where; None: where the system has its temporary files.

    Raises:
        UserError: it cannot be made.
    """
    parent = parent or Path(tempfile.gettempdir())
    directory = unfinished(parent)
    with explained(parent):
        sweep(parent)
        directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def sync_tree(directory: Path) -> None:
    """Brings all files below a directory to the disk, before it is renamed."""
    for path in directory.rglob("*"):
        if path.is_file():
            _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(fresh: Path, target: Path) -> None:
    if target.exists():
        # Two renames, since a directory cannot take the place of one that is not empty.
        old = target.parent / f".{target.name}-old-{uuid.uuid4().hex[:12]}"
        target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old)
    else:
        fresh.rename(target)


def _is_gone(path: Path, host: str, pid: int) -> bool:
    if host != socket.gethostname():
        try:
            return time.time() - path.stat().st_mtime > _ELSEWHERE_SECONDS
        except FileNotFoundError:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
