"""Trains replicas by each recipe: which models, from which seeds, on which labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ranker.architecture import Architecture, Weights
from ranker.config import (
    Anchor,
    Codistillation,
    Distillation,
    Ensemble,
    Experiment,
    SelfEnsemble,
    Training,
)
from ranker.errors import UserError
from ranker.mitigation.learned import Learned, predict, split_towers
from ranker.mitigation.objectives import anti_distillation, codistillation
from ranker.mitigation.teachers import anchor_predictions, mixed
from ranker.seeds import Seeds, derive
from ranker.training.rows.examples import Examples
from ranker.training.rows.feed import Feed, Memory
from ranker.training.step.objective import objective_of
from ranker.training.step.program import Program
from ranker.training.step.stack import Stack
from ranker.training.step.stacking import Member, stack
from ranker.training.trainer import Progress, Trained, train

Report = Callable[[Progress], None]
_TEACHER = 0x7EAC


@dataclass(frozen=True)
class Setting:
    """What all trainings of one call share.

    Attributes:
        architecture: of every tower.
        training: of every tower.
        rows: the rows, in memory or a feed of them.
        lanes: how many independent trainings run at a time.
        report: called about once a second.
    """

    architecture: Architecture
    training: Training
    rows: Examples | Feed
    lanes: int
    report: Report

    @property
    def examples(self) -> Examples:
        """The rows in memory, where a teacher labels them.

        Raises:
            UserError: they are read in segments.
        """
        if isinstance(self.rows, Examples):
            return self.rows
        if not isinstance(self.rows, Memory):
            raise UserError(
                "mitigation: distillation and the anchor need the training rows in memory; raise training.segment_rows"
            )
        return next(self.rows.parts(1, self.rows.rows, 1)).examples


def learn(
    experiment: Experiment,
    run: Path,
    architecture: Architecture,
    rows: Examples | Feed,
    replicas: Sequence[Seeds],
    lanes: int = 1,
    checkpoint: Path | None = None,
    report: Report = lambda progress: None,
    names: Sequence[str] | None = None,
) -> list[Learned]:
    """Trains replicas of one arm by the arm's recipe.

    Args:
        experiment: of one arm.
        run: the run directory, where an anchor may lie.
        architecture: of the arm's model.
        rows: the training rows.
        replicas: the seeds of each; with co-distillation, those of the whole arm.
        lanes: how many independent trainings run at a time, each on a thread.
        checkpoint: see `ranker.training.trainer.train`.
        report: called about once a second.
        names: what each replica is called in an error.

    Returns:
        One entry a replica. Of one that is not finite `Learned.failure` says what; nothing of it may be published.

    Raises:
        UserError: an anchor that is not there or does not fit; a teacher, or a replica that learns together with
            others, that is not finite.
    """
    names = names or [f"replica {i}" for i in range(len(replicas))]
    setting = Setting(architecture, experiment.training, rows, lanes, report)
    recipe = experiment.mitigation
    if isinstance(recipe, Ensemble):
        return _ensembles(setting, replicas, recipe.components, checkpoint)
    if isinstance(recipe, SelfEnsemble):
        return _self_ensembles(setting, replicas, recipe, checkpoint)
    if isinstance(recipe, Codistillation):
        return _codistilled(setting, replicas, recipe, checkpoint, names)
    if isinstance(recipe, Distillation):
        return [
            _student(setting, seeds, recipe, checkpoint, name)
            for seeds, name in zip(replicas, names, strict=True)
        ]
    if isinstance(recipe, Anchor):
        return _anchored(
            setting=setting,
            experiment=experiment,
            run=run,
            replicas=replicas,
            recipe=recipe,
            checkpoint=checkpoint,
        )
    return _ensembles(setting, replicas, 1, checkpoint)


def components(seeds: Seeds, count: int) -> list[Seeds]:
    """Seeds of a replica's components: its own first; the others differ in the initialisation."""
    initialisations = [
        np.random.SeedSequence([seeds.init, i]).generate_state(1)[0] >> 1 for i in range(1, count)
    ]
    return [seeds, *(Seeds(int(init), seeds.shuffle) for init in initialisations)]


