"""`data/manifest.json`: what was prepared, from what, and whether it adds up."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ranker.json_text import json_text


@dataclass(frozen=True)
class Manifest:
    """The prepared data.

    Attributes:
        counts: `read`, `train`, `eval`, `rejected`; read = train + eval + rejected. With `data.negatives` also
            `sampled`, the negatives that were added: read + sampled = train + eval + rejected.
        positives: rows with a label above 0, by split.
        fingerprint: of the contents.
        inputs: of the configuration and files they were made from.
        schema: the key of each list in an Example, and its type (`bytes` or `float`).
        shards: by split: `name`, `rows`, `records`, `bytes`, `sha256`.
        unmatched: rows without a match, by side table.
        tables: `rows` and `rejected` by side table.
        reasons: rejected rows by reason.
        remarks: what is to be said about the rows, as `Remark.as_dict` gives it.
        damaged: files that could not be read to their end, and why.
        probe_requests: requests in `probe.parquet`.
    """

    counts: dict[str, int]
    positives: dict[str, int]
    fingerprint: str
    inputs: str
    schema: dict[str, str]
    shards: dict[str, list[dict[str, Any]]]
    unmatched: dict[str, int] = field(default_factory=dict)
    tables: dict[str, dict[str, int]] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    remarks: list[dict[str, Any]] = field(default_factory=list)
    damaged: list[dict[str, str]] = field(default_factory=list)
    probe_requests: int = 0

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        path.write_text(json_text(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Manifest | None:
        """Reads it back; None if it is not there or not one of this version."""
        try:
            return cls.parse(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    @classmethod
    def parse(cls, plain: dict[str, Any]) -> Manifest:
        """From plain JSON. Raises TypeError if keys are missing or unknown."""
        return cls(**plain)

    def is_whole(self, data: Path) -> bool:
        """Whether all shards are in the data directory with their sizes."""
        shards = [shard for split in self.shards.values() for shard in split]
        try:
            return all((data / shard["name"]).stat().st_size == shard["bytes"] for shard in shards)
        except OSError:
            return False
