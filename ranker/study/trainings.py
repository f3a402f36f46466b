"""Predictions of the replicas of many recipes: trained once, then read from a cache."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ranker.config import Experiment
from ranker.mitigation import Cost
from ranker.study import worker
from ranker.study.data import StudyData
from ranker.study.options import Report
from ranker.study.points import Job, StudyPoint, jobs, points


@dataclass(frozen=True)
class Scores:
    """What the replicas of one recipe predict.

    Attributes:
        scores: probabilities of the held-out rows, float32 [replicas, rows].
        costs: one a replica.
    """

    scores: np.ndarray
    costs: list[Cost]


class Trainings:
    """Trains the replicas of recipes when their predictions are first needed.

    Args:
        cache: a directory for predictions; a replica whose predictions it holds is not trained again.
        lanes: how many processes train.
        report: gets a line of progress now and then.
    """

    def __init__(self, cache: Path, lanes: int = 1, report: Report = lambda text: None):
        self._cache, self._lanes, self._report = cache, lanes, report
        self.trained = 0
        cache.mkdir(parents=True, exist_ok=True)

    def scores(self, data: StudyData, recipes: Mapping[str, Experiment], replicas: int) -> dict[str, Scores]:
        """The predictions of so many replicas of each recipe; arguments and errors as `scores_by_log`."""
        return self.scores_by_log([(data, recipes)], replicas)[0]

    def scores_by_log(
        self, recipes_by_log: Sequence[tuple[StudyData, Mapping[str, Experiment]]], replicas: int
    ) -> list[dict[str, Scores]]:
        """The predictions of so many replicas of each recipe, on several changes of one run's log.

        Args:
            recipes_by_log: rows, and experiments of one arm each over the features of the run.
            replicas: how many, the same seeds in every recipe that varies the same sources.

        Raises:
            UserError: a process that trains died.
        """
        points_by_log = [
            {name: points(recipe, replicas, data) for name, recipe in recipes.items()}
            for data, recipes in recipes_by_log
        ]
        todo: list[tuple[StudyData, Job]] = []
        names = set()
        for (data, _), points_by_recipe in zip(recipes_by_log, points_by_log, strict=True):
            missing = {
                p.key: p
                for recipe_points in points_by_recipe.values()
                for p in recipe_points
                if not worker.path(self._cache, p).exists()
            }
            names |= {p.name for p in missing.values()}
            todo += [(data, job) for job in jobs(points_by_recipe.values(), missing)]
        if len(recipes_by_log) > 1:
            # The longest first, of all logs: no process trains alone at the end.
            todo.sort(key=lambda job_on_rows: _row_passes(*job_on_rows), reverse=True)
        size = sum(_replicas(job) for _, job in todo)
        if todo:
            self._report(f"training {size} replicas of {len(names)} recipes")
        began, done = time.monotonic(), 0
        for job in worker.run(todo, self._cache, self._lanes):
            done += _replicas(job)
            minutes = (time.monotonic() - began) * (size / done - 1) / 60
            self._report(
                f"trained {done} of {size} replicas, about {minutes:.0f} min left: {job[-1][-1].name}"
            )
        self.trained += size
        return [
            {name: self._read(recipe_points) for name, recipe_points in points_by_recipe.items()}
            for points_by_recipe in points_by_log
        ]

    def _read(self, points: Sequence[StudyPoint]) -> Scores:
        scores, costs = [], []
        for point in points:
            with np.load(worker.path(self._cache, point)) as saved:
                scores.append(saved["scores"])
                costs.append(Cost(**json.loads(str(saved["cost"]))))
        return Scores(np.stack(scores), costs)


def _replicas(job: Sequence[Sequence[StudyPoint]]) -> int:
    return sum(map(len, job))


def _row_passes(data: StudyData, job: Job) -> int:
    return int(data.train.label.shape[0]) * job[0][0].recipe.training.count_of_epochs * len(job)
