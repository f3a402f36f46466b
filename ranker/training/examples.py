"""Encoded rows in memory, and how they are read from the shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ranker import layout
from ranker.backend import tf
from ranker.errors import UserError
from ranker.features import FeatureEncoder
from ranker.inputs import Inputs


class Examples(tf.experimental.ExtensionType):
    """Encoded rows, in the base order.

    Attributes:
        ids: int32 [rows, id_width].
        dense: float32 [rows, dense_width].
        label: float32 [rows], 0 or 1.
        weight: float32 [rows], >= 0.
    """

    ids: tf.Tensor
    dense: tf.Tensor
    label: tf.Tensor
    weight: tf.Tensor

    def take(self, positions: tf.Tensor) -> dict[str, tf.Tensor]:
        """The rows at `positions` (any shape; -1 is no row), and each one's `share` in its batch's mean."""
        is_row = tf.cast(positions >= 0, tf.float32)
        at = tf.maximum(positions, 0)
        return {
            "ids": tf.gather(self.ids, at),
            "dense": tf.gather(self.dense, at),
            "label": tf.gather(self.label, at),
            "weight": tf.gather(self.weight, at),
            # A batch may have no row at all, where all of its rows are held out.
            "share": is_row / tf.maximum(tf.reduce_sum(is_row, axis=-1, keepdims=True), 1.0),
        }


def parse_block(encoder: FeatureEncoder, weighted: bool, requests: bool = False):
    """A function from one serialized block of rows to its raw columns (see `ranker.layout`)."""
    columns = {name: tf.TensorSpec([None], spec.dtype) for name, spec in encoder.stored_signature().items()}
    columns[layout.LABEL] = tf.TensorSpec([None], tf.float32)
    if weighted:
        columns[layout.WEIGHT] = tf.TensorSpec([None], tf.float32)
    if requests:
        columns[layout.REQUEST] = tf.TensorSpec([None], tf.string)
    features = {
        name: tf.io.FixedLenSequenceFeature([], spec.dtype, allow_missing=True)
        for name, spec in columns.items()
    }
    return lambda block: tf.io.parse_single_example(block, features)


def read(paths: Sequence[Path], inputs: Inputs, weighted: bool) -> Examples:
    """Reads and encodes all rows of some shards, in their order.

    Args:
        paths: TFRecord shards of blocks.
        inputs: the plan of the input columns.
        weighted: whether the rows carry sample weights; without, every weight is 1.

    Returns:
        The rows; trailing id columns of multi-valued features that no row uses stay (zeros).

    Raises:
        UserError: there are no shards, or one cannot be read.
    """
    chunks = list(blocks(paths, inputs, weighted))
    if not chunks:
        raise UserError("no training examples; run `ranker prepare` first")
    return Examples(**{key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]})


def blocks(
    paths: Sequence[Path], inputs: Inputs, weighted: bool, as_served: bool = False
) -> Iterator[dict[str, np.ndarray]]:
    """The rows of some shards as encoded blocks, in their order; see `read`.

    `as_served`: as a served model sees them, without the columns for training only.
    """
    encoder = FeatureEncoder(inputs)
    parse = parse_block(encoder, weighted)

    @tf.autograph.experimental.do_not_convert  # its source has nothing to rewrite
    def encode(block: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = parse(block)
        label = raw.pop(layout.LABEL)
        weight = raw.pop(layout.WEIGHT) if weighted else tf.ones_like(label)
        columns = (
            {name: raw[name] for name in encoder.raw_signature()}
            if as_served
            else encoder.training_columns(raw)
        )
        return {**encoder(columns), "label": label, "weight": weight}

    records = tf.data.TFRecordDataset([str(path) for path in paths])
    dataset = records.map(encode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(4)
    try:
        yield from dataset.as_numpy_iterator()
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
        raise UserError(f"examples cannot be read: {error.message.splitlines()[0]}") from None
