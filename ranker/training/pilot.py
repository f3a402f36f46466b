"""How long to train, decided once for all replicas of a run: `training.epochs: auto`.

A pilot of the deployed arm (or of the arm that had one in this run before), with seeds of its own, trains on the
training rows but the held-out ones, and stops when it no longer ranks those better. It is measured by the mean of its
weights over the last half of its epochs (see `ranker.training.early_stopping`), and every replica of every arm trains for as
many epochs as put the middle of its own average where the best of those means has its middle; each of them trains on all
training rows. Replicas that ended each at its own best epoch would differ in how long they had learned. No label of the eval
split takes part.

A thousand held-out rows do not tell a good epoch from a lucky one. So a small log has up to four pilots, side by side, that
hold out different rows, and their mean AUC decides (cross-validation). With `initial_accumulator: auto` a small log has them
for each of two values, and the pair of value and epoch with the highest mean decides: logs of rare ids need the small value
(ten thousand rows with 26 columns of ids: AUC 0.64 against 0.60 on held-out rows), logs of few numbers the large one.

The AUC goes on rising long after the loss has begun to rise on logs whose users and items come back (Frappe: epoch 23
against epoch 3): the probabilities become too sure before the order stops improving.

The decision is kept in the run directory under a fingerprint of everything that it follows from, so every process finds the
same, and a second run none to make.
"""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ranker.architecture import design
from ranker.config import Experiment, Optimizer, Training
from ranker.files import write_whole
from ranker.inputs import Inputs, plan
from ranker.json_text import json_text
from ranker.seeds import Seeds
from ranker.training import checkpoint as checkpoints
from ranker.training.early_stopping import EarlyStopping, half_starts_after
from ranker.training.held_out import held_out_rows, hold_out
from ranker.training.rows.feed import Feed
from ranker.training.specs import decision_path, pilot_arm, pilot_key
from ranker.training.step.program import Program
from ranker.training.step.stacking import Member, stack
from ranker.training.trainer import Progress, train

_PILOT = 0x9170
_MIN_STEPS = 50
"""No epoch that ends before is chosen. On few rows a step or two of the first epochs may rank the few held-out rows well by
chance, and a model that has hardly begun differs much from one training to the next."""
_PATIENCE_STEPS = 100
"""No pilot ends before so many steps have passed since its best epoch: epochs of a small log are short."""
_ACCUMULATORS = (0.1, 0.0001)
"""What `initial_accumulator: auto` chooses from; the first where there are more than the rows below."""
_FEW_ROWS = 50_000
"""Up to so many training rows more than one initial accumulator is tried."""


@dataclass(frozen=True)
class EpochsDecision:
    """How many epochs, and why.

    Attributes:
        epochs: of every replica.
        training: the pilot's mean training loss of each epoch.
        validation: the loss of the held-out rows after each epoch.
        auc: their AUC after each epoch; empty where the loss decided.
        rows: how many were held out.
        initial_accumulator: Adagrad's, of every arm that has `auto`.
        reason: in words, for the report.
    """

    epochs: int
    training: list[float]
    validation: list[float]
    auc: list[float]
    rows: int
    initial_accumulator: float
    reason: str


