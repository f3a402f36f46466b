"""`training` and `replicas`: how one replica learns, and how the replicas differ."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from ranker.config.base import Section


class Optimizer(Section):
    """An optimizer by name. `epsilon` and `initial_accumulator` are Adagrad's (Adam uses `epsilon` too).

    `decay`: the learning rate falls to 0 over the training, along a line or a cosine; `none` keeps it.
    """

    name: Literal["adagrad", "sgd", "adam"] = "adagrad"
    learning_rate: Annotated[float, Field(gt=0)] = 0.05
    decay: Literal["none", "linear", "cosine"] = "none"
    epsilon: Annotated[float, Field(gt=0)] = 1e-7
    initial_accumulator: Annotated[float, Field(ge=0)] = 0.1


class Training(Section):
    """One replica's training.

    `shuffle_window`: how far (in rows) a row may move from the fixed base order; 1 keeps the order, `full`
    is a uniform permutation. `average_last`: the weights served are the mean over this last share of the
    steps (0: the last step's). `ema`: an exponential moving average's decay instead, 0 for none.
    `segment_rows`: up to so many training rows are held in memory; more are read in segments of this size while the
    trainer works, to the same result. `threads`: of one training process; the same number on the same kind of processor
    gives the same bytes.
    """

    epochs: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 256
    shuffle_window: Annotated[int, Field(ge=1)] | Literal["full"] = 256
    average_last: Annotated[float, Field(ge=0, le=1)] = 0.1
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    optimizer: Optimizer = Optimizer()
    segment_rows: Annotated[int, Field(ge=1)] = 4_000_000
    threads: Annotated[int, Field(ge=1)] = 1
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 1.0
    distribution: Literal["none", "multi_worker"] = "none"


class Replicas(Section):
    """How many copies, from which seed, and what differs between them."""

    count: Annotated[int, Field(ge=1, le=1000)] = 3
    seed: Annotated[int, Field(ge=0)] = 1
    vary: tuple[Literal["init", "shuffle"], ...] = ("shuffle",)

    @field_validator("vary")
    @classmethod
    def _unique(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("must not name a source twice")
        return value
