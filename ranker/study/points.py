"""What a study trains: points (a point is one replica of one recipe) and jobs (points that are trained together)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ranker import __version__
from ranker.config import Anchor, Codistillation, Ensemble, Experiment, SelfEnsemble, fingerprint
from ranker.seeds import Seeds, derive
from ranker.study.data import StudyData

_AT_A_TIME = 8
"""Trainings of one job: what is lost when a study is stopped."""


@dataclass(frozen=True)
class StudyPoint:
    """One replica of one recipe.

    Attributes:
        recipe: an experiment of one arm.
        seeds: of the replica.
        key: fingerprint of all that the point is made from.
        course: fingerprint of its training. Points that differ only in the average of the weights that they serve
            share a course, which keeps all averages.
    """

    recipe: Experiment
    seeds: Seeds
    key: str
    course: str

    @property
    def name(self) -> str:
        """The recipe's."""
        return next(iter(self.recipe.arms))


Job = list[list[StudyPoint]]
"""Trainings that can be stacked, each with its points; or a single list of points that a mitigation trains together."""


def points(recipe: Experiment, replicas: int, data: StudyData) -> list[StudyPoint]:
    """The points of a recipe; recipes that vary the same sources get the same seeds."""
    seeds = [derive(recipe.replicas.seed, i, recipe.replicas.vary) for i in range(replicas)]
    training = recipe.training.model_dump(mode="json", exclude={"checkpoint_minutes", "threads"})
    together = [[s.init, s.shuffle] for s in seeds] if isinstance(recipe.mitigation, Codistillation) else None
    mitigation = recipe.mitigation and recipe.mitigation.model_dump(mode="json")
    inputs = [data.inputs.spec_hash, data.inputs.vocabulary_hash, data.inputs.encoding_hash]
    parts = [recipe.model, training, mitigation, inputs, data.fingerprint]
    course = {name: value for name, value in training.items() if name not in ("average_last", "ema")}
    return [
        StudyPoint(
            recipe,
            s,
            fingerprint(*parts, together, s.init, s.shuffle, __version__),
            fingerprint(recipe.model, course, mitigation, s.init, s.shuffle),
        )
        for s in seeds
    ]


def jobs(recipes: Iterable[Sequence[StudyPoint]], missing: Mapping[str, StudyPoint]) -> list[Job]:
    """What must be trained, the longest jobs first.

    Args:
        recipes: the points of each recipe.
        missing: those without predictions, by key.
    """
    recipes = list(recipes)
    queue: list[Job] = []
    for course_points in recipes:
        todo = [p for p in course_points if p.key in missing and p.recipe.mitigation is not None]
        if not todo:
            continue
        mitigation = todo[0].recipe.mitigation
        if isinstance(mitigation, Codistillation):
            queue.append([list(course_points)])
        elif isinstance(mitigation, Anchor | Ensemble | SelfEnsemble):
            # All replicas learn from one anchor, which is trained once; components are compiled once.
            queue.append([todo])
        else:
            queue += [[[p]] for p in todo]
    missing_courses = {p.course for p in missing.values() if p.recipe.mitigation is None}
    # Train all points of such a course, cached ones too: what a training computes must not depend on the cache.
    courses: dict[str, dict[str, StudyPoint]] = {}
    for p in (p for course_points in recipes for p in course_points if p.course in missing_courses):
        courses.setdefault(p.course, {})[p.key] = p
    by_length: dict[tuple[int, int], Job] = {}
    for course in courses.values():
        training = next(iter(course.values())).recipe.training
        by_length.setdefault((training.count_of_epochs, training.batch_size), []).append(
            list(course.values())
        )
    for stacked in by_length.values():
        queue += [stacked[i : i + _AT_A_TIME] for i in range(0, len(stacked), _AT_A_TIME)]
    return queue