def read_decision(run: Path, key: str) -> EpochsDecision | None:
    """The decision, None where there is none yet."""
    try:
        return EpochsDecision(**json.loads(decision_path(run, key).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def decide(
    experiment: Experiment,
    run: Path,
    manifest: Mapping[str, Any],
    feed: Callable[[Experiment, Inputs], Feed],
    report: Callable[[Progress], None] = lambda progress: None,
    compiled: Callable[[Inputs], dict[str, Program]] = lambda inputs: {},
    lanes: int = 1,
) -> EpochsDecision:
    """The number of epochs where `training.epochs` is `auto`; trains the pilot if that is not known yet.

    Processes of one machine that need the decision at once wait for the first of them.

    Args:
        experiment: the whole configuration.
        run: the run directory, after `prepare`.
        manifest: of the prepared data.
        feed: the training rows as the deployed arm reads them.
        report: called about once a second with the pilot's progress.
        compiled: gives the compiled steps over inputs; see `ranker.training.step.stacking.stack`.
        lanes: how many pilots train at a time.

    Raises:
        UserError: there are too few rows to hold any out, or the pilot's loss is not finite.
    """
    pilot = pilot_arm(experiment, manifest, run)
    key = pilot_key(experiment, manifest, pilot)
    path = decision_path(run, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _only_process(path.with_suffix(".lock")):
        decision = read_decision(run, key)
        if decision is None:
            arm = experiment.arm(pilot)
            inputs = plan(arm, run)
            checkpoint = checkpoints.path(path.parent, key)
            checkpoints.sweep(path.parent, keep=key)
            rows = feed(arm, inputs)
            decision = _train_pilot(arm, run, inputs, rows, checkpoint, report, compiled(inputs), lanes)
            write_whole(path, json_text(asdict(decision)))
            checkpoint.unlink(missing_ok=True)
        return decision


def _train_pilot(
    arm: Experiment,
    run: Path,
    inputs: Inputs,
    feed: Feed,
    checkpoint: Path,
    report: Callable[[Progress], None],
    compiled: dict[str, Program],
    lanes: int,
) -> EpochsDecision:
    architecture = design(inputs, arm.model)
    optimizer = arm.training.optimizer.model_copy(update={"decay": "none", "warmup": 0.0})
    # An average of one kind or another, as the replicas have it: so it has their compiled step.
    training = arm.training.model_copy(
        update={
            "epochs": arm.training.max_epochs,
            "average_last": 1.0,
            "ema": 0.0,
            "optimizer": optimizer,
            "distribution": "none",
        }
    )
    trainings = [
        training.model_copy(
            update={"optimizer": optimizer.model_copy(update={"initial_accumulator": accumulator})}
        )
        for accumulator in _accumulators(optimizer, feed.rows)
    ]
    held_out = hold_out(arm, run, feed.rows)
    rows = held_out_rows(run, arm, inputs, held_out, feed)
    per_epoch = math.ceil(feed.rows / training.batch_size)
    stopping = EarlyStopping(
        architecture,
        rows,
        held_out,
        training,
        per_epoch,
        first=min(math.ceil(_MIN_STEPS / per_epoch), training.max_epochs),
        patience=max(training.patience, math.ceil(_PATIENCE_STEPS / per_epoch)),
        candidates=len(trainings),
    )
    seeds = [_seeds(arm.replicas.seed, fold) for fold in range(len(rows))] * len(trainings)
    trainings_of = [training for training in trainings for _ in rows]
    members = [
        Member(architecture, settings, seed) for settings, seed in zip(trainings_of, seeds, strict=True)
    ]
    trained = train(
        stack(members, lanes, compiled),
        feed,
        trainings_of,
        seeds,
        checkpoint,
        lambda progress: report(replace(progress, pilot=True)),
        names=[f"pilot {i + 1}" for i in range(len(members))],
        validation=stopping,
    )
    best, count = stopping.best_candidate, int(held_out.sum())
    epochs = _averaged_about(stopping.best_middle, arm.training)
    losses, aucs = stopping.curves(best)
    accumulator = trainings[best].optimizer.starting_accumulator
    measure, extreme = ("AUC", "highest") if stopping.measures_auc else ("loss", "lowest")
    whose = f"the mean {measure} of {len(rows)} pilots" if len(rows) > 1 else f"the pilot's {measure}"
    reason = f"{whose} on {count:,} held-out training rows was {extreme} after epoch {stopping.best} of {len(losses)}"
    if stopping.best > 1:
        reason += (
            f" (with weights averaged over epochs {half_starts_after(stopping.best) + 1} to {stopping.best})"
        )
    if len(trainings) > 1:
        reason += f", with an initial accumulator of {accumulator:g}"
    curve = trained.curve.reshape(len(trained.curve), len(trainings), len(rows))[: len(losses), best]
    return EpochsDecision(
        epochs=epochs,
        training=curve.mean(axis=1).tolist(),
        validation=losses,
        auc=aucs,
        rows=count,
        initial_accumulator=accumulator,
        reason=reason,
    )


def _averaged_about(middle: float, training: Training) -> int:
    """Of how many epochs the served average of the weights has its middle there."""
    before_the_end = 0.0 if training.ema else training.average_last / 2
    return min(max(round(middle / (1 - before_the_end)), 1), training.max_epochs)


def _accumulators(optimizer: Optimizer, rows: int) -> tuple[float, ...]:
    if optimizer.initial_accumulator != "auto":
        return (optimizer.initial_accumulator,)
    return _ACCUMULATORS if optimizer.name == "adagrad" and rows <= _FEW_ROWS else _ACCUMULATORS[:1]


def _seeds(seed: int, fold: int) -> Seeds:
    init, shuffle = np.random.SeedSequence([_PILOT, seed, *([fold] if fold else [])]).generate_state(2) >> 1
    return Seeds(int(init), int(shuffle))


@contextmanager
def _only_process(path: Path) -> Iterator[None]:
    """Waits until no other process holds the lock; the system lets go of it when a process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
