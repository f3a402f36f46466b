"""Who may import whom, and what an import may load."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("ranker", "pipelines", "serving")
# The composition root names everything, inside functions; the rest keeps to these directions.
MAY_IMPORT = {"ranker": {"ranker"}, "pipelines": {"ranker", "pipelines"}, "serving": {"ranker", "serving"}}
HEAVY = ("tensorflow", "keras", "tf_keras", "apache_beam", "grpc", "dash")


def imports(path: Path) -> set[str]:
    """Top-level names of everything a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package):
    wrong = {
        str(path.relative_to(ROOT)): sorted(bad)
        for path in FILES
        if path.relative_to(ROOT).parts[0] == package and "cli" not in path.relative_to(ROOT).parts[:2]
        if (bad := (imports(path) & set(PACKAGES)) - MAY_IMPORT[package])
    }
    assert not wrong


def test_the_model_and_the_measures_know_no_beam_no_grpc_no_dash():
    wrong = {
        str(path.relative_to(ROOT)): sorted(bad)
        for path in FILES
        if path.relative_to(ROOT).parts[0] == "ranker"
        if (bad := imports(path) & {"apache_beam", "grpc", "dash"})
    }
    assert not wrong


def test_tensorflow_enters_through_one_door():
    """In ranker and pipelines `import tensorflow` stands in ranker/backend.py only; a package on top of it may follow.

    `ranker/activations/keras3.py` is for models of Keras 3, in processes that do not train with this project.
    """
    doors = {ROOT / "ranker" / "backend.py", ROOT / "ranker" / "activations" / "keras3.py"}
    wrong = [
        str(path.relative_to(ROOT))
        for path in FILES
        if path.relative_to(ROOT).parts[0] != "serving" and path not in doors
        if {"tensorflow", "tf_keras", "keras"} & imports(path)
    ]
    assert not wrong


def test_temporary_directories_come_from_one_place():
    """`ranker.files.temporary_directory` removes what killed processes have left, which `tempfile` does not.

    The logs of servers whose run directory is in an object store are to stay.
    """
    makers = re.compile(r"\b(TemporaryDirectory|mkdtemp)\(")
    users = [str(path.relative_to(ROOT)) for path in FILES if makers.search(path.read_text(encoding="utf-8"))]
    assert users == ["serving/processes.py"]


@pytest.mark.parametrize(
    "module",
    [
        "ranker",
        "ranker.cli",
        "ranker.config",
        "ranker.activations",
        "ranker.divergence",
        "ranker.synthetic",
        "ranker.training.specs",
        "serving.client",
        "serving.deployment",
        "serving.gateway",
        "serving.monitor",
        "serving.dashboard",
    ],
)
def test_light_modules_stay_light(module):
    allowed = ("grpc",) if module.startswith("serving") else ()
    allowed += ("dash",) if module == "serving.dashboard" else ()
    heavy = [name for name in HEAVY if name not in allowed]
    code = f"import sys, {module}; print([n for n in {heavy!r} if n in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["prepare", "train", "evaluate"])
def test_packages_that_workers_import_import_none_of_their_modules(package):
    """A thread that imports a module waits for its package; a package that waits for its modules would close the circle."""
    name = f"pipelines.{package}"
    code = f"import sys, {name}; print([n for n in sys.modules if n.startswith('{name}.')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert out.stdout.strip() == "[]"


# TF Serving's REST writes bytes that its clients expect, and takes NaN of them; Plotly's encoder writes null for NaN itself.
OWN_JSON = (
    "ranker/json_text.py",
    "serving/server/",
    "serving/dashboard/layout/live.py",
    "serving/targets/http.py",
)


def test_results_are_written_as_json_by_one_module():
    """JSON has no NaN: whoever calls `json.dumps` on a result may write one."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        if not str(path.relative_to(ROOT)).startswith(OWN_JSON)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("dump", "dumps")
        if isinstance(node.value, ast.Name) and node.value.id == "json"
    ]
    assert not wrong
