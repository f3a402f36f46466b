"""Puts a trained replica where TF Serving finds it, whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ranker import layout
from ranker.files import sync_tree, unfinished
from ranker.json_text import json_text


def finished(base: Path, key: str) -> int | None:
    """The newest version if it was made from `key`, else None."""
    version = layout.newest_version(base)
    try:
        training = json.loads((base / str(version) / "training.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return version if training.get("key") == key else None


def publish(base: Path, key: str, write: Callable[[Path, int], dict[str, Any]]) -> int:
    """Writes the next version under a temporary name and renames it into place.

    Args:
        base: the replica's model base path.
        key: the fingerprint of everything the replica is made from.
        write: called with the temporary directory (not there yet) and the version; writes the SavedModel and
            returns what `training.json` says beside the key.

    Returns:
        The version. If another process has published the same key meanwhile, its version, and ours is
        thrown away.
    """
    base.mkdir(parents=True, exist_ok=True)
    # TF Serving reads children whose names are numbers; everything else it ignores.
    temporary = unfinished(base)
    try:
        while True:
            published = finished(base, key)
            if published is not None:
                return published
            version = layout.newest_version(base) + 1
            training = write(temporary, version)
            text = json_text({"key": key, **training}, indent=1, sort_keys=True) + "\n"
            (temporary / "training.json").write_text(text, encoding="utf-8")
            sync_tree(temporary)
            try:
                temporary.rename(base / str(version))
            except OSError:
                # Somebody took the number in between: look again who it was.
                shutil.rmtree(temporary)
                continue
            return version
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
