"""The examples of "Use it from Python" run as they stand, one after the other."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "how-to" / "python.md"


def blocks():
    """Section -> its Python, the blocks of a section after each other."""
    text = PAGE.read_text(encoding="utf-8")
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    sections = re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]
    return {
        title: "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
        for title, section in zip(titles, sections, strict=True)
    }


def run(python, code):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [str(python), "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


def test_frames_scikit_learn_and_lightgbm():
    sections = blocks()
    assert list(sections) == ["Two models of anything", "scikit-learn", "LightGBM and XGBoost", "PyTorch"]
    checks = (
        "\nassert result.requests == 250"
        "\nassert set(result.left_out) >= {'rpd_sym', 'pd_abs', 'consensus_regret'}"
        "\nassert 'tensorflow' not in __import__('sys').modules"
    )
    done = run(sys.executable, "\n".join([*list(sections.values())[:3], checks]))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("first and second: between them the first item changes in")
    assert any("3 models" in line for line in lines)


@pytest.mark.frameworks
def test_pytorch():
    python = os.environ.get("RANKER_FRAMEWORKS_PYTHON")
    if not python:
        pytest.skip("RANKER_FRAMEWORKS_PYTHON names no Python with PyTorch (make test-frameworks)")
    sections = blocks()
    checks = (
        "\nassert result.requests == 500 and result.scale == 'logit'\nassert 'rpd_sym' in result.measures"
    )
    first = sections["Two models of anything"].replace("result.to_frame()", "None")  # pandas is not there
    first = first.replace("result.plot()", "None")
    done = run(python, "\n".join([first, sections["PyTorch"], checks]))
    assert done.returncode == 0, done.stderr
