"""`ranker quickstart`: the whole way on a generated log, from clicks to a dashboard."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ranker.cli.options import CORES, Json, Overrides, emit
from ranker.terminal import Reporter, stderr_to_file


def quickstart(
    run_dir: Annotated[Path, typer.Option("--run-dir", help="The run directory.")] = Path("runs/quickstart"),
    overrides: Overrides = None,
    requests: Annotated[
        int, typer.Option(min=500, help="Requests in the generated log, 20 candidates each.")
    ] = 15_000,
    base_port: Annotated[int | None, typer.Option(help="First replica's port; the others follow.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The dashboard's port.")] = 8050,
    once: Annotated[bool, typer.Option("--once", help="Stop after the first measurement.")] = False,
    as_json: Json = False,
) -> None:
    """Generate a log with known truth, train, serve, measure, and open the dashboard until Ctrl-C.

    Example: ranker quickstart --once --json
    """
    from pipelines.run import run_stages
    from pipelines.runner import RunnerOptions
    from ranker import layout
    from ranker.config import load
    from ranker.synthetic import CONFIGURATION, generate, write
    from serving.monitor.alerts.rules import load_rules
    from serving.monitor.measurement.exemplars import Exemplars
    from serving.monitor.run import run as monitor
    from serving.processes import ReplicaServers
    from serving.run_directory import deploy
    from serving.watch import monitor_settings, probe_of, sentence, store_of

    reporter = Reporter(as_json)
    log = run_dir / "log"
    marker = log / f".{requests}-requests"
    if not marker.exists():
        reporter.line(f"generating a log of {requests:,} requests with known truth in {log}")
        write(generate(requests), log)
        marker.touch()
    experiment = load(str(CONFIGURATION), [f"data.root={log}", *(overrides or ())])
    with reporter.work(), stderr_to_file(run_dir / "logs" / "beam.log"):
        run_stages(
            ["prepare", "train", "evaluate"],
            experiment,
            run_dir,
            RunnerOptions(workers=min(2, CORES)),
            reporter,
        )
    report = _report(layout.report_path(run_dir))
    deployment = deploy(run_dir, base_port)
    settings = monitor_settings(run_dir)
    with ExitStack() as stack:
        servers = stack.enter_context(ReplicaServers(deployment, run_dir, report=reporter.line))
        servers.wait_available()
        reporter.line(
            f"serving {len(deployment.replicas)} replicas: {', '.join(r.target for r in deployment.replicas)}"
        )
        probe = probe_of(run_dir, deployment, settings)
        store = store_of(run_dir, None)
        watch = partial(
            monitor,
            deployment,
            settings,
            probe,
            store,
            rules=load_rules(),
            exemplars=Exemplars(run_dir / "exemplars"),
        )
        summary = watch(once=True)
        assert summary is not None
        reporter.line(sentence(summary, settings))
        if as_json:
            emit({**summary.as_dict(), "replicas": len(summary.replicas), "arms": _arms(report)})
        else:
            Console().print(_table(report))
        if once:
            return
        stop = threading.Event()
        watching = threading.Thread(target=watch, kwargs={"stop": stop}, daemon=True)
        watching.start()
        stack.callback(watching.join, 30)
        stack.callback(stop.set)
        dashboard = subprocess.Popen(
            [sys.executable, "-m", "ranker.cli", "dashboard", "--run-dir", str(run_dir), "--port", str(port)],
            stdin=subprocess.DEVNULL,
        )
        stack.callback(_end, dashboard)
        reporter.line(
            f"dashboard: http://127.0.0.1:{port}/   report: {layout.evaluation_dir(run_dir) / 'report.html'}"
        )
        reporter.line("Ctrl-C stops everything")
        while dashboard.poll() is None:
            time.sleep(1.0)
            servers.restart_ended()
        raise typer.Exit(dashboard.returncode)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _report(path: Path) -> dict[str, Any]:
    import json

    return json.loads(path.read_text(encoding="utf-8"))


def _arms(report: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {
            "auc": arm["quality"]["auc"],
            **{m: arm["divergence"].get(m) for m in ("rpd_sym", "top1_swap")},
        }
        for name, arm in report["arms"].items()
    }


def _table(report: dict[str, Any]) -> Table:
    table = Table(title="Replicas of one recipe, trained on the same data", title_justify="left")
    for heading in ("arm", "AUC", "relative PD (rpd_sym)", "top-1 swap (top1_swap)"):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    for name, arm in _arms(report).items():
        cells = [f"{arm['auc']['mean']:.4f} ± {arm['auc']['std']:.4f}"]
        for measure in ("rpd_sym", "top1_swap"):
            estimate = arm[measure]
            cells.append(
                f"{estimate['value']:.4f} ({estimate['low']:.4f}-{estimate['high']:.4f})"
                if estimate
                else "one replica"
            )
        table.add_row(name, *cells)
    return table
