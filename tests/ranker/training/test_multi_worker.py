"""Two processes on loopback train one replica: the one that a single process trains."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ranker import layout
from ranker.backend import tf
from ranker.config import build, dump
from ranker.errors import UserError
from ranker.training import multi_worker
from tests.processes import free_ports
from tests.ranker.conftest import raw_rows, tiny_tree, write_prepared


def experiment(**training):
    tree = tiny_tree()
    tree["training"] |= {"epochs": 2, **training}
    return build(tree | {"replicas": {"count": 1}, "arms": {"smelu": {}}}, "test")


def start(run, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "ranker.training", str(run), "smelu", "0"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def predictions(run):
    served = tf.saved_model.load(str(layout.version_dir(run, "smelu", 0, 1)))
    rows = {name: tf.constant(values) for name, values in raw_rows(50, seed=3).items()}
    return served.signatures["serving_default"](**rows)["score"].numpy()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("recipe", [{}, {"average_last": 0, "ema": 0.9, "optimizer": {"decay": "linear"}}])
def test_two_workers_train_what_one_trains(recipe, tmp_path):
    alone = write_prepared(tmp_path / "alone")
    layout.config_path(alone).write_text(dump(experiment(**recipe)))
    together = write_prepared(tmp_path / "together")
    layout.config_path(together).write_text(dump(experiment(distribution="multi_worker", **recipe)))
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": i}} for i in range(2)]
    workers = [start(alone), *(start(together, TF_CONFIG=json.dumps(task)) for task in tasks)]
    ends = [worker.communicate() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], ends
    assert [json.loads(out.splitlines()[-1])["version"] for out, _ in ends] == [1, 1, 1]
    np.testing.assert_allclose(predictions(together), predictions(alone), atol=2e-5)
    assert not list(layout.replica_dir(together, "smelu", 0).glob(".*"))


def test_what_it_needs_is_said(monkeypatch):
    assert multi_worker.join(experiment()) is None
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match=r"needs TF_CONFIG .*Received: None"):
        multi_worker.join(experiment(distribution="multi_worker"))
    cluster = {"chief": ["h0:1"], "worker": ["h1:1", "h2:1"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "chief", "index": 0}}))
    with pytest.raises(UserError, match=r"batch_size must be a multiple of the 3 workers.*Received: 32"):
        multi_worker.join(experiment(distribution="multi_worker"))
