"""A small log that has what every shape of work needs, and the whole way of it: prepared, trained, compared, served."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranker import layout
from ranker.config import Experiment, build
from serving.client import RankerClient

REQUESTS, CANDIDATES, ITEMS, USERS = 240, 6, 12, 40


def log_rows(seed: int = 0) -> dict[str, list]:
    """Requests of six documents: what a user gives a document grows with its number and falls with its position."""
    random = np.random.default_rng(seed)
    rows: dict[str, list] = {
        name: []
        for name in (
            "request",
            "user",
            "age",
            "doc",
            "topic",
            "price",
            "position",
            "rating",
            "clicked",
            "propensity",
            "time",
            "history",
        )
    }
    for request in range(REQUESTS):
        user = int(random.integers(USERS))
        shown = random.permutation(ITEMS)[:CANDIDATES]
        for place, doc in enumerate(shown, start=1):
            quality = doc / (ITEMS - 1) - 0.08 * place + random.normal(0, 0.15)
            rating = int(np.clip(np.round(1 + 4 * quality), 0, 5))
            rows["request"].append(f"q{request}")
            rows["user"].append(f"u{user}")
            rows["age"].append(20 + user)
            rows["doc"].append(f"d{doc}")
            rows["topic"].append(f"t{doc % 4}")
            rows["price"].append(round(float(doc + random.normal(0, 0.5)), 3))
            rows["position"].append(place)
            rows["rating"].append(rating)
            rows["clicked"].append(int(rating >= 3))
            rows["propensity"].append(round(1.0 / place, 4))
            rows["time"].append(1_700_000_000 + 3600 * request + 60 * place)
            rows["history"].append("|".join(f"d{d}" for d in random.permutation(ITEMS)[: user % 5]))
    return rows


def tree(root: Path | str = ".", **changes: Any) -> dict[str, Any]:
    """A plain configuration over the log; a key `data__label` sets `data.label`, None removes a key."""
    settings: dict[str, Any] = {
        "name": "shapes",
        "data": {
            "root": str(root),
            "events": {"path": "log.csv"},
            "label": "clicked",
            "request": ["request"],
            "split": {"by": "hash", "of": "request", "eval": 0.25},
            "shards": 2,
        },
        "features": {
            "user": {"kind": "categorical", "role": "context"},
            "age": {"kind": "numeric", "role": "context"},
            "doc": {"kind": "categorical", "role": "item"},
            "topic": {"kind": "categorical", "role": "item"},
            "price": {"kind": "numeric", "role": "item"},
        },
        "model": {"embedding_dim": 4, "hidden": [16, 8]},
        "training": {"epochs": 6, "batch_size": 60, "optimizer": {"name": "adam", "learning_rate": 0.01}},
        "replicas": {"count": 2},
        "monitor": {"requests": 20},
    }
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = settings
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return json.loads(json.dumps(settings))


@dataclass
class Worked:
    """One shape after its run."""

    experiment: Experiment
    run: Path
    report: dict[str, Any]

    @cached_property
    def quality(self) -> dict[str, float]:
        """The mean of each quality measure over the replicas."""
        return {name: entry["mean"] for name, entry in self.report["arms"]["smelu"]["quality"].items()}

    @cached_property
    def divergence(self) -> dict[str, float]:
        """Each measure of disagreement."""
        return {name: entry["value"] for name, entry in self.report["arms"]["smelu"]["divergence"].items()}

    def scores(self, rows: dict[str, list], replica: int = 0) -> np.ndarray:
        """What the embedded server answers for rows."""
        from serving.server.api import ServerOptions, start

        base = layout.replica_dir(self.run, "smelu", replica)
        server = start(ServerOptions(port=0, model_name="ranker", model_base_path=str(base)))
        try:
            with RankerClient(f"127.0.0.1:{server.port}", item=self.experiment.item) as client:
                return np.asarray(client.predict(rows).scores, np.float64)
        finally:
            server.stop(2)

    def ranking(self, context: dict[str, Any], candidates: dict[str, list]) -> list[str]:
        """The items in the order in which the embedded server ranks them; features that are not given are missing."""
        from serving.server.api import ServerOptions, start

        base = layout.replica_dir(self.run, "smelu", 0)
        server = start(ServerOptions(port=0, model_name="ranker", model_base_path=str(base)))
        try:
            with RankerClient(f"127.0.0.1:{server.port}", item=self.experiment.item) as client:
                return list(client.rank(context, candidates).item_ids)
        finally:
            server.stop(2)


@pytest.fixture(scope="session")
def log_directory(tmp_path_factory) -> Path:
    """Where `log.csv` is."""
    directory = tmp_path_factory.mktemp("log")
    rows = log_rows()
    with (directory / "log.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows)
        writer.writerows(zip(*rows.values(), strict=True))
    return directory


@pytest.fixture(scope="session")
def work(log_directory, tmp_path_factory):
    """A function that runs a configuration: prepare, two stacked replicas, evaluate."""
    from pipelines.evaluate import evaluate
    from pipelines.prepare import prepare
    from pipelines.train.fan_out import write_config
    from ranker.training.replica import train_replicas
    from ranker.training.specs import replica_specs

    def run_shape(**changes: Any) -> Worked:
        experiment = build(tree(log_directory, **changes), "test")
        run = tmp_path_factory.mktemp("shape") / "run"
        prepare(experiment, run)
        write_config(experiment, run)
        train_replicas(experiment, run, replica_specs(experiment), lanes=2)
        return Worked(experiment, run, evaluate(experiment, run))

    return run_shape
