"""Pages of the site that code decides, written while the site is built."""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

from mkdocs.structure.files import File, Files
from typer.testing import CliRunner


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages (an event of MkDocs)."""
    files.append(File.generated(config, "reference/command-line.md", content=command_line()))
    return files


def command_line() -> str:
    """The page of the command line: what every command's `--help` says."""
    from typer.cli import app, state

    state.app, state.module = None, "ranker.cli"
    arguments = ["ranker.cli", "utils", "docs", "--name", "ranker", "--title", "Command line"]
    with contextlib.redirect_stderr(io.StringIO()):
        printed = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    # Typer writes examples as paragraphs; they are commands.
    return re.sub(r"^Example: (ranker .*)$", r"Example: `\1`", printed, flags=re.MULTILINE).rstrip() + "\n"
