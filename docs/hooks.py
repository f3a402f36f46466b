"""Pages of the site that code decides, written while the site is built."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from typer.testing import CliRunner


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages (an event of MkDocs)."""
    files.append(File.generated(config, "reference/command-line.md", content=command_line()))
    files.append(File.generated(config, "reference/http.md", content=http()))
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


SERVER_ROUTES = {
    "POST /v1/models/{model}:predict": "Predict: rows (`instances`) or columns (`inputs`), answered with `predictions` or `outputs`",
    "POST /v1/models/{model}:classify": "Classify: `examples` and an optional `context`, answered with labels and scores",
    "POST /v1/models/{model}:regress": "Regress: `examples` and an optional `context`, answered with a number each",
    "GET /v1/models/{model}": "The versions and their states",
    "GET /v1/models/{model}/metadata": "The signatures",
}
"""The embedded server's routes, which are TF Serving's, with what they do."""


def http() -> str:
    """The page of what answers over HTTP: the dashboard by its OpenAPI document, and the server's REST API."""
    from serving.dashboard import DashboardSettings
    from serving.dashboard.web.app import create_app
    from serving.monitor.store import open_store

    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory) / "monitor.db"
        open_store(store).close()
        document = create_app(DashboardSettings(store=store)).openapi()
    lines = [
        "# HTTP",
        "",
        "## The dashboard",
        "",
        "`ranker dashboard` answers these beside its pages. The same as a document: `GET /api/openapi.json`. With a token, each call",
        "sends `Authorization: Bearer TOKEN`. A mistake in a call is answered with 422 and `detail`, one line.",
        *(line for path, methods in document["paths"].items() for line in _route(path, methods)),
        "",
        "## A replica",
        "",
        "The embedded server (`ranker serve --rest-base-port`) answers as TF Serving does. After the model's name may stand",
        "`/versions/{version}` or `/labels/{label}`. An error is a JSON object with `error`.",
        "",
        "| call | what it does |",
        "|---|---|",
        *(f"| `{call}` | {meaning} |" for call, meaning in SERVER_ROUTES.items()),
    ]
    return "\n".join(lines) + "\n"


def _route(path: str, methods: dict[str, Any]) -> Iterator[str]:
    for method, operation in methods.items():
        answers = [code for code in operation["responses"] if code.startswith("2")]
        yield from ("", f"### `{method.upper()} {path}`", "", f"{operation.get('summary', '')}.")
        yield from ("", operation["description"].strip()) if operation.get("description") else ()
        yield from ("", f"Answers {', '.join(answers)}.")
        parameters = operation.get("parameters", [])
        if parameters:
            yield from ("", "| parameter | in | type | default |", "|---|---|---|---|")
        for parameter in parameters:
            schema = parameter["schema"]
            default = "must be given" if parameter.get("required") else f"`{schema.get('default', '')}`"
            yield f"| `{parameter['name']}` | {parameter['in']} | {_kind(schema)} | {default} |"
        body = operation.get("requestBody", {}).get("content", {})
        if body:
            yield from ("", f"Takes {', '.join(body)}.")


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"] if part.get("type") != "null")
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    return str(schema.get("type", "object"))
