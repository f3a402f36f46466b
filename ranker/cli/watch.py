"""Commands that watch what serves: monitor, dashboard, gate."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ranker.cli.compare import read_scores
from ranker.cli.options import Json, OptionalRunDir, Store, emit, stderr_to_log
from ranker.errors import UserError
from ranker.storage import is_remote, location
from ranker.terminal import Reporter, stderr_to_file

if TYPE_CHECKING:
    from serving.targets.scoring import ModelCall

CALL_MISTAKE = 3
"""The gate's exit code where it could not be asked: 0, 1 and 2 are its answers."""
_USAGE_ERROR: Any = (
    typer.BadParameter.__base__
)  # Typer brings its own Click, and has no other public name for it


class GateCommand(TyperCommand):
    """A command whose mistakes of the call have an exit code of their own."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        """As of any command; options that are wrong or missing exit with `CALL_MISTAKE`."""
        try:
            return super().make_context(*args, **options)
        except _USAGE_ERROR as error:
            error.show()
            raise SystemExit(CALL_MISTAKE) from None
        except UserError as error:
            error.exit_code = CALL_MISTAKE
            raise

    def invoke(self, ctx: Any) -> Any:
        """As of any command; what the user got wrong exits with `CALL_MISTAKE`."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            error.exit_code = CALL_MISTAKE
            raise


monitor = typer.Typer(rich_markup_mode=None)  # its help is the callback's, with examples

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
    call = _without_none(
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


def _without_none(**options: str | None) -> dict[str, str]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _model_call(run_dir: Path | None, model_name: str | None, call: dict[str, str]) -> ModelCall:
    """How the gate's models are asked: as the run directory says, with what is given instead."""
    from serving.run_directory import experiment_of, identity
    from serving.targets.scoring import ModelCall

    options = call | _without_none(model_name=model_name)
    if run_dir is None:
        return ModelCall(**options)
    experiment = experiment_of(run_dir)
    defaults = {"model_name": experiment.serving.model_name, "item": experiment.item}
    if experiment.task == "regression":
        defaults["scale"] = identity(run_dir, experiment.deployed_arm, 0)["scale"]
    return ModelCall(**(defaults | options))


def _probe_path(run_dir: Path | None, probe_file: Path | None) -> Path:
    from ranker import layout

    if probe_file is not None:
        return probe_file
    if run_dir is None:
        raise UserError(
            "give --run-dir, or --probe, or files of scored rows with --request, --item and --score"
        )
    return layout.probe_path(run_dir)


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
    keys = _without_none(item=item)
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


def gate(
    candidate: Annotated[
        str,
        typer.Option(
            help="The new version: HOST:PORT, a URL, a SavedModel directory, or a file of scored rows."
        ),
    ],
    baseline: Annotated[list[str], typer.Option(help="What serves now, the same; repeat for more replicas.")],
    request: Annotated[
        list[str] | None,
        typer.Option(
            help="Of files: the column that says which rows are ranked together; repeat for several."
        ),
    ] = None,
    score: Annotated[str | None, typer.Option(help="Of files: the column of scores.")] = None,
    label: Annotated[str | None, typer.Option(help="Of files: the column of labels, 0 or 1.")] = None,
    run_dir: OptionalRunDir = None,
    probe_file: ProbeFile = None,
    model_name: ModelName = None,
    item: Item = None,
    signature: Signature = None,
    output: OutputName = None,
    scale: Scale = None,
    json_request: JsonRequest = None,
    json_scores: JsonScores = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="Measures that decide, of churn (top1_swap, ...) or quality (auc, logloss, ndcg@k); repeat for more."
        ),
    ] = None,
    margin: Annotated[float, typer.Option(min=0, help="How far above the baseline, as a share of it.")] = 0.1,
    allowance: Annotated[float, typer.Option(min=0, help="Churn that is intended, on top.")] = 0.0,
    quality_margin: Annotated[
        float, typer.Option(min=0, help="How much worse a quality measure may be, in its unit.")
    ] = 0.01,
    min_coverage: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the requests that each side must answer.")
    ] = 1.0,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Probe requests; default: all there are.")
    ] = None,
    deadline: Annotated[float, typer.Option(help="Seconds a request may take.")] = 5.0,
    junit: Annotated[Path | None, typer.Option(help="Also write a JUnit file.")] = None,
    as_json: Json = False,
) -> None:
    """May a refresh go live? Exit code 0 pass, 1 fail, 2 more requests needed, 3 a mistake in the call.

    It must answer every request, its churn against what serves must stay within what the serving replicas differ among
    themselves, and, where the requests have labels, its quality must not be worse.

    Example: ranker gate --run-dir runs/ml --candidate new:8500 --baseline a:8500 --baseline b:8500

    Any model, without a run directory:

    Example: ranker gate --probe probe.parquet --item sku --model-name m --candidate new:8500 --baseline a:8500

    By what models scored; several baselines say what is tolerated, one needs --allowance:

    Example: ranker gate --candidate new.parquet --baseline a.parquet --baseline b.parquet --request q --item sku --score p
    """
    from serving.monitor.judgement.gate import gate as compare_with_baselines
    from serving.monitor.judgement.gate import gate_scored
    from serving.monitor.judgement.gate_result import Options, save_result
    from serving.monitor.requests.probe import load_probe
    from serving.targets.scoring import ModelCall
    from serving.watch import monitor_settings

    call = _without_none(
        item=item,
        signature=signature,
        output=output,
        json_request=json_request,
        json_scores=json_scores,
    )
    of_files = bool(request or score or label) or any(
        ".tfrecord" in Path(source).name for source in (candidate, *baseline)
    )
    if of_files:
        further = {"--probe": probe_file, "--model-name": model_name, "--requests": requests} | {
            f"--{name.replace('_', '-')}": value for name, value in call.items() if name != "item"
        }
        wrong = [flag for flag, value in further.items() if value is not None]
        if wrong or item is None:
            rule = f"{wrong[0]} must not be given" if wrong else "--item must be given"
            raise UserError(f"{rule} with files of scored rows (--request, --score, --label)")
        model = ModelCall(item=item)
    else:
        model = _model_call(run_dir, model_name, call | _without_none(scale=scale))
    options = Options(
        measures=tuple(measure or ()),
        margin=margin,
        allowance=allowance,
        quality_margin=quality_margin,
        min_coverage=min_coverage,
        k=monitor_settings(run_dir).k,
        deadline=deadline,
        call=model,
    )
    # a gate may look at a run directory that it must not write to
    is_writable = run_dir is not None and (is_remote(run_dir) or os.access(run_dir, os.W_OK))
    # TensorFlow's, where models are read from disk
    with (
        stderr_to_log(run_dir, "gate.log")
        if run_dir is not None and is_writable
        else stderr_to_file(Path(os.devnull))
    ):
        if of_files:
            models = read_scores(
                [candidate, *baseline], request or [], model.item, [score] if score else [], label
            )
            result = gate_scored([candidate, *baseline], models, scale or "auto", options)
        else:
            probe = load_probe(_probe_path(run_dir, probe_file), model.item, requests)
            result = compare_with_baselines(candidate, baseline, probe, options)
    if run_dir is not None and not save_result(result, run_dir):
        Reporter(as_json).line(f"{run_dir} cannot be written: the dashboard will not show this answer")
    if junit is not None:
        try:
            junit.write_text(result.junit(), encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"--junit must be a file that can be written. Received: {junit} ({error.strerror})"
            ) from None
    if as_json:
        emit(result.as_dict())
    else:
        print(result.report())
    raise typer.Exit(result.exit_code)
