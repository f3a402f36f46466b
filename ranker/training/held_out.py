"""Which training rows the pilots hold out, and those rows as a model is served with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ranker import layout
from ranker.backend import tf
from ranker.config import Experiment
from ranker.config.data import Split
from ranker.errors import UserError
from ranker.inputs import Inputs
from ranker.training.rows.examples import Examples, blocks
from ranker.training.rows.feed import Feed, Memory

_ENOUGH_ROWS, _MAX_FOLDS = 4_000, 4
"""There are as many pilots as it takes to hold out so many rows in all, but at most four."""
_ROWS = 200_000
"""Held-out rows at most: enough to tell two epochs apart, and they are in memory."""


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


def held_out_rows(
    run: Path, arm: Experiment, inputs: Inputs, held_out: np.ndarray, feed: Feed
) -> list[Examples]:
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
