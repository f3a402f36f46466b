"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ranker.json_text import json_text

Config = Annotated[Path, typer.Option("--config", help="The experiment, a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Overrides a key, e.g. training.epochs=2."),
]
RunDir = Annotated[Path, typer.Option("--run-dir", help="The run directory.")]
Json = Annotated[bool, typer.Option("--json", help="Results on stdout and progress on stderr as JSON.")]
Runner = Annotated[str, typer.Option(help="Beam runner: FnApiRunner (this machine) or FlinkRunner.")]
Workers = Annotated[int, typer.Option(min=1, help="Worker processes (FnApiRunner).")]
BeamFlags = Annotated[
    list[str] | None, typer.Option("--beam", help="A further Beam flag, e.g. --beam=--parallelism=2.")
]
Store = Annotated[
    str | None,
    typer.Option(
        envvar="RANKER_STORE",
        help="The monitor's store: a SQLite file or a database URL; default RUN/monitor.db.",
    ),
]
CORES = os.cpu_count() or 1


def emit(result: Any) -> None:
    """Prints a result for a script: one line of JSON on stdout."""
    print(json_text(result), flush=True)
