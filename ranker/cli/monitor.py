"""Commands that say whether the replicas that serve agree: monitor, with its replay, and status."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ranker.cli.options import (
    Budget,
    Item,
    Json,
    JsonRequest,
    JsonScores,
    ModelName,
    OptionalRunDir,
    OutputName,
    ProbeFile,
    Replicas,
    Scale,
    Signature,
    Store,
    emit,
    present_options,
)
from ranker.errors import UserError
from ranker.storage import location
from ranker.terminal import Reporter

monitor = typer.Typer(rich_markup_mode=None)  # its help is the callback's, with examples

Rules = Annotated[
    Path | None, typer.Option(help="Alert rules, a YAML file; default: those that come with us.")
]


@monitor.callback(invoke_without_command=True)
def _monitor(
    context: typer.Context,
    run_dir: OptionalRunDir = None,
    replica: Replicas = None,
    deployment_file: Annotated[
        Path | None, typer.Option("--deployment", help="The replicas, a YAML file; instead of --replica.")
    ] = None,
    probe_file: ProbeFile = None,
    model_name: ModelName = None,
    item: Item = None,
    signature: Signature = None,
    output: OutputName = None,
    scale: Scale = None,
    json_request: JsonRequest = None,
    json_scores: JsonScores = None,
    budget: Budget = None,
    once: Annotated[bool, typer.Option("--once", help="One round, then stop.")] = False,
    store: Store = None,
    interval: Annotated[str | None, typer.Option(help="Between rounds, e.g. 60s.")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Probe requests a round.")] = None,
    mirror_listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Take mirrored Predict calls here and measure a sample of them."
        ),
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="Where Prometheus scrapes, host:port.")] = None,
    rules: Rules = None,
    alertmanager: Annotated[
        str | None, typer.Option(metavar="URL", help="Also send alerts to this Alertmanager.")
    ] = None,
    dashboard_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of the dashboard, for links in alerts.")
    ] = None,
    runbook_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Page that explains alerts; a rule's name is its anchor."),
    ] = None,
    exemplars: Annotated[
        Path | None,
        typer.Option(
            parser=location,
            metavar="DIRECTORY",
            help="Where example requests are kept; default RUN/exemplars.",
        ),
    ] = None,
    hash_ids: Annotated[
        str | None, typer.Option(metavar="SALT", help="Keep example requests with hashed ids.")
    ] = None,
    replica_ca: Annotated[
        Path | None, typer.Option(help="Connect to replicas by TLS, trusting certificates signed by this.")
    ] = None,
    replica_certificate: Annotated[
        Path | None, typer.Option(help="PEM chain to show replicas that ask for one (mutual TLS).")
    ] = None,
    replica_key: Annotated[Path | None, typer.Option(help="PEM key of --replica-certificate.")] = None,
    as_json: Json = False,
) -> None:
    """Ask every replica the same requests, every interval, and measure how far they agree.

    Example: ranker monitor --run-dir runs/ml --once

    Example: ranker monitor --run-dir runs/ml --mirror-listen 127.0.0.1:8602 --metrics 127.0.0.1:8603

    Any model, without a run directory; the store is ./monitor.db, example requests are in ./exemplars:

    Example: ranker monitor --probe probe.parquet --item sku --model-name m --replica a=host1:8500 --replica b=host2:8500
    """
    if context.invoked_subcommand:
        return
    if run_dir is None and probe_file is None:
        raise UserError("give --run-dir, or --probe with --replica or --deployment")
    call = present_options(
        item=item,
        signature=signature,
        output=output,
        scale=scale,
        json_request=json_request,
        json_scores=json_scores,
    )
    if deployment_file is not None and (replica or model_name or call):
        raise UserError("give --deployment, or --replica with its options, not both: the file has these keys")
    if once and mirror_listen is not None:
        raise UserError("give --once or --mirror-listen, not both: one round has no live calls to measure")
    from serving.client import Tls
    from serving.deployment import load
    from serving.monitor.alerts.messages import Origin
    from serving.monitor.alerts.rules import load_rules, with_alertmanager
    from serving.monitor.judgement.verdict import ORDER_ONLY
    from serving.monitor.measurement.exemplars import NOT_KEPT, Exemplars
    from serving.monitor.run import run, stop_on_signals
    from serving.run_directory import deployment_from
    from serving.watch import exemplars_of, monitor_settings, probe_of, sentence, store_of

    reporter = Reporter(as_json)
    settings = monitor_settings(run_dir, interval=interval, requests=requests, budget=budget)
    if deployment_file is not None:
        deployment = load(deployment_file)
    else:
        deployment = deployment_from(run_dir, replica, model_name, **call)
    probe = probe_of(run_dir, deployment, settings, probe_file)
    where = store_of(run_dir, store)
    examples = Exemplars(exemplars or exemplars_of(run_dir, where), salt=hash_ids)
    if not examples.can_write:
        reporter.line(NOT_KEPT)
    if deployment.scale == "order":
        reporter.line(ORDER_ONLY)
    with stop_on_signals() as stop:
        summary = run(
            deployment,
            settings,
            probe,
            where,
            once=once,
            rules=with_alertmanager(load_rules(rules), alertmanager),
            origin=Origin(deployment.model_name, dashboard_url or "", runbook_url or ""),
            exemplars=examples,
            mirror_listen=mirror_listen,
            metrics=metrics,
            tls=Tls(replica_ca, replica_certificate, replica_key)
            if replica_ca or replica_certificate
            else None,
            stop=stop,
            on_round=lambda done: reporter.line(sentence(done, settings)),
            on_mirror=lambda port: reporter.line(f"mirrored calls are taken on port {port}"),
        )
    if as_json and summary is not None:
        emit(summary.as_dict())
    if once and summary is not None and len(summary.replicas) < len(deployment.replicas):
        raise typer.Exit(1)


@monitor.command()
def replay(
    run_dir: OptionalRunDir = None,
    rules: Rules = None,
    store: Store = None,
    budget: Budget = None,
    hours: Annotated[float, typer.Option(min=0.01, help="How far back from the newest round.")] = 24.0,
    interval: Annotated[str, typer.Option(help="Between looks, e.g. 60s.")] = "60s",
    as_json: Json = False,
) -> None:
    """Show which alerts some rules would have raised on the stored history; changes nothing.

    Example: ranker monitor replay --run-dir runs/ml --rules rules.yaml --hours 48
    """
    from ranker.config.deployment import seconds
    from serving.monitor.alerts.replay import replay as look_back
    from serving.monitor.alerts.rules import load_rules
    from serving.monitor.store import open_store
    from serving.monitor.store.query import Selection, freshness
    from serving.watch import monitor_settings, store_of

    opened = open_store(store_of(run_dir, store), create=False)
    try:
        end = freshness(opened, Selection(time.time())).time
        if end is None:
            raise UserError("the store has no rounds yet; run `ranker monitor` first")
        limits = monitor_settings(run_dir, budget=budget).budget
        events = look_back(opened, load_rules(rules), limits, end - 3600 * hours, end, seconds(interval))
    finally:
        opened.close()
    if as_json:
        emit([{"time": event.time, **vars(event.alert)} for event in events])
        return
    for event in events:
        print(
            f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(event.time))}  {event.alert.state:8}  {event.alert.summary}"
        )
    print(f"{len(events)} changes of alerts")


def status(
    run_dir: OptionalRunDir = None,
    store: Store = None,
    stream: Annotated[str, typer.Option(help="probe, or live: requests of real traffic.")] = "probe",
    budget: Budget = None,
    as_json: Json = False,
) -> None:
    """Say in one sentence whether the replicas agree, as the dashboard does.

    Exit code 0 STABLE, 1 UNSTABLE, 2 NOT ENOUGH DATA, 3 STALE, 4 for a mistake, such as a store that does not exist.

    Example: ranker status --run-dir runs/ml
    """
    from serving.monitor.judgement.status import read_status, summary_of
    from serving.monitor.plain import plain
    from serving.monitor.store import open_store
    from serving.monitor.store.selection import Selection
    from serving.watch import monitor_settings, store_of

    try:
        if stream not in ("probe", "live"):
            raise UserError(f"--stream must be probe or live. Received: {stream!r}")
        settings = monitor_settings(run_dir, budget=budget)
        opened = open_store(store_of(run_dir, store), create=False)
    except UserError as error:
        error.exit_code = 4
        raise
    try:
        answer = read_status(opened, settings.budget, Selection(time.time(), stream=stream), k=settings.k)
    finally:
        opened.close()
    if as_json:
        emit(plain(summary_of(answer)))
    else:
        print(answer.verdict.line)
        for note in answer.verdict.notes:
            if note not in answer.verdict.sentence:
                print(note)
    raise typer.Exit(answer.verdict.exit_code)
