"""The command line as tests ask it: does it know these words?"""

from __future__ import annotations

import typer

from ranker.cli import app


def parsed_by_the_command_line(arguments: list[str]) -> None:
    """Parses `ranker ...` without running it; raises on an unknown command or flag, or a missing one."""
    command = typer.main.get_command(app)
    while (commands := getattr(command, "commands", {})) and arguments and arguments[0] in commands:
        command, arguments = commands[arguments[0]], arguments[1:]
    command.make_context(command.name, list(arguments))
