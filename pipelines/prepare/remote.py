"""A run directory behind a URI: prepared on a local disk, then uploaded, the manifest last.

An object store cannot rename a directory. Its readers look for the manifest first, so data without one are not there.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.prepare.manifest import Manifest
from ranker.errors import UserError


class RemoteDirectory:
    """The data directory of a run at a URI that fsspec knows.

    Args:
        run: the run's URI, for example `s3://bucket/runs/one`.

    Raises:
        UserError: there is no filesystem for it.
    """

    def __init__(self, run: str):
        import fsspec

        self.uri = f"{run.rstrip('/')}/data"
        try:
            self._filesystem, self._path = fsspec.core.url_to_fs(self.uri)
        except (ImportError, ValueError) as error:
            raise UserError(f"{run}: cannot be used: {error}") from None

    def manifest(self) -> Manifest | None:
        """The manifest that is there; None without one."""
        try:
            return Manifest.parse(json.loads(self._filesystem.cat_file(f"{self._path}/manifest.json")))
        except (OSError, ValueError, TypeError):
            return None

    def upload(self, data: Path) -> None:
        """Puts a data directory in the place of what is there.

        Raises:
            UserError: the store cannot be written.
        """
        manifest = f"{self._path}/manifest.json"
        try:
            if self._filesystem.exists(manifest):
                self._filesystem.rm_file(manifest)
            if self._filesystem.exists(self._path):
                self._filesystem.rm(self._path, recursive=True)
            for path in sorted(
                path for path in data.rglob("*") if path.is_file() and path.name != "manifest.json"
            ):
                self._filesystem.put_file(str(path), f"{self._path}/{path.relative_to(data)}")
            self._filesystem.put_file(str(data / "manifest.json"), manifest)
        except OSError as error:
            raise UserError(f"{self.uri}: cannot be written: {' '.join(str(error).split())}") from None
