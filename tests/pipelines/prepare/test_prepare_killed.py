"""`kill -9` at any moment, then the same command: the same bytes, nothing left over."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.prepare import prepare
from ranker.config import dump
from tests.pipelines.prepare.small_log import contents

# Runs `prepare` and kills its own process when a function is called for the n-th time: before or after it has worked.
PROGRAM = """
import importlib, os, signal, sys
from pathlib import Path
from pipelines.prepare import prepare
from ranker.config import load

config, run, module, path, call, after = sys.argv[1:]
owner = importlib.import_module(module)
*parents, name = path.split(".")
for parent in parents:
    owner = getattr(owner, parent)
worked, calls = getattr(owner, name), [0]

def killing(*arguments, **keywords):
    calls[0] += 1
    if calls[0] < int(call):
        return worked(*arguments, **keywords)
    if after == "after":
        worked(*arguments, **keywords)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, killing)
prepare(load(config), run)
"""
ROOT = Path(__file__).parents[3]
MOMENTS = [
    ("pipelines.prepare.order.runs", "write_run", "1", "after"),
    ("ranker.tfrecord", "Writer.write", "2", "before"),
    ("ranker.files", "_replace", "1", "before"),
    ("shutil", "rmtree", "2", "before"),  # between the renames and the removal of the earlier data
]
MORE_MOMENTS = [
    ("pipelines.prepare.run", "read_table", "2", "before"),
    ("pipelines.prepare.clean.cleaner", "Cleaner.__call__", "1", "after"),
    ("pipelines.prepare.stages", "write_vocabulary", "3", "after"),
    ("pipelines.prepare.stages", "write_shard", "3", "before"),
    ("pipelines.prepare.manifest", "Manifest.write", "1", "before"),
    ("pipelines.prepare.manifest", "Manifest.write", "1", "after"),
    ("os", "rename", "1", "before"),
]


def kill_and_repeat(make, tmp_path, moment):
    prepare(make(), tmp_path / "whole")
    config = tmp_path / "config.yaml"
    config.write_text(dump(make()))
    run = tmp_path / "run"
    shutil.copytree(
        tmp_path / "whole/data", run / "data"
    )  # earlier data, which the killed run was to replace
    (run / "data/manifest.json").write_text("{}")
    earlier = contents(run)
    command = [sys.executable, "-c", PROGRAM, str(config), str(run), *moment]
    killed = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    whole = contents(tmp_path / "whole")
    assert not (run / "data").exists() or contents(run) in (earlier, whole), "half-written data are visible"
    prepare(make(), run)
    assert contents(run) == whole
    assert sorted(path.name for path in run.iterdir()) == [".data.lock", "data", "logs"]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: "-".join(moment[1:]))
def test_a_killed_run_is_finished_by_the_next(make, tmp_path, moment):
    kill_and_repeat(make, tmp_path, moment)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MORE_MOMENTS, ids=lambda moment: "-".join(moment[1:]))
def test_a_run_killed_at_other_moments_is_finished_too(make, tmp_path, moment):
    kill_and_repeat(make, tmp_path, moment)


def test_two_runs_do_not_write_into_one_place(make, tmp_path):
    import fcntl

    from ranker.errors import UserError

    (tmp_path / "run").mkdir()
    with (tmp_path / "run/.data.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run is writing here"):
            prepare(make(), tmp_path / "run")
    assert prepare(make(), tmp_path / "run").counts["read"] == 240
