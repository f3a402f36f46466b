"""Commands around the endpoint: serve, rank, gateway."""

from __future__ import annotations

from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ranker.cli.options import Json, OptionalRunDir, RunDir, emit
from ranker.errors import UserError
from ranker.json_text import json_text
from ranker.storage import is_remote
from ranker.terminal import Reporter

gateway = typer.Typer(rich_markup_mode=None)  # its help is the callback's, with examples


class Balance(str, Enum):
    """How calls are spread over the replicas."""

    LEAST = "least-request"
    ROUND_ROBIN = "round-robin"


def serve(
    run_dir: RunDir,
    base_port: Annotated[
        int | None, typer.Option(help="First replica's port from now on; the others follow.")
    ] = None,
    rest_base_port: Annotated[
        int | None, typer.Option(help="First replica's REST port; the others follow. Without it: no REST.")
    ] = None,
    flag: Annotated[
        list[str] | None, typer.Option(help="A further flag of python -m serving.server.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve the deployed arm's replicas over gRPC, one process each, until Ctrl-C.

    Each serves where RUN/deployment.yaml says, or where --base-port puts it, which changes that file.

    Example: ranker serve --run-dir runs/ml --base-port 8500 --rest-base-port 8510 --flag=--enable_batching
    """
    import time
    from dataclasses import replace

    from serving.processes import ReplicaServers
    from serving.run_directory import deploy

    reporter = Reporter(as_json)
    deployment = deploy(run_dir, base_port, reporter.line)
    # those without a path are served elsewhere
    deployment = replace(deployment, replicas=tuple(r for r in deployment.replicas if r.path))
    flags = ["--strict", *(flag or ())]
    with ReplicaServers(deployment, run_dir, flags, reporter.line, rest_base_port) as servers:
        servers.wait_available()
        for replica in deployment.replicas:
            reporter.line(f"replica {replica.name}: serving {deployment.model_name} at {replica.target}")
        while True:
            time.sleep(1.0)
            servers.restart_ended()


def rank(
    target: Annotated[
        str, typer.Option(help="A replica, HOST:PORT, or a URL (tfserving+http, v2+http, v2+grpc).")
    ],
    candidate: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=VALUE,...",
            help='An item: its features, separated by commas. One that holds a comma stands in quotes: "NAME=A, B".',
        ),
    ],
    context: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A context feature; missing if not given.")
    ] = None,
    model_name: Annotated[str, typer.Option(help="The model's name.")] = "ranker",
    item: Annotated[
        str | None,
        typer.Option(help="The feature that identifies a candidate; default: what the model says."),
    ] = None,
    signature: Annotated[str | None, typer.Option(help="The signature that scores rows.")] = None,
    output: Annotated[
        str | None, typer.Option(help="Its output with the scores, NAME or NAME[COLUMN].")
    ] = None,
    scale: Annotated[str | None, typer.Option(help="What scores are: probability, logit or order.")] = None,
    k: Annotated[int | None, typer.Option(min=1, help="How many of the best to show.")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds to wait.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Ask one replica to rank one request's candidates. Features that are not given are missing.

    Example: ranker rank --target 127.0.0.1:8500 --context user_id=7 --candidate item_id=50 --candidate item_id=1
    """
    from serving.ask import ask, coverage_of, table

    ranking = ask(
        target,
        context or [],
        candidate,
        model_name=model_name,
        item=item,
        signature=signature,
        output=output,
        scale=scale,
        k=k,
        deadline=deadline,
    )
    coverage = coverage_of(ranking, len(candidate))
    if as_json:
        scores = [float(score) for score in ranking.scores]
        answer = {"item_ids": list(ranking.item_ids), "scores": scores, "version": ranking.version}
        emit({**answer, "asked": coverage.asked, "answered": coverage.answered})
    else:
        print(table(ranking, coverage))


ReplicasFile = Annotated[
    Path | None,
    typer.Option(
        help="The file of replicas that Envoy watches; default RUN/gateway/replicas.json, without a run "
        "directory a temporary one."
    ),
]
ReplicaTargets = Annotated[
    list[str] | None, typer.Option("--replica", metavar="NAME=HOST:PORT", help="Instead: the replicas.")
]
ModelName = Annotated[
    str | None, typer.Option(help="The model's name, with --replica; default the run's, else `ranker`.")
]


@gateway.callback(invoke_without_command=True)
def _gateway(
    context: typer.Context,
    run_dir: OptionalRunDir = None,
    replica: ReplicaTargets = None,
    model_name: ModelName = None,
    listen: Annotated[str, typer.Option(help="Where callers connect, host:port.")] = "127.0.0.1:8600",
    metrics: Annotated[str, typer.Option(help="Where Prometheus scrapes, host:port.")] = "127.0.0.1:8601",
    sticky: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Metadata key whose value decides the replica (ring hash)."),
    ] = None,
    balance: Annotated[Balance, typer.Option(help="Without --sticky: how calls are spread.")] = Balance.LEAST,
    hedge: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="MS",
            help="Milliseconds after which an unanswered call is also asked of another replica; 0: never.",
        ),
    ] = 1000,
    mirror: Annotated[
        float, typer.Option(min=0, max=1, help="Share of Predict calls that the monitor receives too.")
    ] = 0.0,
    monitor: Annotated[
        str, typer.Option(help="Where they go, the monitor's --mirror-listen, host:port.")
    ] = "127.0.0.1:8602",
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM chain to answer callers with.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of --tls-certificate.")] = None,
    client_ca: Annotated[Path | None, typer.Option(help="Callers need a certificate signed by this.")] = None,
    replica_ca: Annotated[
        Path | None, typer.Option(help="Connect to replicas by TLS, trusting certificates signed by this.")
    ] = None,
    replica_certificate: Annotated[
        Path | None, typer.Option(help="PEM chain to show replicas that ask for one (mutual TLS).")
    ] = None,
    replica_key: Annotated[Path | None, typer.Option(help="PEM key of --replica-certificate.")] = None,
    replicas_file: ReplicasFile = None,
    envoy: Annotated[
        Path | None, typer.Option(help="Envoy's program; default: that of the [gateway] extra.")
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config",
            help="Print Envoy's configuration and stop. It watches --replicas-file, or without one has the "
            "replicas inside.",
        ),
    ] = False,
    drain_seconds: Annotated[
        float, typer.Option(min=0, max=3600, help="What calls under way have after SIGTERM.")
    ] = 10.0,
) -> None:
    """Run Envoy in front of the replicas: TF Serving's API on both sides.

    A replica added to deployment.yaml is used within seconds, without a restart.

    Example: ranker gateway --run-dir runs/ml --mirror 0.05
    """
    if context.invoked_subcommand:
        return
    from serving.client import Tls
    from serving.gateway import GatewayOptions, ServerTls, bootstrap, run
    from serving.run_directory import deployment_from

    if (tls_certificate is None) != (tls_key is None):
        raise UserError("--tls-certificate and --tls-key go together")
    if client_ca and not tls_certificate:
        raise UserError("--client-ca goes with --tls-certificate and --tls-key")
    if (replica_certificate is None) != (replica_key is None):
        raise UserError("--replica-certificate and --replica-key go together")
    tls = ServerTls(tls_certificate, tls_key, client_ca) if tls_certificate and tls_key else None
    if replica_certificate and not replica_ca:
        raise UserError(
            "--replica-certificate goes with --replica-ca, to check the replicas' certificates by"
        )
    options = GatewayOptions(
        listen=listen,
        metrics=metrics,
        sticky=sticky,
        balance=balance.value,
        hedge_ms=hedge,
        mirror=mirror,
        monitor=monitor,
        tls=tls,
        replica_tls=Tls(replica_ca, replica_certificate, replica_key) if replica_ca else None,
        drain_seconds=drain_seconds,
    )
    deployment = partial(deployment_from, run_dir, replica, model_name)
    if print_config:
        print(json_text(bootstrap(options, deployment(), replicas_file), indent=1))
        return
    run(options, deployment, _replicas_path(run_dir, replicas_file), envoy=envoy, announce=Reporter().line)


