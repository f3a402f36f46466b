"""Saves what each replica served last, so that a refresh during the monitor's absence is measured when it is back."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ranker.files import replacing
from ranker.json_text import json_text
from serving.monitor.measurement.measure import Served
from serving.monitor.measurement.record import Subject
from serving.monitor.requests.probe import ProbeSet

_HEADER = "told"  # files of older monitors have it under this name


def save_served(path: Path, probe: ProbeSet, served: Mapping[str, Served]) -> None:
    """Writes each replica's newest version and its scores of the probe, by a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replicas = [{"subject": state.subject, "labels": dict(state.labels)} for state in served.values()]
    arrays = {_HEADER: np.array(json_text({"probe": probe.hash, "served": replicas}))}
    for place, state in enumerate(served.values()):
        arrays[f"scores{place}"], arrays[f"answered{place}"] = state.scores, state.answered
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_served(path: Path, probe: ProbeSet) -> dict[str, Served]:
    """Reads what `save_served` wrote; empty if there is no such file, it is damaged, or it is of another probe."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            header = json.loads(str(arrays[_HEADER]))
            if header["probe"] != probe.hash:
                return {}
            served = [
                Served(
                    Subject(*replica["subject"]),
                    replica["labels"],
                    arrays[f"scores{place}"],
                    arrays[f"answered{place}"],
                )
                for place, replica in enumerate(header["served"])
            ]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return {}
    return {state.subject.replica: state for state in served}
