"""Directories and small files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ranker.errors import UserError
from ranker.training.leftovers import unfinished


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """Gives a new directory beside `target`; when the block ends well, it takes `target`'s place.

    Unlike a replica's base path (`ranker.training.publish`), where workers may compete, it has one writer at a time.
    What a killed run left behind is removed first. A lock, which the operating system releases with its
    process, keeps a second run away.

    Raises:
        UserError: another run is at work, the place cannot be written, or the disk is full.
    """
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


def write_whole(path: Path, text: str) -> None:
    """Writes a small file, and its directory if it is not there; what is unfinished when the process dies is hidden.

    Raises:
        UserError: it cannot be written.
    """
    temporary = unfinished(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UserError(f"{path.parent}: cannot be written: {error.strerror}") from None


def _replace(fresh: Path, target: Path) -> None:
    if target.exists():
        # Two renames, since a directory cannot take the place of one that is not empty.
        old = target.parent / f".{target.name}-old-{uuid.uuid4().hex[:12]}"
        target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old)
    else:
        fresh.rename(target)
