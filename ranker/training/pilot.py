"""How long to train, decided once for all replicas of a run: `training.epochs: auto`.

A pilot of the deployed arm (or of the arm that had one in this run before), with seeds of its own, trains on the
training rows but the held-out ones, and stops when it no longer ranks those better. The epoch with the highest AUC (or the
lowest loss, see `training.validation_measure`) is the number of epochs of every replica of every arm; each of them trains on
all training rows. Replicas that ended each at its own best epoch would differ in how long they had learned. No label of the
eval split takes part.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ranker import layout
from ranker.architecture import Architecture, Weights, design
from ranker.backend import tf
from ranker.config import Experiment, Optimizer, Training
from ranker.config.data import Split
from ranker.divergence.quality import auc
from ranker.errors import UserError
from ranker.files import write_whole
from ranker.inputs import Inputs, plan
from ranker.json_text import json_text
from ranker.seeds import Seeds
from ranker.training import checkpoint as checkpoints
from ranker.training.predict import predict
from ranker.training.rows.examples import Examples, blocks
from ranker.training.rows.feed import Feed, Memory
from ranker.training.specs import decision_path, pilot_arm, pilot_key
from ranker.training.step.objective import held_out_loss
from ranker.training.step.program import Program
from ranker.training.step.stacking import Member, stack
from ranker.training.trainer import Progress, train

_PILOT = 0x9170
_MIN_STEPS = 50
"""No epoch that ends before is chosen. On few rows a step or two of the first epochs may rank the few held-out rows well by
chance, and a model that has hardly begun differs much from one training to the next."""
_PATIENCE_STEPS = 300
"""No pilot ends before so many steps have passed since its best epoch: epochs of a small log are short."""
_ACCUMULATORS = (0.1, 0.0001)
"""What `initial_accumulator: auto` chooses from; the first where there are more than the rows below."""
_FEW_ROWS = 50_000
"""Up to so many training rows more than one initial accumulator is tried."""
_ENOUGH_ROWS, _MAX_FOLDS = 4_000, 4
"""There are as many pilots as it takes to hold out so many rows in all, but at most four."""
_ROWS = 200_000
"""Held-out rows at most: enough to tell two epochs apart, and they are in memory."""


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
    # It averages as the replicas do, and makes no use of that: so it has their compiled step.
    training = arm.training.model_copy(
        update={"epochs": arm.training.max_epochs, "optimizer": optimizer, "distribution": "none"}
    )
    trainings = [
        training.model_copy(
            update={"optimizer": optimizer.model_copy(update={"initial_accumulator": accumulator})}
        )
        for accumulator in _accumulators(optimizer, feed.rows)
    ]
    held_out = hold_out(arm, run, feed.rows)
    rows = _rows(run, arm, inputs, held_out, feed)
    per_epoch = math.ceil(feed.rows / training.batch_size)
    stopping = EarlyStopping(
        architecture,
        rows,
        held_out,
        training,
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
    epochs = _averaged_about(stopping.best, training)
    losses, aucs = stopping.curves(best)
    accumulator = trainings[best].optimizer.starting_accumulator
    measure, extreme = ("AUC", "highest") if stopping.measures_auc else ("loss", "lowest")
    whose = f"the mean {measure} of {len(rows)} pilots" if len(rows) > 1 else f"the pilot's {measure}"
    reason = f"{whose} on {count:,} held-out training rows was {extreme} after epoch {stopping.best} of {len(losses)}"
    if epochs != stopping.best:
        reason += f"; the average of the weights over the last {training.average_last:.0%} of {epochs} lies about it"
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


def _averaged_about(best: int, training: Training) -> int:
    """Of how many epochs the served average of the weights has its middle at the best one."""
    return best if training.ema else min(round(best / (1 - training.average_last / 2)), training.max_epochs)


def _accumulators(optimizer: Optimizer, rows: int) -> tuple[float, ...]:
    if optimizer.initial_accumulator != "auto":
        return (optimizer.initial_accumulator,)
    return _ACCUMULATORS if optimizer.name == "adagrad" and rows <= _FEW_ROWS else _ACCUMULATORS[:1]


class EarlyStopping:
    """Ends a training when held-out rows have not been ranked better for some epochs.

    Better is a higher AUC; a lower loss where `training.validation_measure` says so, and where there is no AUC: labels that
    are no classes, rows of one class, a loss that compares rows. Of several candidates each ends by itself, and all end when
    the best epoch of any of them lies so far back.

    Args:
        architecture: of the models.
        rows: the held-out rows of each fold.
        held_out: which of all training rows they are, bool [folds, rows].
        training: its loss and measure.
        first: the first epoch that may be the best, counted from 1.
        patience: epochs without a new best one.
        candidates: ways of training that are compared; each has a model a fold, the first candidate's models come first.
    """

    def __init__(
        self,
        architecture: Architecture,
        rows: Sequence[Examples],
        held_out: np.ndarray,
        training: Training,
        first: int = 1,
        patience: int = 3,
        candidates: int = 1,
    ):
        self._first, self._patience, self._candidates = first, patience, candidates
        self.held_out = np.tile(held_out, (candidates, 1))
        self.losses, self.aucs = list[list[float]](), list[list[float]]()
        self.measures_auc = (
            training.validation_measure == "auc"
            and not architecture.inputs.target.is_value
            and not training.compares_rows
            and any(_has_both_classes(fold) for fold in rows)
        )
        self._architecture, self._rows, self._training = architecture, rows, training

    @property
    def best(self) -> int:
        """The epoch with the highest AUC or the lowest loss of any candidate, counted from 1; of equal ones the first."""
        return self._best()[0]

    @property
    def best_candidate(self) -> int:
        """The candidate with that AUC or loss."""
        return self._best()[1]

    def _best(self) -> tuple[int, int]:
        values = self._values()
        epoch, candidate = divmod(int(np.argmax(values)), self._candidates)
        return len(self.losses) - len(values) + epoch + 1, candidate

    def _values(self) -> np.ndarray:
        """What is to be high, [epochs, candidates], of the epochs that may be the best."""
        values = np.array(self.aucs) if self.measures_auc else -np.array(self.losses)
        return np.nan_to_num(values[min(self._first, len(values)) - 1 :], nan=-np.inf)

    def curves(self, candidate: int) -> tuple[list[float], list[float]]:
        """The loss and the AUC of a candidate after each of its epochs; no AUC where the loss decides."""
        columns = [[row[candidate] for row in rows] for rows in (self.losses, self.aucs)]
        losses, aucs = ([value for value in column if not math.isnan(value)] for column in columns)
        return losses, aucs

    @property
    def active(self) -> np.ndarray:
        """Which models train on, bool [candidates * folds]."""
        return np.repeat(self._active_candidates(), len(self._rows))

    def _active_candidates(self) -> np.ndarray:
        epochs = len(self.losses)
        if epochs < self._first:
            return np.ones(self._candidates, bool)
        values = self._values()
        last_bests = epochs - len(values) + 1 + np.argmax(values, axis=0)
        lately = (epochs - last_bests < self._patience) & (epochs - self.best < self._patience)
        return lately & np.isfinite(self.losses[-1])

    def measure(self, weights: Sequence[Weights]) -> None:
        """Measures the held-out rows of each model that trains on."""
        folds = len(self._rows)
        losses, aucs = np.full((2, self._candidates), math.nan)
        for candidate in np.flatnonzero(self._active_candidates()):
            models = weights[candidate * folds : (candidate + 1) * folds]
            measured = [self._measure(rows, model) for rows, model in zip(self._rows, models, strict=True)]
            losses[candidate] = np.mean([loss for loss, _ in measured])
            if self.measures_auc:
                aucs[candidate] = np.mean([value for _, value in measured if value is not None])
        self.losses.append(losses.tolist())
        if self.measures_auc:
            self.aucs.append(aucs.tolist())

    def _measure(self, rows: Examples, weights: Weights) -> tuple[float, float | None]:
        """The loss, and the AUC where there is one."""
        target = self._architecture.inputs.target
        scores = predict(self._architecture, weights, rows)
        request = None if rows.request is None else rows.request.numpy()
        label, weight = rows.label.numpy(), rows.weight.numpy()
        loss = held_out_loss(self._training, target, label, weight, scores, request)
        has_auc = self.measures_auc and _has_both_classes(rows)
        return loss, auc(label, scores, weight=weight) if has_auc else None

    def state(self) -> dict[str, np.ndarray]:
        """What a resumed training needs, by name."""
        return {"validation/losses": np.array(self.losses), "validation/aucs": np.array(self.aucs)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets what `state` returned."""
        self.losses, self.aucs = state["validation/losses"].tolist(), state["validation/aucs"].tolist()


