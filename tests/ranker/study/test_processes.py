"""Studies that train in several processes: the same bytes as in one, and a process that dies costs its job alone."""

import os
import signal
import threading

import numpy as np
import psutil
import pytest

from ranker.errors import UserError
from ranker.study.data import load
from ranker.study.recipes import arms
from ranker.study.trainings import Trainings
from tests.processes import wait_until

RECIPES = {
    "plain": {},
    "ensemble": {"mitigation": {"name": "ensemble", "components": 2}},
}
REPLICAS = 2


def test_two_processes_keep_the_bytes_of_one(study_experiment, study_run, tmp_path):
    data, recipes = load(study_experiment, study_run), arms(study_experiment, RECIPES)
    told = []
    alone = Trainings(data, tmp_path / "alone").scores(recipes, REPLICAS)
    several = Trainings(data, tmp_path / "several", 2, told.append).scores(recipes, REPLICAS)
    for name in RECIPES:
        np.testing.assert_array_equal(several[name].scores, alone[name].scores)
    assert told[0] == "training 4 replicas of 2 recipes"
    assert told[-1].startswith("trained 4 of 4 replicas, about 0 min left: ")


def test_a_process_that_is_killed_is_said_and_the_next_run_goes_on(study_experiment, study_run, tmp_path):
    data, recipes = load(study_experiment, study_run), arms(study_experiment, RECIPES)
    before = set(psutil.Process().children())
    killer = threading.Thread(target=kill_a_child_but, args=(before, tmp_path))
    killer.start()
    with pytest.raises(UserError, match=r"died .* run the command again"):
        Trainings(data, tmp_path, 2).scores(recipes, REPLICAS)
    killer.join()
    kept = len(list(tmp_path.glob("*.npz")))
    assert 1 <= kept < 4
    again = Trainings(data, tmp_path)
    assert set(again.scores(recipes, REPLICAS)) == set(RECIPES)
    assert again.trained == 4 - kept


def kill_a_child_but(before, cache):
    """Kills a training process as soon as something is kept."""
    wait_until(lambda: list(cache.glob("*.npz")), 300)
    for child in set(psutil.Process().children()) - before:
        if "spawn_main" in " ".join(child.cmdline()):
            os.kill(child.pid, signal.SIGKILL)
            return
