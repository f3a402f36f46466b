"""What a killed training goes on from. Loads no TensorFlow."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ranker.files import replacing


def path(base: Path, key: str) -> Path:
    """Where the training of `key` (see `ranker.training.specs.content_key`) keeps its checkpoint."""
    return base / f".checkpoint-{key}.npz"


def save(checkpoint: Path, step: int, state: Mapping[str, np.ndarray]) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        checkpoint: the file; replaced if there.
        step: steps done.
        state: named arrays, of any shape.

    Raises:
        OSError: it cannot be written; nothing unfinished stays.
    """
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"/{name}": values for name, values in state.items()}
    with replacing(checkpoint) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, step=np.array(step), **arrays)


def restore(checkpoint: Path) -> tuple[int, dict[str, np.ndarray]] | None:
    """Reads the steps done and the state; None where there is no checkpoint, or a damaged one."""
    try:
        with np.load(checkpoint) as saved:
            state = {name[1:]: saved[name] for name in saved.files if name.startswith("/")}
            return int(saved["step"]), state
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        # The power failed in the middle, say: to start again costs time, to stop costs the replica.
        return None


def sweep(base: Path, keep: str | None = None) -> None:
    """Removes a replica's checkpoints of all keys but one: their trainings are over, or of another recipe."""
    for checkpoint in base.glob(".checkpoint-*.npz"):
        if keep is None or checkpoint != path(base, keep):
            checkpoint.unlink(missing_ok=True)