@gateway.command()
def drain(
    name: Annotated[str, typer.Argument(help="The replica.")],
    run_dir: OptionalRunDir = None,
    replicas_file: ReplicasFile = None,
    force: Annotated[bool, typer.Option("--force", help="Also the last healthy replica.")] = False,
) -> None:
    """Take a replica out: its calls under way finish, new ones go to the others, until `restore`.

    Example: ranker gateway drain smelu-1 --run-dir runs/ml
    """
    from serving.gateway import set_drained

    print(set_drained(_existing(run_dir, replicas_file), name, True, force=force))


@gateway.command()
def restore(
    name: Annotated[str, typer.Argument(help="The replica.")],
    run_dir: OptionalRunDir = None,
    replicas_file: ReplicasFile = None,
) -> None:
    """Take a drained replica back.

    Example: ranker gateway restore smelu-1 --run-dir runs/ml
    """
    from serving.gateway import set_drained

    print(set_drained(_existing(run_dir, replicas_file), name, False))


@gateway.command()
def replicas(
    replicas_file: Annotated[Path, typer.Option(help="The file to keep.")],
    run_dir: OptionalRunDir = None,
    replica: ReplicaTargets = None,
    once: Annotated[bool, typer.Option("--once", help="Write the file, then stop.")] = False,
) -> None:
    """Keep the file of replicas for an Envoy that runs elsewhere: deployment.yaml's, their names resolved.

    Example: ranker gateway replicas --run-dir runs/ml --replicas-file /gateway/replicas.json
    """
    from serving.gateway import follow
    from serving.run_directory import deployment_from

    follow(partial(deployment_from, run_dir, replica), replicas_file, once=once, announce=Reporter().line)


def _replicas_path(run_dir: Path | None, replicas_file: Path | None) -> Path | None:
    if replicas_file is not None or run_dir is None or is_remote(run_dir):
        return (
            replicas_file  # Envoy watches a file on this disk: without a run directory there, a temporary one
        )
    return run_dir / "gateway" / "replicas.json"


def _existing(run_dir: Path | None, replicas_file: Path | None) -> Path:
    path = _replicas_path(run_dir, replicas_file)
    if path is None:
        raise UserError("give --run-dir or --replicas-file, as the gateway has it")
    return path
