"""Makes an environment with each extra alone and calls every command in it: `make bare`.

A command whose extra is missing says so in one line, without a stack trace; a command whose extra is there gets further.
Takes the network, and minutes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
CALLS = {
    "prepare": ["--config", "configs/quickstart.yaml", "--run-dir", "RUN"],
    "train": ["--run-dir", "RUN"],
    "evaluate": ["--run-dir", "RUN"],
    "run": ["--config", "configs/quickstart.yaml", "--run-dir", "RUN"],
    "config": ["--check", "configs/quickstart.yaml"],
    "init": ["RUN/log.csv"],
    "serve": ["--run-dir", "RUN"],
    "rank": ["--target", "127.0.0.1:1", "--candidate", "item_id=1"],
    "gateway": ["--replica", "a=127.0.0.1:1", "--print-config"],
    "monitor": ["--run-dir", "RUN", "--once"],
    "status": ["--store", "RUN/none.db"],
    "dashboard": ["--run-dir", "RUN", "--port", "0"],
    "compare": ["RUN/a.parquet", "RUN/b.parquet", "--request", "r", "--item", "i", "--score", "p"],
    "probe": ["RUN/log.parquet", "--request", "r", "--item", "i"],
    "gate": ["--run-dir", "RUN", "--candidate", "a:1", "--baseline", "b:1"],
    "study": ["shapes", "--out", "RUN/shapes", "--quick"],
}
"""Command -> arguments with which it reaches its imports, and no further than a mistake of the call."""
COMMANDS_OF = {
    "": set(),
    "client": {"rank"},
    "gateway": {"rank", "gateway"},
    "compare": {"compare", "probe"},
    "monitor": {"rank", "monitor", "status", "gate"},
    "dashboard": {"status", "dashboard"},
    "serve": {"rank", "serve"},
}
"""Extra -> commands that must get past their imports with it."""


def environment(directory: Path, extra: str) -> Path:
    """Makes an environment; returns its Python."""
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    package = f"{ROOT}[{extra}]" if extra else str(ROOT)
    install = ["-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), package]
    subprocess.run([python, *install], check=True)
    return python


def mistakes(python: Path, extra: str) -> list[str]:
    """What is wrong in an environment, a line each."""
    wrong = []
    for command, arguments in CALLS.items():
        with tempfile.TemporaryDirectory() as directory:
            run = Path(directory)
            (run / "log.csv").write_text("user,item,clicked\n1,2,0\n1,3,1\n")
            call = [argument.replace("RUN", str(run)) for argument in arguments]
            done = subprocess.run(
                [python.parent / "ranker", command, *call],
                capture_output=True,
                text=True,
                cwd=ROOT,
                timeout=300,
            )
        lines = done.stderr.strip().splitlines()
        is_missing = any(" needs: pip install 'steady-ranker[" in line for line in lines)
        if "Traceback" in done.stderr:
            wrong.append(f"{command}: a stack trace: {lines[-1]}")
        elif is_missing and (len(lines) != 1 or not done.returncode):
            wrong.append(f"{command}: not one line: {done.stderr.strip()!r}, exit code {done.returncode}")
        elif is_missing and command in COMMANDS_OF[extra]:
            wrong.append(f"{command}: {lines[0]}")
        print(f"  {command:10} exit code {done.returncode}  {lines[-1] if lines else ''}"[:160], flush=True)
    return wrong


def main(extras: list[str]) -> int:
    """Tries the environments; returns the exit code."""
    wrong = {}
    for extra in extras or list(COMMANDS_OF):
        print(f"steady-ranker[{extra}]", flush=True)
        with tempfile.TemporaryDirectory() as directory:
            wrong[extra] = mistakes(environment(Path(directory), extra), extra)
    for extra, lines in wrong.items():
        for line in lines:
            print(f"steady-ranker[{extra}]: {line}")
    return 1 if any(wrong.values()) else 0


if __name__ == "__main__":
    sys.exit(main([extra.strip("[]") for extra in sys.argv[1:]]))
