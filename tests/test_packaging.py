"""The wheel is complete: it works from another directory, without the checkout."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_wheel_works_elsewhere(tmp_path):
    source = tmp_path / "source"
    for package in ("ranker", "pipelines", "serving"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(source),
    ]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("steady_ranker-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert "ranker/synthetic/quickstart.yaml" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/"))]
    code = (
        "import sys; sys.path.insert(0, 'site'); import ranker; from ranker.config import load;"
        "from ranker.synthetic import CONFIGURATION; print(load(CONFIGURATION).name, ranker.__file__)"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    name, where = out.stdout.split()
    assert name == "quickstart"
    assert Path(where).resolve().is_relative_to((tmp_path / "site").resolve())
