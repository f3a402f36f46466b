"""Studies that train in several processes: the same bytes as in one, and a process that dies costs its job alone."""

import os
import signal
import threading

import numpy as np
import psutil
import pytest

from ranker.errors import UserError
from ranker.study.data import UNCHANGED, LogChange, load
from ranker.study.recipes import arms
from ranker.study.trainings import Trainings
from tests.processes import wait_until

RECIPES = {
    "plain": {},
    "ensemble": {"mitigation": {"name": "ensemble", "components": 2}},
}
REPLICAS = 2


def test_two_processes_keep_the_bytes_of_one(study_experiment, study_run, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"  # of those processes; this one knows its own already
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    data, recipes = load(study_experiment, study_run), arms(study_experiment, RECIPES)
    told = []
    alone = Trainings(tmp_path / "alone").scores(data, recipes, REPLICAS)
    several = Trainings(tmp_path / "several", 2, told.append).scores(data, recipes, REPLICAS)
    for name in RECIPES:
        np.testing.assert_array_equal(several[name].scores, alone[name].scores)
    assert not list(temporary.iterdir())
    assert told[0] == "training 4 replicas of 2 recipes"
    assert told[-1].startswith("trained 4 of 4 replicas, about 0 min left: ")


def test_logs_that_share_what_is_compiled_keep_their_bytes(study_experiment, study_run, tmp_path):
    logs = [load(study_experiment, study_run, 200, change) for change in (UNCHANGED, LogChange(0.3))]
    recipes = arms(study_experiment, {"plain": {}})
    together = Trainings(tmp_path / "together").scores_by_log([(data, recipes) for data in logs], REPLICAS)
    # The first log's is compiled for it alone in any case.
    alone = Trainings(tmp_path / "alone").scores(logs[1], recipes, REPLICAS)
    np.testing.assert_array_equal(together[1]["plain"].scores, alone["plain"].scores)
    assert not np.array_equal(together[0]["plain"].scores, together[1]["plain"].scores)


def test_a_process_that_is_killed_is_said_and_the_next_run_goes_on(study_experiment, study_run, tmp_path):
    data, recipes = load(study_experiment, study_run), arms(study_experiment, RECIPES)
    before = set(psutil.Process().children())
    killer = threading.Thread(target=kill_a_child_but, args=(before, tmp_path))
    killer.start()
    with pytest.raises(UserError, match=r"died .* run the command again"):
        Trainings(tmp_path, 2).scores(data, recipes, REPLICAS)
    killer.join()
    kept = len(list(tmp_path.glob("*.npz")))
    assert 1 <= kept < 4
    again = Trainings(tmp_path)
    assert set(again.scores(data, recipes, REPLICAS)) == set(RECIPES)
    assert again.trained == 4 - kept


def kill_a_child_but(before, cache):
    """Kills a training process as soon as something is kept."""
    wait_until(lambda: list(cache.glob("*.npz")), 300)
    for child in set(psutil.Process().children()) - before:
        if "spawn_main" in " ".join(child.cmdline()):
            os.kill(child.pid, signal.SIGKILL)
            return
