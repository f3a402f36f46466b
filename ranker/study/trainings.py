"""Trains the replicas of many recipes, once: every replica's predictions are kept under what they are made from.

Recipes that differ in nothing but which average of the weights they serve are one training: it keeps them all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from ranker.training.program import Program
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
    """One replica of one recipe: `key` names it, `course` names the training it comes from."""

    recipe: Experiment
    seeds: Seeds
    key: str
    course: str


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
        self._compiled: dict[str, Program] = {}
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
        wanted = {p.course for p in missing.values() if p.recipe.mitigation is None}
        # Of such a training all that was asked for, there or not: what it computes must not depend on what is there.
        courses: dict[str, dict[str, _Point]] = {}
        for p in (p for own in points.values() for p in own if p.course in wanted):
            courses.setdefault(p.course, {})[p.key] = p
        stacks = _batches([list(own.values()) for own in courses.values()])
        for i, batch in enumerate(stacks):
            self._train_stack(batch, f"stack {i + 1} of {len(stacks)}")
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
        course = {name: value for name, value in training.items() if name not in ("average_last", "ema")}
        return [
            _Point(
                recipe,
                s,
                fingerprint(*parts, together, s.init, s.shuffle, __version__),
                fingerprint(recipe.model, course, mitigation, s.init, s.shuffle),
            )
            for s in seeds
        ]

    def _train_stack(self, courses: Sequence[Sequence[_Point]], what: str) -> None:
        self._report(f"training {len(courses)} replicas, {what}: {_names([p for c in courses for p in c])}")
        averaged = [[p.recipe.training for p in c if _averages(p.recipe.training)] for c in courses]
        trainings = [
            own[0] if own else c[0].recipe.training for own, c in zip(averaged, courses, strict=True)
        ]
        members = [
            Member(self._architecture(c[0].recipe), training, c[0].seeds, tuple(own))
            for c, training, own in zip(courses, trainings, averaged, strict=True)
        ]
        program = stack(members, self._lanes, self._compiled)
        trained = train(program, self.data.train, trainings, [m.seeds for m in members], averages=averaged)
        seconds = trained.seconds / len(courses)
        learned = []
        for own, loss, kept, course in zip(program.programs, trained.loss, averaged, courses, strict=True):
            for point in course:
                at = kept.index(point.recipe.training) if _averages(point.recipe.training) else None
                learned.append((point, Learned(own.weights(at), loss, trained.steps, seconds)))
        self._save(learned)

    def _train_recipe(self, points: Sequence[_Point]) -> None:
        recipe = points[0].recipe
        self._report(f"training {len(points)} replicas: {_names(points)}")
        seeds = [p.seeds for p in points]
        learned = learn(recipe, self._run, self._architecture(recipe), self.data.train, seeds, self._lanes)
        self._save(list(zip(points, learned, strict=True)))

    def _architecture(self, recipe: Experiment) -> Architecture:
        return design(self.data.inputs, recipe.model)

    def _path(self, key: str) -> Path:
        return self._cache / f"{key}.npz"

    def _save(self, learned: Sequence[tuple[_Point, Learned]]) -> None:
        costs = [self._cost(point.recipe, own) for point, own in learned]

        def save(point: _Point, own: Learned, price: Cost) -> None:
            scores = predict(self._architecture(point.recipe), own.components, self.data.eval)
            temporary = self._path(point.key).with_suffix(".tmp.npz")
            np.savez(temporary, scores=scores, cost=json.dumps(asdict(price)))
            temporary.replace(self._path(point.key))

        with ThreadPoolExecutor(self._lanes) as threads:
            list(threads.map(save, *zip(*learned, strict=True), costs))
        self.trained += len(learned)

    def _cost(self, recipe: Experiment, learned: Learned) -> Cost:
        architecture = self._architecture(recipe)
        kind = fingerprint(recipe.model, recipe.mitigation and recipe.mitigation.model_dump(mode="json"))
        if kind not in self._serving:
            self._serving[kind] = serving(architecture, learned, _typical_request(self.data))
        return cost(architecture, learned, self._serving[kind])

    def _read(self, points: Sequence[_Point]) -> Scores:
        scores, costs = [], []
        for point in points:
            with np.load(self._path(point.key)) as saved:
                scores.append(saved["scores"])
                costs.append(Cost(**json.loads(str(saved["cost"]))))
        return Scores(np.stack(scores), costs)


def _averages(training: Training) -> bool:
    return training.average_last > 0 or training.ema > 0


def _batches(courses: Sequence[list[_Point]]) -> list[list[list[_Point]]]:
    """Trainings that can be stacked: equally many steps."""
    by_length: dict[tuple[int, int], list[list[_Point]]] = {}
    for course in courses:
        training = course[0].recipe.training
        by_length.setdefault((training.epochs, training.batch_size), []).append(course)
    return [own[i : i + _AT_A_TIME] for own in by_length.values() for i in range(0, len(own), _AT_A_TIME)]


def _names(points: Sequence[_Point]) -> str:
    return ", ".join(dict.fromkeys(next(iter(p.recipe.arms)) for p in points))


def _typical_request(data: StudyData) -> Examples:
    sizes = np.bincount(data.request)
    rows = np.flatnonzero(data.request == int(np.argmin(np.abs(sizes - np.median(sizes[sizes > 0])))))
    part = {name: getattr(data.eval, name).numpy()[rows] for name in ("ids", "dense", "label", "weight")}
    return Examples(**part)
