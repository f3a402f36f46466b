"""Input files, on a local disk or behind a URI that fsspec knows (`s3://`, `gs://`, ...)."""

from __future__ import annotations

import glob
import io
import os
from dataclasses import dataclass
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
    # A path that exists is itself, whatever brackets its name has.
    paths = (
        [pattern] if os.path.exists(pattern) else sorted(glob.glob(_rooted(pattern, root), recursive=True))
    )
    files = []
    for path in paths:
        if os.path.isdir(path):
            if len(paths) == 1:
                raise UserError(f"{path}: is a directory; name its files, for example {path}/*")
            continue
        with open(path, "rb"):  # a file that may not be read fails here, before any work
            status = os.stat(path)
        files.append(File(path, _name(path, root), status.st_size, str(status.st_mtime_ns)))
    return files


def _find_remote(pattern: str, root: str) -> list[File]:
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(pattern)
    _, inside_root = fsspec.core.url_to_fs(root) if "://" in root else (None, root)
    paths = sorted(set(_matches(filesystem, path, inside_root)))
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
    if filesystem.exists(path):
        return [path]
    return [match for match in filesystem.glob(_rooted(path, root)) if filesystem.isfile(match)]


def _name(path: str, root: str) -> str:
    base = root.rstrip("/") + "/"
    return path[len(base) :] if path.startswith(base) else path


def _one_line(error: BaseException) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
