"""The command line: the composition root, the only place that names pipelines and serving.

Each command is a thin shell; what it needs is imported when it runs, so that `--help` is quick and a dashboard's image
needs no TensorFlow.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from ranker import __version__
from ranker.cli import compare, dashboard, endpoint, gate, monitor, pipeline, probe, quickstart, study
from ranker.errors import UserError

app = typer.Typer(
    help="Ranking models whose replicas agree, and the proof of it in production.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

EXTRAS = {
    **dict.fromkeys(("quickstart", "prepare", "train", "evaluate", "run", "config", "init", "study"), "all"),
    **dict.fromkeys(("monitor", "status", "gate"), "monitor"),
    **dict.fromkeys(("compare", "probe"), "compare"),
    **{name: name for name in ("dashboard", "gateway", "serve")},
    "rank": "client",
}
"""Command -> the extra that brings what it imports."""
_MISTAKES = {"status": 4, "gate": gate.CALL_MISTAKE, "compare": gate.CALL_MISTAKE}
"""Exit codes of commands for which 1 is an answer."""

_commands: tuple[Callable[..., None], ...] = (
    quickstart.quickstart,
    *(pipeline.prepare, pipeline.train, pipeline.evaluate, pipeline.run, pipeline.config, pipeline.init),
    *(endpoint.serve, endpoint.rank),
    *(monitor.status, dashboard.dashboard, compare.compare, probe.probe),
)
for _command in _commands:
    app.command()(_command)
app.command(cls=gate.GateCommand)(gate.gate)
app.add_typer(endpoint.gateway, name="gateway")
app.add_typer(monitor.monitor, name="monitor")
app.add_typer(study.app, name="study")


_STOPPED = 128 + signal.SIGINT
"""What Typer exits with after a KeyboardInterrupt."""


def main() -> None:
    """Runs the command line; a user's mistake is one line on stderr and a non-zero exit."""
    terminated: list[int] = []

    def terminate(number: int, _: object) -> None:
        # Every command cleans up as after Ctrl-C.
        terminated.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    try:
        app(standalone_mode=True)
    except UserError as error:
        print(f"ranker: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        command = next((word for word in sys.argv[1:] if word in EXTRAS), "")
        if not command or (error.name or "").partition(".")[0] in ("ranker", "pipelines", "serving"):
            raise
        needed = f"pip install 'steady-ranker[{EXTRAS[command]}]'"
        print(f"ranker {command} needs: {needed} (no module {error.name})", file=sys.stderr)
        sys.exit(_MISTAKES.get(command, 1))
    except SystemExit as end:
        if end.code != _STOPPED:
            raise
        print("ranker: stopped", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM if terminated else _STOPPED)
    except BrokenPipeError:
        # The reader of our stdout has gone (`ranker ... | head`): that is no failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit()
