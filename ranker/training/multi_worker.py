"""One replica on several machines, for a model or a log too large for one: Keras under MultiWorkerMirroredStrategy.

Every machine runs the same command with its own TF_CONFIG, on a run directory that all of them see. Each takes its share of
the very batches a single machine would train on, so the replica is the same up to the rounding of sums. The weights are on
all machines; the chief publishes them as an ordinary replica. Adam is Keras' own here: it moves all rows of a table.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ranker.architecture import Architecture
from ranker.backend import keras, tf
from ranker.config import Experiment, Training
from ranker.errors import UserError
from ranker.model import RankingModel
from ranker.seeds import Seeds
from ranker.training import checkpoint as checkpoints
from ranker.training.publish import finished
from ranker.training.rows import order as row_order
from ranker.training.rows.batches import batches
from ranker.training.rows.feed import Feed
from ranker.training.step.finite import Health
from ranker.training.step.schedule import schedule
from ranker.training.trainer import Progress, Trained

_REPORT_SECONDS = 1.0
_CHECKED_STEPS = 100


def join(experiment: Experiment) -> tf.distribute.Strategy | None:
    """Joins the machines of TF_CONFIG; None where the experiment trains on one. Call before anything else of TensorFlow.

    Raises:
        UserError: TF_CONFIG is not there, or the recipe is one that only a single machine trains.
    """
    training = experiment.training
    if training.distribution == "none":
        return None
    try:
        cluster = json.loads(os.environ["TF_CONFIG"])["cluster"]
        workers = sum(len(cluster.get(kind, ())) for kind in ("chief", "worker"))
    except (KeyError, ValueError, TypeError, AttributeError):
        raise UserError(
            "training.distribution 'multi_worker' needs TF_CONFIG in the environment of every machine, JSON with"
            f" `cluster` and `task`. Received: {os.environ.get('TF_CONFIG')!r}"
        ) from None
    model, optimizer = experiment.model, training.optimizer
    extras = model.embedding_l2, model.dropout, optimizer.weight_decay, optimizer.sharpness
    if experiment.mitigation or any(extras):
        raise UserError(
            "training.distribution 'multi_worker' trains plain recipes: no mitigation, embedding_l2, dropout,"
            " weight_decay or sharpness"
        )
    if training.batch_size % workers:
        raise UserError(
            f"training.batch_size must be a multiple of the {workers} workers in TF_CONFIG."
            f" Received: {training.batch_size}"
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this machine publishes."""
    resolver = strategy.cluster_resolver
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (not has_chief and resolver.task_id == 0)


def published(base: Path, key: str, seconds: float = 3600.0) -> int:
    """Waits until the chief has published the replica of a key; returns its version.

    Raises:
        UserError: it is not there after so many seconds.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        version = finished(base, key)
        if version is not None:
            return version
        time.sleep(0.2)
    raise UserError(
        f"{base}: the chief has not published within {seconds:g} s; do all machines see this directory?"
    )


def train(
    strategy: tf.distribute.Strategy,
    architecture: Architecture,
    training: Training,
    feed: Feed,
    seeds: Seeds,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    name: str = "the replica",
) -> Trained:
    """Trains one replica together with the other machines; arguments and result as `ranker.training.trainer.train`."""
    per_epoch = math.ceil(feed.rows / training.batch_size)
    steps = per_epoch * training.count_of_epochs
    with strategy.scope():
        model = _Sharded(architecture)
        model.assign(architecture.initialise(seeds))
        optimizer = _optimizer(training, steps)
        optimizer.build(model.trainable_variables)
        # A step is a few milliseconds of arithmetic: Keras' own progress and metrics would cost as much.
        model.compile(optimizer=optimizer)
    health = Health([name], [training], partial=False)
    course = _Course(
        model=model,
        training=training,
        steps=steps,
        checkpoint=checkpoint if is_chief(strategy) else None,
        report=report,
        health=health,
    )
    start = course.restore(checkpoint)

    def rows_of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        share = context.input_pipeline_id, context.num_input_pipelines
        size = training.batch_size // context.num_input_pipelines
        inputs = architecture.inputs
        row = [
            {
                "ids": tf.TensorSpec([size, inputs.id_width], tf.int32),
                "dense": tf.TensorSpec([size, inputs.dense_width], tf.float32),
            },
            tf.TensorSpec([size], tf.float32),
            tf.TensorSpec([size], tf.float32),
        ]
        rows = tf.data.Dataset.from_generator(
            lambda: _rows(feed, training, seeds, start, share), output_signature=tuple(row)
        )
        return rows.prefetch(4)

    if start < steps:
        rows = strategy.distribute_datasets_from_function(rows_of_worker)
        model.fit(rows, epochs=1, steps_per_epoch=steps - start, callbacks=[course], verbose=0)
    weights = course.averaged()
    health.check_weights(0, weights, steps)
    # Each machine sees only its share of the losses.
    curve = np.zeros((0, 1))
    return Trained(
        weights=[weights],
        loss=(course.loss,),
        steps=steps,
        seconds=time.monotonic() - course.began,
        curve=curve,
        failures=("",),
    )


class _Sharded(RankingModel):
    """The model on one machine's share of a batch: its losses add up to the whole batch's mean."""

    def compute_loss(self, inputs, training: bool = False) -> tf.Tensor:
        features, label, share = inputs
        logits = self.logits(features)[:, 0]
        return tf.reduce_sum(share * tf.nn.sigmoid_cross_entropy_with_logits(labels=label, logits=logits))


class _Rates(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each step."""

    def __init__(self, rates: np.ndarray):
        self._rates = rates

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.constant(self._rates), tf.minimum(tf.cast(step, tf.int32), len(self._rates) - 1))

    def get_config(self) -> dict:
        return {"rates": self._rates}


