"""What served last, on disk: a refresh while the monitor was away is still measured against what it replaced."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ranker.files import replacing
from ranker.json_text import json_text
from serving.monitor.measure import Served
from serving.monitor.record import Subject
from serving.monitor.requests import ProbeSet


def save_served(path: Path, probe: ProbeSet, served: Mapping[str, Served]) -> None:
    """Writes each replica's newest version and its scores of the probe, by a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = [{"subject": one.subject, "labels": dict(one.labels)} for one in served.values()]
    arrays = {"told": np.array(json_text({"probe": probe.hash, "served": told}))}
    for place, one in enumerate(served.values()):
        arrays[f"scores{place}"], arrays[f"answered{place}"] = one.scores, one.answered
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_served(path: Path, probe: ProbeSet) -> dict[str, Served]:
    """What `save_served` wrote; nothing if there is no such file, it is damaged, or it is of another probe."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            told = json.loads(str(arrays["told"]))
            if told["probe"] != probe.hash:
                return {}
            found = [
                Served(
                    Subject(*one["subject"]),
                    one["labels"],
                    arrays[f"scores{place}"],
                    arrays[f"answered{place}"],
                )
                for place, one in enumerate(told["served"])
            ]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return {}
    return {one.subject.replica: one for one in found}
