"""Every activation at its best: the learning rate with the best AUC on validation requests."""

from __future__ import annotations

from collections.abc import Mapping

from ranker import divergence
from ranker.config import Experiment
from ranker.study.data import StudyData
from ranker.study.recipes import Overrides, arms
from ranker.study.trainings import Trainings

RATE = "training.optimizer.learning_rate"


def rates(experiment: Experiment, quick: bool) -> list[float]:
    """The configured learning rate, and its neighbours."""
    configured = experiment.training.optimizer.learning_rate
    return [configured, 2 * configured] if quick else [configured / 2, configured, 2 * configured]


def best_rates(
    experiment: Experiment, overrides: Mapping[str, Overrides], trainings: Trainings, quick: bool
) -> dict[str, Overrides]:
    """Adds to each recipe the learning rate that serves it best, found with one replica each.

    The validation requests that choose are not among those that studies report on.
    """
    tried = {
        f"{name}-rate-{rate:g}": {**recipe, RATE: rate}
        for name, recipe in overrides.items()
        for rate in rates(experiment, quick)
    }
    scores_by_name = trainings.scores(arms(experiment, tried), 1)
    quality = {
        name: validation_auc(trainings.data, recipe_scores.scores[0])
        for name, recipe_scores in scores_by_name.items()
    }
    best = {}
    for name, recipe in overrides.items():
        rate = max(rates(experiment, quick), key=lambda r: quality[f"{name}-rate-{r:g}"])
        best[name] = {**recipe, RATE: rate}
    return best


def validation_auc(data: StudyData, scores) -> float:
    """The AUC on the requests that choose."""
    return divergence.auc(data.label[data.validation], scores[data.validation])
