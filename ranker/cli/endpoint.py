"""Commands around the endpoint: serve, rank, gateway."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ranker.cli.options import Json, RunDir, emit
from ranker.errors import UserError
from ranker.terminal import Reporter


class Features(str, Enum):
    """What the gateway keeps of compared requests."""

    SLICES = "slices"
    ALL = "all"


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
        emit({"item_ids": list(ranking.item_ids), "scores": scores, "version": ranking.version})
    else:
        print(table(ranking))


def gateway(
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="The run directory, for its deployment.yaml.")
    ] = None,
    replica: Annotated[
        list[str] | None, typer.Option(metavar="NAME=HOST:PORT", help="Instead: the replicas.")
    ] = None,
    model_name: Annotated[str, typer.Option(help="The model's name, with --replica.")] = "ranker",
    listen: Annotated[str, typer.Option(help="Where callers connect, host:port.")] = "127.0.0.1:8600",
    metrics: Annotated[str, typer.Option(help="Where Prometheus scrapes, host:port.")] = "127.0.0.1:8601",
    mirror: Annotated[
        float, typer.Option(min=0, max=1, help="Share of requests the other replicas answer too.")
    ] = 0.01,
    spool: Annotated[Path | None, typer.Option(help="Where comparisons go; default RUN/mirrored.")] = None,
    sticky: Annotated[
        str | None, typer.Option(help="Metadata key that decides the replica; else round robin.")
    ] = None,
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
    features: Annotated[
        Features,
        typer.Option(
            help="Raw values kept of a compared request: those of monitor.slices, or all, to ask it again."
        ),
    ] = Features.SLICES,
) -> None:
    """Stand in front of the replicas: TF Serving's API on both sides, a sample of live traffic compared.

    Example: ranker gateway --run-dir runs/ml --mirror 0.05
    """
    from ranker import layout
    from serving.client import Tls
    from serving.gateway import GatewayOptions, MirrorOptions, ServerTls, run
    from serving.run_directory import deployment_from, experiment_of

    if (tls_certificate is None) != (tls_key is None):
        raise UserError("--tls-certificate and --tls-key go together")
    tls = ServerTls(tls_certificate, tls_key, client_ca) if tls_certificate and tls_key else None
    if (replica_certificate is None) != (replica_key is None):
        raise UserError("--replica-certificate and --replica-key go together")
    secure = replica_ca or replica_certificate
    upstream_tls = Tls(replica_ca, replica_certificate, replica_key) if secure else None

    deployment = deployment_from(run_dir, replica, model_name)
    where = spool or (run_dir / "mirrored" if run_dir else Path("mirrored"))
    configured = run_dir is not None and layout.config_path(run_dir).exists()
    kept = experiment_of(run_dir).monitor.slices if run_dir and configured else ()
    if features is Features.ALL:
        if not deployment.candidate:
            raise UserError("--features all goes with --run-dir, whose deployment.yaml names the features")
        kept = tuple(dict.fromkeys((*deployment.context, *deployment.candidate, *kept)))
    mirroring = MirrorOptions(rate=mirror, spool=where, features=kept)
    options = GatewayOptions(
        deployment, listen, metrics, sticky, tls=tls, upstream_tls=upstream_tls, mirror=mirroring
    )
    run(options, Reporter().line)
