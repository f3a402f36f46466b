"""Independent replicas as one stack: a program each, compiled once for all of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ranker.architecture import Architecture, Weights
from ranker.config import Training
from ranker.seeds import Seeds
from ranker.training.step.program import Program
from ranker.training.step.stack import Stack


class Member(NamedTuple):
    """One tower to train: its model, how it learns, where its random numbers come from.

    `weights`: to begin with; default: initialised by `seeds`. `averages`: trainings that differ from `training` in nothing
    but the average, all of which are wanted; default: its own alone.
    """

    architecture: Architecture
    training: Training
    seeds: Seeds
    averages: tuple[Training, ...] = ()
    weights: Weights | None = None


def stack(members: Sequence[Member], lanes: int = 1, compiled: dict[str, Program] | None = None) -> Stack:
    """A stack of freshly initialised towers.

    Args:
        members: over the same inputs; they may differ in model and training, epochs and batch size apart.
        lanes: how many run at a time.
        compiled: programs over the same inputs and batch size whose compiled steps are used again, by shape; new
            ones are added.
    """
    programs: list[Program] = []
    like = {} if compiled is None else compiled
    for architecture, training, seeds, averages, weights in members:
        average_count = sum(
            averaging.average_last > 0 or averaging.ema > 0 for averaging in averages or (training,)
        )
        rule = training.optimizer.model_dump_json(
            exclude={"learning_rate", "decay", "final", "warmup", "initial_accumulator"}
        )
        shape = f"{architecture.model.model_dump_json()} {rule} {training.loss} {training.batch_size} {average_count}"
        start = [architecture.initialise(seeds) if weights is None else weights]
        noise = [seeds.noise]
        program = Program(
            architecture, training, start, averages=average_count, noise=noise, like=like.get(shape)
        )
        like.setdefault(shape, program)
        programs.append(program)
    return Stack(programs, lanes)