def hold_out(arm: Experiment, run: Path, rows: int) -> np.ndarray:
    """Which training rows are held out: by a hash of their place or of their request.

    By their request where whole requests are eval rows, or where the loss compares the rows of one. So held-out rows are as
    new to the pilot as eval rows are to a replica: with a split by users they are of new users. Where files or a column say
    which rows are eval rows, the requests themselves tell: most of the eval rows' requests have no training row.

    Returns:
        bool [pilots, rows], by place in the base order; no row is held out by two pilots.

    Raises:
        UserError: none or all rows are held out.
    """
    share = min(arm.training.validation, _ROWS / rows)
    if arm.training.compares_rows or holds_out_requests(arm.data.split, arm.data.request, run):
        hashes = request_hashes(run, "train")
    else:
        hashes = np.arange(rows, dtype=np.int64)
    folds = max(1, min(_MAX_FOLDS, math.ceil(_ENOUGH_ROWS / (share * rows)), math.floor(1 / share)))
    held_out = np.floor(_uniform(hashes) / share) == np.arange(folds)[:, np.newaxis]
    if not held_out.any(axis=1).all() or held_out.all(axis=1).any():
        raise UserError(
            f"training.epochs: 'auto' needs more than the {rows} training rows that there are; give a number"
        )
    return held_out


