"""The command line: the composition root, the only file that names pipelines and serving.

Each command is a thin shell; what it needs is imported when it runs, so that `--help` is quick and a dashboard's image
needs no TensorFlow.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ranker import __version__
from ranker.errors import UserError
from ranker.terminal import Reporter, chatter_to

app = typer.Typer(
    help="Ranking models whose replicas agree, and the proof of it in production.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

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
_CORES = os.cpu_count() or 1


def main() -> None:
    """Runs the command line; a user's mistake is one line on stderr and a non-zero exit."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(standalone_mode=True)
    except UserError as error:
        print(f"ranker: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("ranker: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our stdout has gone (`ranker ... | head`): nothing is wrong, and nobody listens.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _print(result: Any) -> None:
    print(json.dumps(result), flush=True)


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit()


@app.command()
def config(config: Config, overrides: Overrides = None) -> None:
    """Check an experiment and print it resolved, with every default.

    Example: ranker config --config configs/movielens-100k.yaml --set training.epochs=2
    """
    from ranker.config import dump, load

    print(dump(load(config, overrides or ())), end="")


@app.command()
def prepare(
    config: Config,
    run_dir: RunDir,
    overrides: Overrides = None,
    runner: Runner = "FnApiRunner",
    workers: Workers = 1,
    beam: BeamFlags = None,
    as_json: Json = False,
) -> None:
    """Turn logs into examples, vocabularies and statistics.

    Example: ranker prepare --config configs/movielens-100k.yaml --set data.root=ml-100k --run-dir runs/ml
    """
    _stages(["prepare"], config, run_dir, overrides, runner, workers, beam, as_json)


@app.command()
def train(
    run_dir: RunDir,
    config: Annotated[
        Path | None, typer.Option("--config", help="Instead of the run's own configuration.")
    ] = None,
    overrides: Overrides = None,
    runner: Runner = "FnApiRunner",
    workers: Workers = _CORES,
    beam: BeamFlags = None,
    as_json: Json = False,
) -> None:
    """Train what is not there yet of every arm's replicas, each in a process of its own.

    Example: ranker train --run-dir runs/ml --set replicas.count=5
    """
    _stages(["train"], config, run_dir, overrides, runner, workers, beam, as_json)


@app.command()
def evaluate(
    run_dir: RunDir,
    config: Annotated[
        Path | None, typer.Option("--config", help="Instead of the run's own configuration.")
    ] = None,
    overrides: Overrides = None,
    runner: Runner = "FnApiRunner",
    workers: Workers = 1,
    beam: BeamFlags = None,
    as_json: Json = False,
) -> None:
    """Score the eval split with all replicas and compare them: evaluation/report.json and report.html.

    Example: ranker evaluate --run-dir runs/ml
    """
    _stages(["evaluate"], config, run_dir, overrides, runner, workers, beam, as_json)


@app.command()
def run(
    config: Config,
    run_dir: RunDir,
    overrides: Overrides = None,
    runner: Runner = "FnApiRunner",
    workers: Workers = _CORES,
    beam: BeamFlags = None,
    as_json: Json = False,
) -> None:
    """Prepare, train and evaluate; a second run continues, and skips what has not changed.

    Example: ranker run --config configs/movielens-100k.yaml --set data.root=ml-100k --run-dir runs/ml
    """
    _stages(["prepare", "train", "evaluate"], config, run_dir, overrides, runner, workers, beam, as_json)


def _stages(
    stages: list[str],
    config: Path | None,
    run_dir: Path,
    overrides: list[str] | None,
    runner: str,
    workers: int,
    beam: list[str] | None,
    as_json: bool,
) -> None:
    from ranker import layout
    from ranker.config import load

    if config is None:
        config = layout.config_path(run_dir)
    experiment = load(config, overrides or ())

    from pipelines.run import run_stages
    from pipelines.runner import RunnerOptions
    from serving.run_directory import deploy

    reporter = Reporter(as_json)
    options = RunnerOptions(runner=runner, workers=workers, flags=tuple(beam or ()))
    with reporter.work(), chatter_to(run_dir / "logs" / "beam.log"):
        result = run_stages(stages, experiment, run_dir, options, reporter)
    if "evaluate" in stages:
        deploy(run_dir)
        reporter.line(f"report: {layout.evaluation_dir(run_dir) / 'report.html'}")
    if as_json:
        _print(result)


@app.command()
def serve(
    run_dir: RunDir,
    base_port: Annotated[int | None, typer.Option(help="First replica's port; the others follow.")] = None,
    flag: Annotated[
        list[str] | None, typer.Option(help="A further flag of python -m serving.server.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve the deployed arm's replicas over gRPC, one process each, until Ctrl-C.

    Example: ranker serve --run-dir runs/ml --base-port 8500 --flag=--rest_api_port=8501
    """
    import time

    from serving.processes import ReplicaServers
    from serving.run_directory import deploy

    reporter = Reporter(as_json)
    deployment = deploy(run_dir, base_port)
    with ReplicaServers(deployment, run_dir, ["--strict", *(flag or ())], reporter.line) as servers:
        servers.wait_available()
        for replica in deployment.replicas:
            reporter.line(f"replica {replica.name}: serving {deployment.model_name} at {replica.target}")
        while True:
            time.sleep(1.0)
            servers.tend()


@app.command()
def rank(
    target: Annotated[str, typer.Option(help="A replica, host:port.")],
    context: Annotated[list[str], typer.Option(metavar="NAME=VALUE", help="A context feature.")],
    candidate: Annotated[
        list[str], typer.Option(metavar="NAME=VALUE,...", help="An item: its features, separated by commas.")
    ],
    model_name: Annotated[str, typer.Option(help="The model's name.")] = "ranker",
    item: Annotated[str, typer.Option(help="The feature that identifies a candidate.")] = "item_id",
    k: Annotated[int | None, typer.Option(min=1, help="How many of the best to show.")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds to wait.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Ask one replica to rank one request's candidates. Features that are not given are missing.

    Example: ranker rank --target 127.0.0.1:8500 --context user_id=7 --candidate item_id=50 --candidate item_id=1
    """
    from serving.ask import ask, table

    ranking = ask(target, context, candidate, model_name=model_name, item=item, k=k, deadline=deadline)
    if as_json:
        scores = [float(score) for score in ranking.scores]
        _print({"item_ids": list(ranking.item_ids), "scores": scores, "version": ranking.version})
    else:
        print(table(ranking))


if __name__ == "__main__":
    main()
