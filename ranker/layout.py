"""The run directory: names of files, and of the columns inside examples. Loads nothing heavy.

Every stage finds what another one wrote through these functions; `docs/architecture.md` has the contents.
"""

from __future__ import annotations

import re
from pathlib import Path

from ranker import storage
from ranker.errors import UserError

LABEL = "__label__"
"""Examples: the label, 0 or 1, or a soft one between (float list)."""
GRADE = "__grade__"
"""Examples: how good the row is, >= 0 (float list); only with `data.grade`."""
WEIGHT = "__weight__"
"""Examples: the sample weight, finite and >= 0 (float list); only with `data.weight`."""
EXPRESSIONS = {"label": LABEL, "grade": GRADE, "weight": WEIGHT}
"""Examples: the column that each expression of the configuration fills."""
REQUEST = "__request__"
"""Examples: the values of the `data.request` columns, joined by `REQUEST_SEPARATOR` (bytes list)."""
REQUEST_SEPARATOR = "\x1f"
BLOCK_ROWS = 1024
"""One `tf.train.Example` holds at most this many rows, as parallel lists."""
_VERSION = re.compile("[0-9]+")


def config_path(run: Path) -> Path:
    """The resolved configuration."""
    return run / "config.yaml"


def data_dir(run: Path) -> Path:
    """Everything `prepare` writes."""
    return run / "data"


def manifest_path(run: Path) -> Path:
    """Counts, fingerprints, schema and shards of the prepared data."""
    return data_dir(run) / "manifest.json"


def statistics_path(run: Path) -> Path:
    """Per-feature statistics of the training split."""
    return data_dir(run) / "statistics.json"


def vocabulary_dir(run: Path) -> Path:
    """The vocabularies of all categorical features."""
    return data_dir(run) / "vocabulary"


def vocabulary_path(run: Path, feature: str) -> Path:
    """A categorical feature's vocabulary: one token a line."""
    return vocabulary_dir(run) / f"{feature}.txt"


def probe_path(run: Path) -> Path:
    """The frozen requests the monitor sends."""
    return data_dir(run) / "probe.parquet"


def failed_rejected_dir(run: Path) -> Path:
    """The bad rows of a `prepare` that a mistake ended."""
    return run / "rejected"


def shard_name(index: int, count: int) -> str:
    """The file name of shard `index` of `count`, for example `part-00000-of-00004.tfrecord`."""
    return f"part-{index:05d}-of-{count:05d}.tfrecord"


def split_dir(run: Path, split: str) -> Path:
    """The shards of one split, `train` or `eval`."""
    return data_dir(run) / split


def shard_paths(run: Path, split: str) -> list[Path]:
    """The shards of one split that are there, in order."""
    return sorted(split_dir(run, split).glob("part-*.tfrecord"))


def replicas_dir(run: Path) -> Path:
    """All trained replicas: `<arm>/<replica>/<version>/`."""
    return run / "replicas"


def replica_dir(run: Path, arm: str, replica: int | str) -> Path:
    """One replica's versions: a TF Serving model base path."""
    return replicas_dir(run) / arm / str(replica)


def version_dir(run: Path, arm: str, replica: int | str, version: int) -> Path:
    """One version of a replica: a SavedModel."""
    return replica_dir(run, arm, replica) / str(version)


def model_versions(base: Path) -> dict[int, Path]:
    """The version directories of a TF Serving base path by number, the newest first; none where it is missing.

    In an object store a version counts from its last object on, `saved_model.pb`.
    """
    numbers = [name for name in storage.children(base) if _VERSION.fullmatch(name)]
    last = "saved_model.pb" if storage.is_remote(base) else ""
    directories = [
        path for path in (base / name for name in numbers) if (path / last).exists() and path.is_dir()
    ]
    return {int(path.name): path for path in sorted(directories, key=lambda path: -int(path.name))}


def newest_version(base: Path) -> int:
    """The highest version under a TF Serving base path, 0 where there is none."""
    return next(iter(model_versions(base)), 0)


def exported_version(path: Path, key: str) -> Path:
    """The SavedModel that a configuration names: a version's directory, or the newest of a model base path.

    Args:
        path: of either.
        key: the key of the configuration that names it.

    Raises:
        UserError: there is none.
    """
    if (path / "saved_model.pb").is_file():
        return path
    version = newest_version(path)
    if version == 0:
        raise UserError(
            f"{key}: must be a SavedModel or hold versions of one; train it first. Received: {path}"
        )
    return path / str(version)


def tensorboard_dir(run: Path, arm: str, replica: int | str) -> Path:
    """One replica's training in numbers, as event files: `tensorboard --logdir RUN/logs/tensorboard`."""
    return run / "logs" / "tensorboard" / f"{arm}-{replica}"


def evaluation_dir(run: Path) -> Path:
    """The comparison of all replicas."""
    return run / "evaluation"


def predictions_dir(run: Path) -> Path:
    """Every replica's scores of the eval split, as Parquet."""
    return evaluation_dir(run) / "predictions"


def report_path(run: Path) -> Path:
    """The comparison, for machines."""
    return evaluation_dir(run) / "report.json"


def gates_dir(run: Path) -> Path:
    """Every answer of the gate, a file a time."""
    return run / "gates"


def deployment_path(run: Path) -> Path:
    """What serves now, and where."""
    return run / "deployment.yaml"


def monitor_store_path(run: Path) -> Path:
    """The monitor's store, when it is a SQLite file."""
    return run / "monitor.db"