def _train(
    setting: Setting,
    seeds: Sequence[Seeds],
    checkpoint: Path | None,
    examples: Examples | None = None,
    teachers_of: str = "",
) -> Trained:
    members = [Member(setting.architecture, setting.training, member_seeds) for member_seeds in seeds]
    return train(
        stack(members, setting.lanes),
        setting.rows if examples is None else examples,
        setting.training,
        seeds,
        checkpoint,
        setting.report,
        names=[f"teacher {i} of {teachers_of}" for i in range(len(seeds))],
        partial=not teachers_of,
    )


def _ensembles(
    setting: Setting, replicas: Sequence[Seeds], count: int, checkpoint: Path | None
) -> list[Learned]:
    seeds = [component for replica in replicas for component in components(replica, count)]
    return split_towers(_train(setting, seeds, checkpoint), len(replicas))


def _self_ensembles(
    setting: Setting, replicas: Sequence[Seeds], recipe: SelfEnsemble, checkpoint: Path | None
) -> list[Learned]:
    objective = anti_distillation(
        recipe.decorrelation, objective_of(setting.training, setting.architecture.inputs.target)
    )
    programs: list[Program] = []
    for replica in replicas:
        starts = [
            setting.architecture.initialise(component) for component in components(replica, recipe.components)
        ]
        programs.append(
            Program(
                setting.architecture,
                setting.training,
                starts,
                tables=[0] * recipe.components,
                objective=objective,
                noise=[component.noise for component in components(replica, recipe.components)],
                like=programs[0] if programs else None,
            )
        )
    orders = [replica for replica in replicas for _ in range(recipe.components)]
    trained = train(
        Stack(programs, setting.lanes),
        setting.rows,
        setting.training,
        orders,
        checkpoint,
        setting.report,
        partial=True,
    )
    return split_towers(trained, len(replicas), shared=True)


def _codistilled(
    setting: Setting,
    replicas: Sequence[Seeds],
    recipe: Codistillation,
    checkpoint: Path | None,
    names: Sequence[str],
) -> list[Learned]:
    program = Program(
        setting.architecture,
        setting.training,
        [setting.architecture.initialise(replica) for replica in replicas],
        objective=codistillation(len(replicas), recipe.weight, recipe.burn_in),
        together=True,
        noise=[replica.noise for replica in replicas],
    )
    trained = train(
        program, setting.rows, setting.training, replicas, checkpoint, setting.report, names=names
    )
    return split_towers(trained, len(replicas))


def _student(
    setting: Setting, seeds: Seeds, recipe: Distillation, checkpoint: Path | None, name: str
) -> Learned:
    teachers = _train(setting, components(_teacher_seeds(seeds), recipe.components), None, teachers_of=name)
    soft = _soft(setting, teachers.weights)
    student = _train(setting, [seeds], checkpoint, mixed(setting.examples, soft, recipe.weight))
    return split_towers(student, 1, more_seconds=teachers.seconds)[0]


def _anchored(
    setting: Setting,
    experiment: Experiment,
    run: Path,
    replicas: Sequence[Seeds],
    recipe: Anchor,
    checkpoint: Path | None,
) -> list[Learned]:
    seconds = 0.0
    if recipe.replica is None:
        rows = setting.examples
        for link in range(recipe.chain):
            vary = ("init", "shuffle") if link else ()
            seeds = [_teacher_seeds(derive(experiment.replicas.seed, link, vary))]
            anchor = _train(setting, seeds, None, rows, teachers_of="all replicas (the anchor)")
            rows = mixed(setting.examples, _soft(setting, anchor.weights), recipe.weight)
            seconds += anchor.seconds
    else:
        soft = anchor_predictions(run, recipe.replica, experiment)
        rows = mixed(setting.examples, soft, recipe.weight)
    return split_towers(_train(setting, replicas, checkpoint, rows), len(replicas), more_seconds=seconds)


def _soft(setting: Setting, weights: Sequence[Weights]) -> np.ndarray:
    return predict(setting.architecture, weights, setting.examples)


def _teacher_seeds(seeds: Seeds) -> Seeds:
    """Seeds of a teacher: derived from the student's seeds, and different from them."""
    init, shuffle = np.random.SeedSequence([_TEACHER, seeds.init, seeds.shuffle]).generate_state(2) >> 1
    return Seeds(int(init), int(shuffle))