def _has_both_classes(rows: Examples) -> bool:
    label = rows.label.numpy()
    return len(np.unique(label[rows.weight.numpy() > 0])) == 2 and set(np.unique(label)) <= {0.0, 1.0}


def holds_out_requests(split: Split, request: Sequence[str] | None, run: Path) -> bool:
    """Whether the split sends whole requests to one side."""
    if request is None or split.by == "time":
        return False
    if split.by == "hash":
        columns = (split.of,) if isinstance(split.of, str) else split.of
        return set(columns) <= set(request)
    is_new = ~np.isin(request_hashes(run, "eval"), request_hashes(run, "train"))
    return bool(is_new.mean() > 0.5) if len(is_new) else False


def request_hashes(run: Path, split: str) -> np.ndarray:
    """A hash of each row's request, in the order of the shards."""
    features = {layout.REQUEST: tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)}
    records = tf.data.TFRecordDataset([str(path) for path in layout.shard_paths(run, split)])
    hashes = [
        tf.strings.to_hash_bucket_fast(
            tf.io.parse_single_example(record, features)[layout.REQUEST], 2**31 - 1
        ).numpy()
        for record in records
    ]
    return np.concatenate(hashes) if hashes else np.zeros(0, np.int64)


def _uniform(numbers: np.ndarray) -> np.ndarray:
    """A hash of each number, in [0, 1): the finalizer of SplitMix64."""
    with np.errstate(over="ignore"):
        x = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) / 2**53


def _rows(run: Path, arm: Experiment, inputs: Inputs, held_out: np.ndarray, feed: Feed) -> list[Examples]:
    """The rows that each pilot holds out, as a model is served with them; `held_out` is bool [pilots, rows]."""
    if isinstance(feed, Memory) and all(column.is_served for column in inputs.stored):
        return [feed.examples.only(chosen) for chosen in held_out]
    parts: list[list[dict[str, np.ndarray]]] = [[] for _ in held_out]
    start = 0
    for block in blocks(
        layout.shard_paths(run, "train"), inputs, arm.data.weight is not None, as_served=True
    ):
        size = len(block["label"])
        for fold, chosen in zip(parts, held_out[:, start : start + size], strict=True):
            fold.append({name: values[chosen] for name, values in block.items()})
        start += size
    return [
        Examples(**{name: np.concatenate([part[name] for part in fold]) for name in fold[0]})
        for fold in parts
    ]


def _seeds(seed: int, fold: int) -> Seeds:
    init, shuffle = np.random.SeedSequence([_PILOT, seed, *([fold] if fold else [])]).generate_state(2) >> 1
    return Seeds(int(init), int(shuffle))


@contextmanager
def _only_process(path: Path) -> Iterator[None]:
    """Waits until no other process holds the lock; the system lets go of it when a process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
