"""Encoded rows in memory, and how they are read from the shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

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
        label: float32 [rows], in [0, 1], or of a regression's label its distance from the mean in standard deviations.
        weight: float32 [rows], >= 0.
        request: int32 [rows], a hash of each row's request; None where no loss compares rows.
    """

    ids: tf.Tensor
    dense: tf.Tensor
    label: tf.Tensor
    weight: tf.Tensor
    request: Optional[tf.Tensor] = None  # noqa: UP045  (TensorFlow reads the annotation)

    def only(self, chosen: np.ndarray) -> Examples:
        """The rows where `chosen`, bool [rows], is true."""
        columns = {"ids": self.ids, "dense": self.dense, "label": self.label, "weight": self.weight}
        columns |= {} if self.request is None else {"request": self.request}
        return Examples(**{name: tf.boolean_mask(values, chosen) for name, values in columns.items()})

    def take(self, positions: tf.Tensor) -> dict[str, tf.Tensor]:
        """The rows at `positions` (any shape; -1 is no row), and each one's `share` in its batch's mean."""
        is_row = tf.cast(positions >= 0, tf.float32)
        at = tf.maximum(positions, 0)
        requests = {} if self.request is None else {"request": tf.gather(self.request, at)}
        return {
            **requests,
            "ids": tf.gather(self.ids, at),
            "dense": tf.gather(self.dense, at),
            "label": tf.gather(self.label, at),
            "weight": tf.gather(self.weight, at),
            # A batch may have no row at all, where all of its rows are held out.
            "share": is_row / tf.maximum(tf.reduce_sum(is_row, axis=-1, keepdims=True), 1.0),
        }


def parse_block(encoder: FeatureEncoder, expressions: Sequence[str] = ("label",), requests: bool = False):
    """A function from one serialized block of rows to its raw columns (see `ranker.layout`).

    Args:
        encoder: says which columns the examples hold.
        expressions: which of `label`, `grade` and `weight` are wanted.
        requests: whether the rows' requests are.
    """
    columns = {name: tf.TensorSpec([None], spec.dtype) for name, spec in encoder.stored_signature().items()}
    for key in expressions:
        columns[layout.EXPRESSIONS[key]] = tf.TensorSpec([None], tf.float32)
    if requests:
        columns[layout.REQUEST] = tf.TensorSpec([None], tf.string)
    features = {
        name: tf.io.FixedLenSequenceFeature([], spec.dtype, allow_missing=True)
        for name, spec in columns.items()
    }
    return lambda block: tf.io.parse_single_example(block, features)


def read(paths: Sequence[Path], inputs: Inputs, weighted: bool, rows: int = 0) -> Examples:
    """Reads and encodes all rows of some shards, in their order.

    Args:
        paths: TFRecord shards of blocks.
        inputs: the plan of the input columns.
        weighted: whether the rows carry sample weights; without, every weight is 1.
        rows: how many are expected: if there are no more, they are in memory only once.

    Returns:
        The rows; trailing id columns of multi-valued features that no row uses stay (zeros).

    Raises:
        UserError: there are no shards, or one cannot be read.
    """
    columns: dict[str, np.ndarray] = {}
    count = 0
    for block in blocks(paths, inputs, weighted):
        end = count + len(block["label"])
        for name, values in block.items():
            column = columns.setdefault(name, np.empty((max(rows, end), *values.shape[1:]), values.dtype))
            while len(column) < end:
                columns[name] = column = np.concatenate([column, np.empty_like(column)])
            column[count:end] = values
        count = end
    if not count:
        raise UserError("no training examples; run `ranker prepare` first")
    # One column at a time: TensorFlow copies it.
    return Examples(**{name: tf.convert_to_tensor(columns.pop(name)[:count]) for name in list(columns)})


def blocks(
    paths: Sequence[Path], inputs: Inputs, weighted: bool, as_served: bool = False
) -> Iterator[dict[str, np.ndarray]]:
    """The rows of some shards as encoded blocks, in their order; see `read`.

    `as_served`: as a served model sees them, without the columns for training only.
    """
    encoder = FeatureEncoder(inputs)
    target = inputs.target
    expressions = (target.label, "weight") if weighted else (target.label,)
    parse = parse_block(encoder, expressions, requests=target.compares_rows)

    @tf.autograph.experimental.do_not_convert  # its source has nothing to rewrite
    def encode(block: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = parse(block)
        label = (raw.pop(layout.EXPRESSIONS[target.label]) - target.mean) / target.std
        weight = raw.pop(layout.WEIGHT) if weighted else tf.ones_like(label)
        requests = {}
        if target.compares_rows:
            requests["request"] = tf.cast(
                tf.strings.to_hash_bucket_fast(raw.pop(layout.REQUEST), 2**31 - 1), tf.int32
            )
        columns = (
            {name: raw[name] for name in encoder.raw_signature()}
            if as_served
            else encoder.training_columns(raw)
        )
        return {**encoder(columns), "label": label, "weight": weight, **requests}

    records = tf.data.TFRecordDataset([str(path) for path in paths])
    dataset = records.map(encode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(4)
    try:
        yield from dataset.as_numpy_iterator()
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
        raise UserError(f"examples cannot be read: {error.message.splitlines()[0]}") from None
