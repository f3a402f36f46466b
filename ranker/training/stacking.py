"""Independent replicas as one stack: a program each, compiled once for all of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ranker.architecture import Architecture
from ranker.config import Training
from ranker.seeds import Seeds
from ranker.training.program import Program
from ranker.training.stack import Stack


class Member(NamedTuple):
    """One tower to train: its model, how it learns, where its random numbers come from."""

    architecture: Architecture
    training: Training
    seeds: Seeds


def stack(members: Sequence[Member], lanes: int = 1) -> Stack:
    """A stack of freshly initialised towers.

    Args:
        members: over the same inputs; they may differ in model and training, epochs and batch size apart.
        lanes: how many run at a time.
    """
    programs: list[Program] = []
    like: dict[str, Program] = {}
    for architecture, training, seeds in members:
        averaging = training.average_last > 0 or training.ema > 0
        rule = training.optimizer.model_dump_json(exclude={"learning_rate", "decay"})
        shape = f"{architecture.model.model_dump_json()} {rule} {averaging}"
        start = [architecture.initialise(seeds)]
        program = Program(architecture, training, start, averaging=averaging, like=like.get(shape))
        like.setdefault(shape, program)
        programs.append(program)
    return Stack(programs, lanes)
