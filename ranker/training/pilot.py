"""How long to train, decided once for all replicas of a run: `training.epochs: auto`.

A pilot of the deployed arm (or of the arm that had one in this run before), with seeds of its own, trains on the
training rows but the held-out ones, and stops when it no longer ranks those better. The epoch with the highest AUC (or the
lowest loss, see `training.validation_measure`) is the number of epochs of every replica of every arm; each of them trains on
all training rows. Replicas that ended each at its own best epoch would differ in how long they had learned. No label of the
eval split takes part.

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
from ranker.config import Experiment, Training
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
from ranker.training.rows.feed import Feed
from ranker.training.specs import decision_path, pilot_arm, pilot_key
from ranker.training.step.objective import held_out_loss
from ranker.training.step.program import Program
from ranker.training.step.stacking import Member, stack
from ranker.training.trainer import Progress, train

_PILOT = 0x9170
_MIN_STEPS = 50
"""No epoch that ends before is chosen. On few rows a step or two of the first epochs may rank the few held-out rows well by
chance, and a model that has hardly begun differs much from one training to the next."""
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
        reason: in words, for the report.
    """

    epochs: int
    training: list[float]
    validation: list[float]
    auc: list[float]
    rows: int
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
            decision = _train_pilot(arm, run, inputs, feed(arm, inputs), checkpoint, report, compiled(inputs))
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
) -> EpochsDecision:
    architecture = design(inputs, arm.model)
    optimizer = arm.training.optimizer.model_copy(update={"decay": "none", "warmup": 0.0})
    # It averages as the replicas do, and makes no use of that: so it has their compiled step.
    training = arm.training.model_copy(
        update={"epochs": arm.training.max_epochs, "optimizer": optimizer, "distribution": "none"}
    )
    held_out = hold_out(arm, run, feed.rows)
    rows = _rows(run, arm, inputs, held_out)
    seeds = _seeds(arm.replicas.seed)
    first = math.ceil(_MIN_STEPS / math.ceil(feed.rows / training.batch_size))
    stopping = EarlyStopping(architecture, rows, held_out, training, min(first, training.max_epochs))
    pilot = stack([Member(architecture, training, seeds)], compiled=compiled)
    trained = train(
        pilot,
        feed,
        training,
        [seeds],
        checkpoint,
        lambda progress: report(replace(progress, pilot=True)),
        names=["the pilot"],
        validation=stopping,
    )
    epochs = stopping.best
    measure, extreme = ("AUC", "highest") if stopping.aucs else ("loss", "lowest")
    reason = (
        f"the pilot's {measure} on {len(rows.label):,} held-out training rows was {extreme} after epoch {epochs} of"
        f" {len(stopping.losses)}"
    )
    curve = [float(loss) for loss in trained.curve[:, 0]]
    return EpochsDecision(epochs, curve, stopping.losses, stopping.aucs, len(rows.label), reason)


class EarlyStopping:
    """Ends a training when held-out rows have not been ranked better for some epochs.

    Better is a higher AUC; a lower loss where `training.validation_measure` says so, and where there is no AUC: labels that
    are no classes, rows of one class, a loss that compares rows.

    Args:
        architecture: of the model.
        rows: the held-out rows.
        held_out: which of all training rows they are, bool.
        training: its loss and measure, and its patience, epochs without a new best one.
        first: the first epoch that may be the best, counted from 1.
    """

    def __init__(
        self,
        architecture: Architecture,
        rows: Examples,
        held_out: np.ndarray,
        training: Training,
        first: int = 1,
    ):
        self._first = first
        self.held_out, self.losses, self.aucs = held_out, list[float](), list[float]()
        label = rows.label.numpy()
        has_classes = len(np.unique(label[rows.weight.numpy() > 0])) == 2 and set(np.unique(label)) <= {
            0.0,
            1.0,
        }
        self._measures_auc = (
            training.validation_measure == "auc"
            and has_classes
            and not architecture.inputs.target.is_value
            and not training.compares_rows
        )
        self._architecture, self._rows, self._training = architecture, rows, training

    @property
    def best(self) -> int:
        """The epoch with the highest AUC or the lowest loss, counted from 1; of the first ones the last."""
        values = self.aucs if self.aucs else [-loss for loss in self.losses]
        start = min(self._first, len(values)) - 1
        return start + int(np.argmax(values[start:])) + 1

    def measure(self, weights: Weights) -> bool:
        """Measures the held-out rows; returns whether to train another epoch."""
        rows = self._rows
        scores = predict(self._architecture, weights, rows)
        request = None if rows.request is None else rows.request.numpy()
        target = self._architecture.inputs.target
        label, weight = rows.label.numpy(), rows.weight.numpy()
        self.losses.append(held_out_loss(self._training, target, label, weight, scores, request))
        if self._measures_auc:
            self.aucs.append(auc(label, scores, weight=weight))
        return len(self.losses) < self._first or len(self.losses) - self.best < self._training.patience

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
        bool [rows], by place in the base order.

    Raises:
        UserError: none or all rows are held out.
    """
    share = min(arm.training.validation, _ROWS / rows)
    if arm.training.compares_rows or holds_out_requests(arm.data.split, arm.data.request, run):
        hashes = request_hashes(run, "train")
    else:
        hashes = np.arange(rows, dtype=np.int64)
    held_out = _uniform(hashes) < share
    if not held_out.any() or held_out.all():
        raise UserError(
            f"training.epochs: 'auto' needs more than the {rows} training rows that there are; give a number"
        )
    return held_out


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


def _rows(run: Path, arm: Experiment, inputs: Inputs, held_out: np.ndarray) -> Examples:
    parts, start = [], 0
    for block in blocks(
        layout.shard_paths(run, "train"), inputs, arm.data.weight is not None, as_served=True
    ):
        size = len(block["label"])
        chosen = held_out[start : start + size]
        parts.append({name: values[chosen] for name, values in block.items()})
        start += size
    return Examples(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _seeds(seed: int) -> Seeds:
    init, shuffle = np.random.SeedSequence([_PILOT, seed]).generate_state(2) >> 1
    return Seeds(int(init), int(shuffle))


@contextmanager
def _only_process(path: Path) -> Iterator[None]:
    """Waits until no other process holds the lock; the system lets go of it when a process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
