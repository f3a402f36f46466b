"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ranker.files import temporary_directory
from ranker.json_text import json_text
from ranker.storage import is_remote, location, put
from ranker.terminal import stderr_to_file

Config = Annotated[Path, typer.Option("--config", help="The experiment, a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Overrides a key, e.g. training.epochs=2."),
]
RunDir = Annotated[
    Path,
    typer.Option(
        "--run-dir",
        parser=location,
        metavar="DIRECTORY",
        help="The run directory, or its URI (s3://, gs://).",
    ),
]
OptionalRunDir = Annotated[
    Path | None,
    typer.Option(
        "--run-dir",
        parser=location,
        metavar="DIRECTORY",
        help="The run directory, or its URI (s3://, gs://).",
    ),
]
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
Replicas = Annotated[
    list[str] | None,
    typer.Option(
        "--replica",
        metavar="NAME=TARGET",
        help="Instead of RUN/deployment.yaml: a name and HOST:PORT, or a URL.",
    ),
]
ProbeFile = Annotated[
    Path | None,
    typer.Option(
        "--probe",
        parser=location,
        metavar="FILE",
        help="Probe requests, of `ranker probe`; instead of the run directory's.",
    ),
]
ModelName = Annotated[str | None, typer.Option(help="The model's name on its servers.")]
Item = Annotated[str | None, typer.Option(help="The feature that identifies a candidate.")]
Signature = Annotated[str | None, typer.Option(help="The signature that scores rows.")]
OutputName = Annotated[str | None, typer.Option(help="Its output with the scores, NAME or NAME[COLUMN].")]
Scale = Annotated[
    str | None, typer.Option(help="What scores are: probability, logit, range:LOW:HIGH or order.")
]
JsonRequest = Annotated[
    str | None,
    typer.Option(metavar="JSON", help='Of json+http: the request; default {"instances": "$rows"}.'),
]
JsonScores = Annotated[
    str | None, typer.Option(metavar="JMESPATH", help="Of json+http: where the answer has the scores.")
]
Budget = Annotated[
    list[str] | None,
    typer.Option(metavar="MEASURE=LIMIT", help="What a measure may be; repeat for more."),
]


@contextmanager
def stderr_to_log(run_dir: Path, name: str) -> Iterator[None]:
    """While the block runs, appends stderr to `RUN/logs/NAME`; in an object store the log is put there at the end."""
    path = run_dir / "logs" / name
    if not is_remote(run_dir):
        with stderr_to_file(path):
            yield
        return
    with temporary_directory() as directory:
        try:
            with stderr_to_file(directory / name):
                yield
        finally:
            put(directory / name, path)


def emit(result: Any) -> None:
    """Prints a result for a script: one line of JSON on stdout."""
    print(json_text(result), flush=True)


def present_options(**options: str | None) -> dict[str, str]:
    """The options that have a value."""
    return {name: value for name, value in options.items() if value is not None}
