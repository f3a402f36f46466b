"""The log as files, in the formats `prepare` reads."""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path

import numpy as np

from ranker.files import replacing
from ranker.synthetic.log import Log

CONFIGURATION = resources.files("ranker.synthetic") / "quickstart.yaml"
"""The experiment that fits the written files."""


def write(log: Log, directory: Path) -> None:
    """Writes `events.parquet`, `users.csv` and `items.csv`.

    Args:
        log: the log.
        directory: made if need be; files there are replaced.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    directory.mkdir(parents=True, exist_ok=True)
    with replacing(directory / "events.parquet") as temporary:
        pq.write_table(pa.table(log.events), temporary, compression="zstd")
    _write_csv(log.users, directory / "users.csv")
    _write_csv(log.items, directory / "items.csv")


def _write_csv(columns: dict[str, np.ndarray], path: Path) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
