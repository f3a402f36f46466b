"""Object stores: a run directory may be a URI, and this is the one place that knows what that changes.

A path of a run directory is a `pathlib.Path`. For a URI (`s3://`, `gs://`, `memory://`) universal-pathlib gives a path with
the same methods, over fsspec. Small files are read and written through both in the same way. Two things differ:

- A store has no rename. A tree of objects is complete once its last object, the `marker`, is there.
- TensorFlow, Arrow's memory maps and SQLite need files on a disk. So trees are copied to and from local directories.

Loads no package of a store before there is a URI.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from ranker.errors import UserError

_SHOWN = 200


def location(text: str | Path) -> Path:
    """A path for the text of one, or for a URI the path of an object store; its type stands for either.

    Raises:
        UserError: the package for this kind of store is not installed, or the store does not answer.
    """
    if "://" not in str(text):
        return Path(text)
    uri = str(text).rstrip("/")
    try:
        from upath import UPath

        # Others write too: what a store had at the last look says nothing.
        options: dict[str, Any] = {"use_listings_cache": False}
        if uri.startswith(("file://", "local://")):
            options["auto_mkdir"] = True
        path = UPath(uri, **options)
        filesystem = path.fs
    except (ImportError, ValueError) as error:
        raise UserError(f"{text}: cannot be used: {' '.join(str(error).split())}") from None
    with explained(path):
        filesystem.exists(path.path)
    return cast(Path, path)


def is_remote(path: Path) -> bool:
    """Whether a path is one of an object store."""
    return not isinstance(path, Path)


@contextmanager
def explained(path: object) -> Iterator[None]:
    """Turns what a store says when it refuses, or cannot be reached, into a UserError that names `path`.

    Raises:
        FileNotFoundError: an object is not there: callers know what that means.
        UserError: everything else.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError, UserError):
        raise
    except Exception as error:  # noqa: BLE001  (every store's package has exceptions of its own)
        reason = " ".join(str(error).split())[:_SHOWN] or type(error).__name__
        raise UserError(f"{path}: the store does not do it: {reason}") from None


def children(directory: Path) -> list[str]:
    """Names of what is directly below a directory, sorted; none where it is missing."""
    if not is_remote(directory):
        return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
    filesystem, inside = _of(directory)
    with explained(directory):
        try:
            entries = filesystem.ls(inside, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
    names = {
        posixpath.basename(entry.rstrip("/")) for entry in entries if entry.strip("/") != inside.strip("/")
    }
    return sorted(names)


def objects(directory: Path) -> list[str]:
    """Names, relative to a directory of a store, of all objects at any depth, sorted; none where it is missing."""
    return list(sizes(directory))


def sizes(directory: Path) -> dict[str, int]:
    """As `objects`, with the bytes of each."""
    filesystem, inside = _of(directory)
    with explained(directory):
        try:
            entries = filesystem.find(inside, detail=True)
        except FileNotFoundError:
            return {}
    return {posixpath.relpath(path, inside): int(entries[path]["size"] or 0) for path in sorted(entries)}


def put(file: Path, target: Path) -> None:
    """Uploads a local file to one object, which is there whole or not at all.

    Raises:
        UserError: the store cannot be written.
    """
    filesystem, inside = _of(target)
    with explained(target):
        filesystem.put_file(str(file), inside)


def put_bytes(target: Path, content: bytes) -> None:
    """Writes one object.

    Raises:
        UserError: the store cannot be written.
    """
    filesystem, inside = _of(target)
    with explained(target):
        filesystem.pipe_file(inside, content)


def create(target: Path, content: bytes) -> bool:
    """Writes one object unless it is there; False if it is. Of several writers at once, one is told True.

    A store without conditional writes (`If-None-Match`) tells all of them True.

    Raises:
        UserError: the store cannot be written.
    """
    filesystem, inside = _of(target)
    with explained(target):
        try:
            filesystem.pipe_file(inside, content, mode="create")
        except FileExistsError:
            return False
    return True


def put_tree(directory: Path, target: Path, marker: str, *, extra: Mapping[str, Path] | None = None) -> None:
    """Puts a local directory in the place of a tree of objects. Its marker goes first and comes last.

    A reader that finds the marker finds everything; a writer that is killed leaves a tree without one.

    Args:
        directory: local.
        target: of a store; what it held goes.
        marker: the name, relative to `directory`, of the file that says that the tree is there.
        extra: further names -> objects of the same store, which are copied inside it.

    Raises:
        UserError: the store cannot be written.
    """
    remove(target, marker)
    add_tree(directory, target, marker, extra=extra)


def add_tree(directory: Path, target: Path, marker: str, *, extra: Mapping[str, Path] | None = None) -> None:
    """As `put_tree`, to a place where nothing is."""
    filesystem, inside = _of(target)
    names = [name for name in local_files(directory) if name != marker]
    with explained(target):
        if names:
            filesystem.put([str(directory / name) for name in names], [f"{inside}/{name}" for name in names])
        for name, source in (extra or {}).items():
            filesystem.copy(_of(source)[1], f"{inside}/{name}")
        filesystem.put_file(str(directory / marker), f"{inside}/{marker}")


def remove(target: Path, marker: str | None = None) -> None:
    """Removes a tree of objects, its marker first. Nothing there is no mistake.

    Raises:
        UserError: the store cannot be written.
    """
    filesystem, inside = _of(target)
    with explained(target):
        if marker is not None and filesystem.exists(f"{inside}/{marker}"):
            filesystem.rm_file(f"{inside}/{marker}")
        if filesystem.exists(inside):
            filesystem.rm(inside, recursive=True)


def fetch(source: Path, target: Path) -> None:
    """Downloads one object to a local file.

    Raises:
        FileNotFoundError: it is not there.
        UserError: the store cannot be read.
    """
    filesystem, inside = _of(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    with explained(source):
        filesystem.get_file(inside, str(target))


def fetch_tree(source: Path, target: Path, chosen: Callable[[str], bool] = lambda name: True) -> list[str]:
    """Downloads a tree of objects into a local directory.

    Args:
        source: of a store.
        target: made if it is not there.
        chosen: which of the names, relative to `source`.

    Returns:
        The names.

    Raises:
        FileNotFoundError: an object went away in between.
        UserError: the store cannot be read.
    """
    filesystem, inside = _of(source)
    names = list(filter(chosen, objects(source)))
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
    if names:
        with explained(source):
            filesystem.get([f"{inside}/{name}" for name in names], [str(target / name) for name in names])
    return names


def local_files(directory: Path) -> list[str]:
    """Names of all files below a local directory, relative to it, sorted."""
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def modified(paths: Iterable[Path]) -> float:
    """When the newest of some objects was written, seconds since 1970; 0 without any.

    Raises:
        UserError: the store cannot be read.
    """
    newest = 0.0
    for path in paths:
        filesystem, inside = _of(path)
        with explained(path):
            newest = max(newest, filesystem.modified(inside).timestamp())
    return newest


def _of(path: Path) -> tuple[Any, str]:
    remote = cast(Any, path)
    return remote.fs, remote.path
