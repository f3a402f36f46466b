"""docker/*.Dockerfile: no container engine here, so that an image has what its command needs is asked of the packages."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ranker.cli import app
from tests.command_line import parsed_by_the_command_line

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
WORKER = DOCKER / "worker.Dockerfile"
DOCKERFILES = sorted(set(DOCKER.glob("*.Dockerfile")) - {WORKER})
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", path.read_text(encoding="utf-8"))
    return [tuple(line.split(" ", 1)) for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfiles(path):
    steps = instructions(path)
    names = [name for name, _ in steps]
    assert set(names) <= {
        "FROM",
        "WORKDIR",
        "RUN",
        "ENV",
        "COPY",
        "USER",
        "EXPOSE",
        "HEALTHCHECK",
        "STOPSIGNAL",
        "ENTRYPOINT",
        "CMD",
    }
    last = dict(steps)
    assert all(re.search(r":\d+\.\d+\.\d+", image) for name, image in steps if name == "FROM")
    assert last["USER"] == "10001"
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert ("HEALTHCHECK" in last) == ("EXPOSE" in last)
    installs = [argument for name, argument in steps if name == "RUN" and "pip install" in argument]
    (installed,) = re.findall(r'--constraint constraints\.txt "\.\[([\w,]+)\]"', installs[0])
    assert set(installed.split(",")) <= extras().keys()
    for name, argument in steps:
        if name == "COPY" and not argument.startswith("--from"):
            assert all((ROOT / source).exists() for source in argument.split()[:-1])
    entry, command = json.loads(last["ENTRYPOINT"]), json.loads(last["CMD"])
    if entry == ["ranker"] and "--help" not in command:
        parsed_by_the_command_line(command)
    elif entry == ["ranker"]:
        assert command[0] in typer.main.get_command(app).commands
    else:
        assert entry == ["python", "-m", "serving.server"]
        from serving.server.options import parse

        assert parse(command).model_name == "ranker"


def test_the_small_bundle_of_plotly_has_the_librarys_version():
    from plotly.offline import get_plotlyjs_version

    for path in (DOCKER / "dashboard.Dockerfile", ROOT / "Makefile"):
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"plotly\.js-basic-dist-min@([\d.]+)", text)) == {get_plotlyjs_version()}
    for arguments in (
        COMPOSE["services"]["dashboard"]["command"],
        json.loads(dict(instructions(DOCKER / "dashboard.Dockerfile"))["CMD"]),
    ):
        assert "/opt/plotly-basic.min.js" in " ".join(arguments)


def test_the_worker_image_is_the_pipelines_with_the_pinned_beam():
    steps = instructions(WORKER)
    (pin,) = re.findall(r"^apache-beam==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert ("FROM", f"apache/beam_python3.11_sdk:{pin} AS beam") in steps
    assert ("FROM", "steady-ranker/pipeline") in steps
    assert dict(steps)["USER"] == "10001"
    (base,) = {
        image.split("-")[0] for name, image in instructions(DOCKER / "pipeline.Dockerfile") if name == "FROM"
    }
    assert base.startswith("python:3.11.")


def test_what_an_image_is_built_from_is_not_ignored():
    included = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    for path in DOCKERFILES:
        for name, argument in instructions(path):
            if name == "COPY" and not argument.startswith("--from"):
                assert set(argument.split()[:-1]) <= included


def extras() -> dict[str, list[str]]:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"": project["dependencies"]} | project["optional-dependencies"]


def installed_with(extra: str) -> set[str]:
    """The distributions that `pip install .[extra]` brings, by canonical name."""
    packages, pending, table = set(), ["", extra], extras()
    requirements = [Requirement(text) for name in pending for text in table[name]]
    while requirements:
        requirement = requirements.pop()
        name = canonicalize_name(requirement.name)
        extras_of_requirement = requirement.extras or {""}
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if name == "steady-ranker":
            requirements += [Requirement(text) for wish in requirement.extras for text in table[wish]]
            continue
        if name in packages and extras_of_requirement == {""}:
            continue
        packages.add(name)
        for text in importlib.metadata.requires(name) or []:
            need = Requirement(text)
            if need.marker is None or any(
                need.marker.evaluate({"extra": wish}) for wish in extras_of_requirement
            ):
                need.marker = None
                requirements.append(need)
    return packages


BLOCK = """
import json, sys
from importlib.machinery import PathFinder
missing = set(json.loads(sys.argv[1]))
class Image(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in missing else PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Image
for name in sys.argv[2:]:
    __import__(name)
"""


@pytest.mark.parametrize(
    ("extra", "modules"),
    [
        ("client", ["serving.client", "serving.deployment"]),
        ("gateway", ["ranker.cli", "serving.gateway", "serving.run_directory", "envoy"]),
        ("monitor", ["ranker.cli", "serving.monitor.run", "serving.run_directory", "serving.watch"]),
        ("dashboard", ["ranker.cli", "serving.dashboard", "serving.run_directory", "serving.watch"]),
        ("serve", ["serving.server.api"]),
    ],
)
def test_an_image_has_what_its_command_imports(extra, modules):
    present = installed_with(extra)
    assert ("tensorflow" in present) == (extra == "serve")
    missing = [
        module
        for module, names in importlib.metadata.packages_distributions().items()
        if not {canonicalize_name(name) for name in names} & (present | {"steady-ranker"})
    ]
    done = subprocess.run(
        [sys.executable, "-c", BLOCK, json.dumps(missing), *modules],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-1500:]