def _optimizer(training: Training, steps: int) -> keras.optimizers.Optimizer:
    settings = training.optimizer
    rate = _Rates(schedule(training, steps).rate)
    average = {"use_ema": True, "ema_momentum": training.ema} if training.ema else {}
    if settings.name == "sgd":
        return keras.optimizers.SGD(rate, settings.momentum, **average)
    if settings.name == "adam":
        return keras.optimizers.Adam(rate, settings.beta_1, settings.beta_2, settings.epsilon, **average)
    if settings.name == "rmsprop":
        return keras.optimizers.RMSprop(rate, settings.rho, epsilon=settings.epsilon, **average)
    return keras.optimizers.Adagrad(rate, settings.starting_accumulator, settings.epsilon, **average)


def _rows(
    feed: Feed, training: Training, seeds: Seeds, step: int, share: tuple[int, int]
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
    """This machine's rows of every batch from a step on: features, labels, and weights over the batch's real rows."""
    index, workers = share
    epoch, at = divmod(step, math.ceil(feed.rows / training.batch_size))
    window = feed.rows if training.shuffle_window == "full" else training.shuffle_window
    block = row_order.EPOCH_BLOCK if training.reshuffle else 1
    for part in feed.parts(
        training.count_of_epochs, window, training.batch_size, epoch, at * training.batch_size, block
    ):
        examples = part.examples
        ids, dense = np.asarray(examples.ids), np.asarray(examples.dense)
        label, weight = np.asarray(examples.label), np.asarray(examples.weight)
        for batch in batches(part, feed.rows, [training], [seeds])[:, 0]:
            is_row = batch >= 0
            worker_rows = np.split(batch, workers)[index]
            share_of = np.where(worker_rows >= 0, weight[worker_rows], 0.0) / is_row.sum()
            yield (
                {"ids": ids[worker_rows], "dense": dense[worker_rows]},
                label[worker_rows],
                share_of.astype(np.float32),
            )


class _Course(keras.callbacks.Callback):
    """What goes on beside the steps: averaging, checkpoints, progress."""

    def __init__(
        self,
        model: RankingModel,
        training: Training,
        steps: int,
        checkpoint: Path | None,
        report: Callable[[Progress], None],
        health: Health,
    ):
        super().__init__()
        self.began, self.loss = time.monotonic(), math.nan
        self._ranker, self._training, self._steps = model, training, steps
        self._checkpoint, self._report, self._health = checkpoint, report, health
        self._last = 0 if training.ema else round(training.average_last * steps)
        self._sums = {
            n: np.zeros(v.shape, np.float64) for n, v in model.named_variables().items() if self._last
        }
        self._step = self._done = 0
        self._reported = self._saved = self.began

    def restore(self, checkpoint: Path | None) -> int:
        """Goes on from a checkpoint if there is one; returns the steps done. All machines read the same file."""
        saved = None if checkpoint is None else checkpoints.restore(checkpoint)
        if saved is not None:
            self._step, state = saved
            for i, variable in enumerate(self._variables()):
                variable.assign(state[f"variable/{i}"])
            self._sums = {name: state[f"sum/{name}"] for name in self._sums}
        return self._step

    def averaged(self) -> dict[str, np.ndarray]:
        """The weights to serve."""
        if not self._last:
            return {name: variable.numpy() for name, variable in self._ranker.named_variables().items()}
        return {name: (total / self._last).astype(np.float32) for name, total in self._sums.items()}

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._step, self._done = self._step + 1, self._done + 1
        if self._step > self._steps - self._last:
            for name, variable in self._ranker.named_variables().items():
                self._sums[name] += variable.numpy()
        if self._step % _CHECKED_STEPS == 0:
            # The weights are the same on all machines, so all stop in the same step; a loss is each machine's own.
            weights = {name: v.numpy() for name, v in self._ranker.named_variables().items()}
            self._health.check_weights(0, weights, self._step)
        now = time.monotonic()
        if now - self._reported >= _REPORT_SECONDS or self._step == self._steps:
            # The loss of this machine's share, times the shares.
            self.loss = (
                float((logs or {}).get("loss", math.nan))
                * self._ranker.distribute_strategy.num_replicas_in_sync
            )
            rate = self._done * self._training.batch_size / (now - self.began)
            self._report(
                Progress(
                    step=self._step,
                    steps=self._steps,
                    loss=(self.loss,),
                    examples_per_second=rate,
                    done=self._done,
                    seconds=now - self.began,
                )
            )
            self._reported = now
        due = now - self._saved >= 60 * self._training.checkpoint_minutes
        if self._checkpoint is not None and due and self._step < self._steps:
            state = {f"variable/{i}": variable.numpy() for i, variable in enumerate(self._variables())}
            state |= {f"sum/{name}": total for name, total in self._sums.items()}
            checkpoints.save(self._checkpoint, self._step, state)
            self._saved = time.monotonic()

    def _variables(self) -> list[tf.Variable]:
        return [*self._ranker.named_variables().values(), *self._ranker.optimizer.variables]
