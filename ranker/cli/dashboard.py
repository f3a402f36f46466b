"""`ranker dashboard`: whether the replicas agree, in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ranker.cli.options import (
    Budget,
    Item,
    ModelName,
    ProbeFile,
    Replicas,
    present_options,
)
from ranker.errors import UserError
from ranker.storage import location


def dashboard(
    run_dir: Annotated[
        list[Path] | None,
        typer.Option(
            "--run-dir",
            parser=location,
            metavar="DIRECTORY",
            help="The run directory, repeat for more deployments; without it --store says where.",
        ),
    ] = None,
    store: Annotated[
        list[str] | None,
        typer.Option(
            envvar="RANKER_STORE",
            help="The monitor's store: a SQLite file or a database URL; default RUN/monitor.db. One for each deployment.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than loopback, --token is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8050,
    token: Annotated[
        str | None, typer.Option(envvar="RANKER_DASHBOARD_TOKEN", help="What callers must present.")
    ] = None,
    exemplars: Annotated[
        Path | None,
        typer.Option(
            parser=location,
            metavar="DIRECTORY",
            help="Where the monitor keeps example requests; default RUN/exemplars.",
        ),
    ] = None,
    replica: Replicas = None,
    deployment_file: Annotated[
        Path | None,
        typer.Option("--deployment", help="The replicas, a YAML file; for commands that ask one again."),
    ] = None,
    probe_file: ProbeFile = None,
    model_name: ModelName = None,
    item: Item = None,
    budget: Budget = None,
    gateway: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Metrics page of a gateway in front of the replicas; repeat for more, or one for each --run-dir.",
        ),
    ] = None,
    plotly_js: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A smaller Plotly bundle for browsers, such as plotly-basic.min.js of npm."
        ),
    ] = None,
    environment: Annotated[
        str, typer.Option(help="Shown beside the experiment's name, e.g. production.")
    ] = "",
    path_prefix: Annotated[
        str, typer.Option(metavar="/PATH", help="Path below which a proxy shows the dashboard.")
    ] = "",
    trust_header: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Request header in which the proxy in front says who calls."),
    ] = None,
) -> None:
    """Show whether the replicas agree, in a browser.

    Example: ranker dashboard --run-dir runs/ml --port 8050

    Of any model, without a run directory:

    Example: ranker dashboard --store monitor.db --deployment deployment.yaml --probe probe.parquet

    Several deployments, with a choice in the header, and what the gateways say:

    Example: ranker dashboard --run-dir runs/films --run-dir runs/books --gateway 127.0.0.1:8601 --gateway 127.0.0.1:8611
    """
    from serving.dashboard import DashboardSettings, run
    from serving.deployment import load
    from serving.run_directory import deployment_from, experiment_of
    from serving.watch import exemplars_of, monitor_settings, store_of

    run_dirs, stores = list(run_dir or ()), list(store or ())
    count = max(len(run_dirs), len(stores), 1)
    for option, values in (("--store", stores), ("--gateway", gateway or ())):
        if run_dirs and values and len(values) != count and not (count == 1 and option == "--gateway"):
            raise UserError(
                f"{option} must be given once for each --run-dir, or not at all. "
                f"Received: {len(values)} for {len(run_dirs)} run directories"
            )
    keys = present_options(item=item)
    if deployment_file is not None and (replica or model_name or keys):
        raise UserError("give --deployment, or --replica with its options, not both: the file has these keys")
    of_one = {
        "--replica": replica,
        "--deployment": deployment_file,
        "--probe": probe_file,
        "--model-name": model_name,
        "--item": item,
        "--exemplars": exemplars,
    }
    for option, value in of_one.items():
        if count > 1 and value:
            raise UserError(
                f"{option} must be given with one deployment alone. Received: {count} deployments"
            )
    titles = []
    for place in range(count):
        directory = run_dirs[place] if run_dirs else None
        title = experiment_of(directory).name if directory is not None else ""
        titles.append(title or (Path(stores[place]).stem if count > 1 else ""))
    # copies of one configuration have one name
    titles = [
        f"{title} ({run_dirs[place].resolve().name})" if run_dirs and titles.count(title) > 1 else title
        for place, title in enumerate(titles)
    ]
    deployments = []
    for place, title in enumerate(titles):
        directory = run_dirs[place] if run_dirs else None
        settings = monitor_settings(directory, budget=budget)
        deployment = None
        if deployment_file is not None:
            deployment = load(deployment_file)
        elif directory is not None or replica:
            deployment = deployment_from(directory, replica, model_name, **keys)
        if not title:
            title = deployment.model_name if deployment is not None else model_name or ""
        where = store_of(directory, stores[place] if stores else None)
        gateways = tuple(gateway or ())
        deployments.append(
            DashboardSettings(
                store=where,
                run=directory,
                probe=probe_file,
                exemplars=exemplars or exemplars_of(directory, where),
                deployment=deployment,
                gateways=gateways[place : place + 1] if count > 1 else gateways,
                plotly_js=plotly_js,
                name=" · ".join(text for text in (title, environment) if text),
                path_prefix=path_prefix.rstrip("/"),
                trust_header=trust_header,
                token=token,
                budget=settings.budget,
                k=settings.k,
                refresh=min(30.0, settings.interval),
            )
        )
    run(
        deployments,
        host=host,
        port=port,
        on_listen=lambda address: print(f"dashboard: {address}", flush=True),
    )
