"""The one function that turns raw columns into model inputs.

Training reads raw rows from examples and calls it; the SavedModel's signatures call it on what a client
sends. There is no second implementation that could drift from the first.
"""

from __future__ import annotations

from collections.abc import Mapping

from ranker.backend import tf
from ranker.inputs import Column, Inputs

_HIDDEN_EVERY = 10
"""Of the training rows, in which a column for training only is missing."""


class FeatureEncoder(tf.Module):
    """Encodes raw columns; its vocabularies travel inside the SavedModel as assets.

    Args:
        inputs: the plan of the input columns.
    """

    def __init__(self, inputs: Inputs):
        super().__init__(name="features")
        self.inputs = inputs
        self._tables = {c.name: _table(c) for c in inputs.columns if c.is_text}

    def stored_signature(self) -> dict[str, tf.TensorSpec]:
        """The columns of an example by name: float32 [batch] for numbers, text [batch] for the rest."""
        return {
            column.name: tf.TensorSpec([None], tf.string if column.is_text else tf.float32, name=column.name)
            for column in self.inputs.stored
        }

    def raw_signature(self) -> dict[str, tf.TensorSpec]:
        """The columns that a client sends: the stored ones but those for training only."""
        served = {column.name for column in self.inputs.stored if column.is_served}
        return {name: spec for name, spec in self.stored_signature().items() if name in served}

    def training_columns(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The columns of a block of training rows: those for training only are missing in every tenth row.

        The model is served without them, so it must have learnt what it predicts when they are missing. Rows stand
        in a pseudo-random base order: every tenth is a fair sample.
        """
        served = self.raw_signature()
        columns = dict(raw)
        for name in columns.keys() - served.keys():
            is_hidden = tf.range(tf.shape(raw[name])[0]) % _HIDDEN_EVERY == 0
            columns[name] = tf.where(is_hidden, _missing(raw[name].dtype), raw[name])
        return columns

    def __call__(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Encodes a batch.

        Args:
            raw: column name to tensor [batch]: text (empty is missing) or float32 (what is not finite is missing). A
                column for training only may be left out: it is missing then.

        Returns:
            `ids`, int32 [batch, id_width], columns in the plan's order, 0 for missing or padding;
            `dense`, float32 [batch, dense_width], per number its transformed value (0 where missing) and
            1 where missing.
        """
        ids, dense = [], []
        rows = tf.shape(next(iter(raw.values())))[0]
        raw = {
            name: raw[name] if name in raw else tf.fill([rows], _missing(spec.dtype))
            for name, spec in self.stored_signature().items()
            if name in raw or name not in self.raw_signature()
        }
        for column in self.inputs.columns:
            value = raw[column.name]
            if column.is_text:
                ids.append(self._categorical(column, value))
            elif column.is_dense:
                dense.append(_number(column, value))
            else:
                ids.append(_bucket(column, value))
        return {
            "ids": tf.concat(ids, axis=1) if ids else tf.zeros([rows, 0], tf.int32),
            "dense": tf.concat(dense, axis=1) if dense else tf.zeros([rows, 0], tf.float32),
        }

    def _categorical(self, column: Column, value: tf.Tensor) -> tf.Tensor:
        separator = getattr(column.feature, "multivalued", None)
        if separator is None:
            return tf.where(tf.equal(value, ""), 0, self._lookup(column, value))[:, tf.newaxis]
        # Splitting leaves empty strings for "", "|" and "a||b": they are no values.
        parts = tf.strings.split(value, separator)
        parts = tf.ragged.boolean_mask(parts, tf.not_equal(parts, ""))
        indices = parts.with_flat_values(self._lookup(column, parts.flat_values))
        return indices.to_tensor(default_value=0, shape=[None, column.width])

    def _lookup(self, column: Column, tokens: tf.Tensor) -> tf.Tensor:
        table = self._tables[column.name]
        if table is None:
            return 1 + tf.cast(tf.strings.to_hash_bucket_fast(tokens, column.size - 1), tf.int32)
        return 1 + tf.cast(table.lookup(tokens), tf.int32)


def _missing(dtype: tf.DType) -> tf.Tensor:
    return tf.constant("" if dtype == tf.string else float("nan"), dtype)


def _table(column: Column) -> tf.lookup.StaticVocabularyTable | None:
    buckets = getattr(column.feature, "oov_buckets", 1)
    # An empty vocabulary (a column that is missing everywhere) has no table: all values are unknown.
    if column.size == 1 + buckets:
        return None
    initializer = tf.lookup.TextFileInitializer(
        str(column.vocabulary),
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    return tf.lookup.StaticVocabularyTable(initializer, num_oov_buckets=buckets)


def _number(column: Column, value: tf.Tensor) -> tf.Tensor:
    missing = ~tf.math.is_finite(value)
    if getattr(column.feature, "transform", "none") == "log1p":
        value = tf.sign(value) * tf.math.log1p(tf.abs(value))
    value = (value - tf.constant(column.mean, tf.float32)) / tf.constant(column.std, tf.float32)
    return tf.stack([tf.where(missing, 0.0, value), tf.cast(missing, tf.float32)], axis=1)


def _bucket(column: Column, value: tf.Tensor) -> tf.Tensor:
    bucket = 1 + tf.raw_ops.Bucketize(input=value, boundaries=list(column.boundaries))
    return tf.where(tf.math.is_finite(value), bucket, 0)[:, tf.newaxis]
