"""`training` and `replicas`: how one replica learns, and how the replicas differ."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ranker.config.base import Section

MAX_COMPARED_ROWS = 4096
"""Rows of a batch in which a loss compares rows: its memory grows with their square."""


class Optimizer(Section):
    """An optimizer by name, with Keras' formulas.

    `initial_accumulator` is Adagrad's: with 0.1 weights with small gradients, such as those of rare ids, learn slowly at
    first, with 0.0001 all learn at once. `auto`: where `training.epochs` is `auto` too, the pilot chooses between these
    two on a log of few rows; else it is 0.1. `beta_1` and `beta_2` are Adam's, `rho` is RMSprop's, `momentum` SGD's;
    `epsilon` is for all but SGD. `weight_decay` shrinks the kernels of the towers by this share times the learning rate
    each step (decoupled from the gradient, as in AdamW); biases and embeddings are left alone.

    `sharpness`: each step's gradient is the one at the weights plus a step uphill of this length (sharpness-aware
    minimisation, Foret et al. 2021, arXiv 2010.01412, whose rho this is); a step then costs twice as much. 0: none.

    The learning rate rises along a line over the share `warmup` of the training. `decay`: then it falls to the share
    `final` of itself, along a line, a cosine or an exponential; `none` keeps it.
    """

    name: Literal["adagrad", "sgd", "adam", "rmsprop"] = "adagrad"
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    decay: Literal["none", "linear", "cosine", "exponential"] = "none"
    final: Annotated[float, Field(ge=0, le=1)] = 0.0
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-7
    initial_accumulator: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["auto"] = "auto"
    beta_1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    rho: Annotated[float, Field(ge=0, lt=1)] = 0.9
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    sharpness: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _falls_to_something(self) -> Optimizer:
        if self.decay == "exponential" and self.final == 0:
            raise ValueError("final must be > 0 for the exponential decay. Received: final=0")
        return self

    @property
    def starting_accumulator(self) -> float:
        """Adagrad's sum of squares at the beginning; 0.1, Keras' default, where it is `auto` and no pilot has chosen it."""
        return 0.1 if self.initial_accumulator == "auto" else self.initial_accumulator


class Training(Section):
    """One replica's training.

    `loss`: `pointwise`, the cross-entropy of each row; `pairwise`, the logistic loss of pairs of a request's rows
    (RankNet); `listwise`, the cross-entropy of the softmax over a request's rows. The last two learn `data.grade` where it
    is set, keep the rows of a request together, and give scores that order and are no probabilities of the label.

    `epochs: auto`: before the replicas, a pilot of the deployed arm trains with seeds of its own on all training rows
    but the share `validation` of them, for at most `max_epochs`, until `patience` epochs have not raised the AUC of
    those rows, ranked by the mean of the pilot's weights over the last half of its epochs. The epoch with the highest
    AUC (of those that end after 50 steps or more) decides for every replica of every arm, each on all training rows:
    their averages of the weights lie about the same epoch as that mean. Of a log of few rows there are up to four
    pilots that hold out different rows, and their mean decides; none ends before 100 steps after its best epoch.
    `validation_measure: loss` takes the lowest loss instead:
    fewer epochs, whose probabilities are better calibrated and whose order is worse. Where there is no AUC (a
    regression, labels between 0 and 1, `pairwise` and `listwise`) the loss decides.

    `shuffle_window`: how far (in rows) a row may move from the base order; 1 keeps the order, `full` is a uniform
    permutation. `reshuffle`: each epoch after the first has another base order, the same for all replicas and arms.
    `average_last`: the weights served are the mean over this last share of the steps (0: the last step's). `ema`: an
    exponential moving average's decay instead, 0 for none.
    `warm_start`: an earlier replica's SavedModel (a version's directory or a model base path, absolute or relative to the
    run directory) whose weights the training begins with; `{replica}` in it stands for the replica's own number. The
    pilot's held-out rows would be rows that the earlier replica has learnt, so `epochs` must be a number.
    `segment_rows`: at most so many training rows are held in memory; of more a third of that is read at a time while the
    trainer works, to the same result. `threads`: of one training process; the same number on the same kind of processor
    gives the same bytes.
    """

    epochs: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    max_epochs: Annotated[int, Field(ge=1)] = 200
    patience: Annotated[int, Field(ge=1)] = 3
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    validation_measure: Literal["auc", "loss"] = "auc"
    loss: Literal["pointwise", "pairwise", "listwise"] = "pointwise"
    batch_size: Annotated[int, Field(ge=1)] = 256
    shuffle_window: Annotated[int, Field(ge=1)] | Literal["full"] = 256
    reshuffle: bool = False
    average_last: Annotated[float, Field(ge=0, le=1)] = 0.1
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    optimizer: Optimizer = Optimizer()
    segment_rows: Annotated[int, Field(ge=1)] = 4_000_000
    threads: Annotated[int, Field(ge=1)] = 1
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 1.0
    distribution: Literal["none", "multi_worker"] = "none"
    warm_start: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _workers_are_told(self) -> Training:
        if self.distribution == "multi_worker" and self.epochs == "auto":
            raise ValueError(
                "epochs must be a number where distribution is 'multi_worker'. Received: epochs=auto"
            )
        return self

    @model_validator(mode="after")
    def _warm_start_is_possible(self) -> Training:
        if self.warm_start is not None and self.epochs == "auto":
            raise ValueError("epochs must be a number where warm_start is set. Received: epochs=auto")
        if self.warm_start is not None and self.distribution != "none":
            raise ValueError(
                f"distribution must be none where warm_start is set. Received: {self.distribution}"
            )
        return self

    @model_validator(mode="after")
    def _loss_fits(self) -> Training:
        if self.compares_rows and self.distribution != "none":
            raise ValueError(
                f"loss must be pointwise where distribution is 'multi_worker'. Received: {self.loss}"
            )
        if self.compares_rows and self.reshuffle:
            raise ValueError(
                f"reshuffle must be false where the loss is {self.loss}, whose requests stay whole. Received: true"
            )
        if self.compares_rows and self.batch_size > MAX_COMPARED_ROWS:
            raise ValueError(
                f"batch_size must be at most {MAX_COMPARED_ROWS} where the loss is {self.loss}: each row meets all of its"
                f" batch. Received: {self.batch_size}"
            )
        return self

    @property
    def compares_rows(self) -> bool:
        """Whether the loss compares the rows of a request."""
        return self.loss != "pointwise"

    @property
    def count_of_epochs(self) -> int:
        """The number of epochs.

        Raises:
            ValueError: it is `auto`, and nobody has chosen it yet (see `ranker.training.pilot`).
        """
        if self.epochs == "auto":
            raise ValueError("training.epochs is 'auto': a pilot must choose it first")
        return self.epochs


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
