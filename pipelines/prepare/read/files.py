"""Input files, on a local disk or behind a URI that fsspec knows (`s3://`, `gs://`, ...)."""

from __future__ import annotations

import glob
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ranker.errors import UserError

_READ_AHEAD = 8 << 20  # bytes asked of an object store at a time


@dataclass(frozen=True)
class File:
    """One input file.

    Attributes:
        path: where it is, as the filesystem knows it.
        name: how results call it: relative to `data.root` where it lies below it.
        size: bytes.
        stamp: changes when the content does (modification time, or the store's tag).
    """

    path: str
    name: str
    size: int
    stamp: str


def find(pattern: str, root: str) -> list[File]:
    """The files a path or glob names, in the order of their paths.

    Args:
        pattern: a located path or URI, perhaps with `*`, `?` or `[...]`.
        root: `data.root`, cut from the names.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    try:
        files = _find_remote(pattern, root) if "://" in pattern else _find_local(pattern, root)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{pattern}: cannot be read: {_one_line(error)}") from None
    if not files:
        raise UserError(f"{pattern}: no such file")
    return files


def open_input(path: str) -> BinaryIO:
    """Opens a file for reading bytes, seekable.

    Raises:
        UserError: it cannot be opened.
    """
    try:
        if "://" not in path:
            return open(path, "rb")
        import fsspec

        filesystem, inside = fsspec.core.url_to_fs(path)
        return io.BufferedReader(filesystem.open(inside, "rb", block_size=_READ_AHEAD))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {_one_line(error)}") from None


def _find_local(pattern: str, root: str) -> list[File]:
    # A path that exists is itself, whatever brackets its name has; a directory stands for the data files below it.
    if os.path.isdir(pattern):
        paths = [path for path in _below(pattern) if not _is_hidden(path, pattern)]
        if not paths:
            raise UserError(f"{pattern}: is a directory without data files")
    elif os.path.exists(pattern):
        paths = [pattern]
    else:
        matches = sorted(glob.glob(_rooted(pattern, root), recursive=True))
        paths = [path for path in matches if not os.path.isdir(path) and not _is_hidden(path, pattern)]
    files = []
    for path in paths:
        with open(path, "rb"):  # a file that may not be read fails here, before any work
            status = os.stat(path)
        files.append(File(path, _name(path, root), status.st_size, str(status.st_mtime_ns)))
    return files


def _below(directory: str) -> list[str]:
    return sorted(str(path) for path in Path(directory).rglob("*") if path.is_file())


def _is_hidden(path: str, pattern: str) -> bool:
    """Whether a name that the pattern does not spell out begins with `_` or `.`: notes of Spark and Hive, and no data."""
    spelt = pattern.split("/")
    if any(part.startswith(("_", ".")) and glob.has_magic(part) for part in spelt):
        return False
    return any(part.startswith(("_", ".")) and part not in spelt for part in path.split("/"))


def _find_remote(pattern: str, root: str) -> list[File]:
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(pattern)
    _, inside_root = fsspec.core.url_to_fs(root) if "://" in root else (None, root)
    paths = [
        match for match in sorted(set(_matches(filesystem, path, inside_root))) if not _is_hidden(match, path)
    ]
    files = []
    for path in paths:
        info = filesystem.info(path)
        uri = filesystem.unstrip_protocol(path)
        stamp = next((str(info[key]) for key in ("ETag", "etag", "LastModified", "mtime") if key in info), "")
        files.append(File(uri, _name(uri, root), int(info["size"] or 0), stamp))
    return files


def _rooted(pattern: str, root: str) -> str:
    """A pattern in which the part of the root is itself, whatever brackets it has."""
    base = root.rstrip("/") + "/"
    return glob.escape(base) + pattern[len(base) :] if pattern.startswith(base) else pattern


def _matches(filesystem: Any, path: str, root: str) -> list[str]:
    if filesystem.isfile(path):
        return [path]
    if filesystem.isdir(path):
        return list(filesystem.find(path))
    return [match for match in filesystem.glob(_rooted(path, root)) if filesystem.isfile(match)]


def _name(path: str, root: str) -> str:
    base = root.rstrip("/") + "/"
    return path[len(base) :] if path.startswith(base) else path


def _one_line(error: BaseException) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
