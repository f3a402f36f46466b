"""Trains the replicas of many recipes, once: every replica's predictions are kept under what they are made from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ranker import __version__
from ranker.architecture import Architecture, design
from ranker.config import Codistillation, Experiment, Training, fingerprint
from ranker.mitigation import Cost, Learned, cost, learn, predict, serving
from ranker.seeds import Seeds, derive
from ranker.study.data import StudyData
from ranker.training.examples import Examples
from ranker.training.stacking import Member, stack
from ranker.training.trainer import train

_AT_A_TIME = 16
"""Replicas of one stack: what is lost when a study is stopped."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Scores:
    """What the replicas of one recipe predict.

    Attributes:
        scores: probabilities of the held-out rows, float32 [replicas, rows].
        costs: one a replica.
    """

    scores: np.ndarray
    costs: list[Cost]


@dataclass(frozen=True)
class _Point:
    """One replica of one recipe; `group` is all of the recipe's seeds where they are trained together."""

    recipe: Experiment
    seeds: Seeds
    key: str


class Trainings:
    """Replicas by recipe, trained when first asked for.

    Args:
        data: the rows.
        run: the run directory, where an anchor may lie.
        cache: a directory for predictions; what is there is not trained again.
        lanes: how many replicas train at a time.
        report: told in words what goes on.
    """

    def __init__(
        self, data: StudyData, run: Path, cache: Path, lanes: int = 1, report: Report = lambda text: None
    ):
        self.data, self._run, self._cache, self._lanes, self._report = data, run, cache, lanes, report
        self.trained = 0
        self._serving: dict[str, float] = {}
        cache.mkdir(parents=True, exist_ok=True)

    def scores(self, recipes: Mapping[str, Experiment], replicas: int) -> dict[str, Scores]:
        """The predictions of so many replicas of each recipe.

        Args:
            recipes: experiments of one arm each, over the features of the run.
            replicas: how many, the same seeds in every recipe that varies the same sources.
        """
        points = {name: self._points(recipe, replicas) for name, recipe in recipes.items()}
        missing: dict[str, _Point] = {
            p.key: p for own in points.values() for p in own if not self._path(p.key).exists()
        }
        plain = [p for p in missing.values() if p.recipe.mitigation is None]
        for batch in _batches(plain):
            self._train_stack(batch)
        for own in points.values():
            todo = [p for p in own if p.key in missing and p.recipe.mitigation is not None]
            if todo:
                self._train_recipe(own if isinstance(todo[0].recipe.mitigation, Codistillation) else todo)
        return {name: self._read(own) for name, own in points.items()}

    def _points(self, recipe: Experiment, replicas: int) -> list[_Point]:
        seeds = [derive(recipe.replicas.seed, i, recipe.replicas.vary) for i in range(replicas)]
        training = recipe.training.model_dump(mode="json", exclude={"checkpoint_minutes", "threads"})
        together = (
            [[s.init, s.shuffle] for s in seeds] if isinstance(recipe.mitigation, Codistillation) else None
        )
        mitigation = recipe.mitigation and recipe.mitigation.model_dump(mode="json")
        parts = [recipe.model, training, mitigation, self.data.inputs.spec_hash, self.data.fingerprint]
        return [
            _Point(recipe, s, fingerprint(*parts, together, s.init, s.shuffle, __version__)) for s in seeds
        ]

    def _train_stack(self, points: Sequence[_Point]) -> None:
        self._report(f"training {len(points)} replicas: {_names(points)}")
        members = [Member(self._architecture(p.recipe), p.recipe.training, p.seeds) for p in points]
        seeds = [p.seeds for p in points]
        began = time.monotonic()
        trained = train(stack(members, self._lanes), self.data.train, [m.training for m in members], seeds)
        seconds = (time.monotonic() - began) / len(points)
        for point, weights, loss in zip(points, trained.weights, trained.loss, strict=True):
            self._save(point, Learned([weights], loss, trained.steps, seconds))

    def _train_recipe(self, points: Sequence[_Point]) -> None:
        recipe = points[0].recipe
        self._report(f"training {len(points)} replicas: {_names(points)}")
        seeds = [p.seeds for p in points]
        learned = learn(recipe, self._run, self._architecture(recipe), self.data.train, seeds, self._lanes)
        for point, own in zip(points, learned, strict=True):
            self._save(point, own)

    def _architecture(self, recipe: Experiment) -> Architecture:
        return design(self.data.inputs, recipe.model)

    def _path(self, key: str) -> Path:
        return self._cache / f"{key}.npz"

    def _save(self, point: _Point, learned: Learned) -> None:
        architecture = self._architecture(point.recipe)
        scores = predict(architecture, learned.components, self.data.eval)
        recipe = point.recipe
        kind = fingerprint(recipe.model, recipe.mitigation and recipe.mitigation.model_dump(mode="json"))
        if kind not in self._serving:
            self._serving[kind] = serving(architecture, learned, _typical_request(self.data))
        costs = cost(architecture, learned, self._serving[kind])
        temporary = self._path(point.key).with_suffix(".tmp.npz")
        np.savez(temporary, scores=scores, cost=json.dumps(asdict(costs)))
        temporary.replace(self._path(point.key))
        self.trained += 1

    def _read(self, points: Sequence[_Point]) -> Scores:
        scores, costs = [], []
        for point in points:
            with np.load(self._path(point.key)) as saved:
                scores.append(saved["scores"])
                costs.append(Cost(**json.loads(str(saved["cost"]))))
        return Scores(np.stack(scores), costs)


def _batches(points: Sequence[_Point]) -> list[list[_Point]]:
    """Replicas that can be stacked: equally many steps, neighbours of one shape."""
    by_length: dict[tuple[int, int], list[_Point]] = {}
    for point in points:
        training: Training = point.recipe.training
        by_length.setdefault((training.epochs, training.batch_size), []).append(point)
    return [own[i : i + _AT_A_TIME] for own in by_length.values() for i in range(0, len(own), _AT_A_TIME)]


def _names(points: Sequence[_Point]) -> str:
    return ", ".join(dict.fromkeys(next(iter(p.recipe.arms)) for p in points))


def _typical_request(data: StudyData) -> Examples:
    sizes = np.bincount(data.request)
    rows = np.flatnonzero(data.request == int(np.argmin(np.abs(sizes - np.median(sizes[sizes > 0])))))
    part = {name: getattr(data.eval, name).numpy()[rows] for name in ("ids", "dense", "label", "weight")}
    return Examples(**part)
