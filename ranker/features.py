"""The one function that turns raw columns into model inputs.

Training reads raw rows from examples and calls it; the SavedModel's signatures call it on what a client
sends. There is no second implementation that could drift from the first.
"""

from __future__ import annotations

from collections.abc import Mapping

from ranker.backend import tf
from ranker.config import TimeFeature
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
        self._tables = {c.table: _table(c) for c in inputs.columns if c.is_token}

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
            value = raw[column.source]
            if column.is_token:
                ids.append(self._tokens(column, value))
            elif isinstance(column.feature, TimeFeature):
                ids.append(time_part(column.part, value, column.feature.utc_offset))
            elif column.is_dense:
                dense.append(_number(column, value))
            else:
                ids.append(_bucket(column, value))
        return {
            "ids": tf.concat(ids, axis=1) if ids else tf.zeros([rows, 0], tf.int32),
            "dense": tf.concat(dense, axis=1) if dense else tf.zeros([rows, 0], tf.float32),
        }

    def _tokens(self, column: Column, value: tf.Tensor) -> tf.Tensor:
        separator = column.separator
        if separator is None:
            return tf.where(tf.equal(value, ""), 0, self._lookup(column, value))[:, tf.newaxis]
        # Splitting leaves empty strings for "", "|" and "a||b": they are no values.
        parts = tf.strings.split(value, separator)
        parts = tf.ragged.boolean_mask(parts, tf.not_equal(parts, ""))
        if column.feature.kind == "sequence":  # the last ones, where others have the first
            parts = parts[:, -column.width :]
        indices = parts.with_flat_values(self._lookup(column, parts.flat_values))
        return indices.to_tensor(default_value=0, shape=[None, column.width])

    def _lookup(self, column: Column, tokens: tf.Tensor) -> tf.Tensor:
        table = self._tables[column.table]
        if table is None:
            return 1 + tf.cast(tf.strings.to_hash_bucket_fast(tokens, column.size - 1), tf.int32)
        return 1 + tf.cast(table.lookup(tokens), tf.int32)


def _missing(dtype: tf.DType) -> tf.Tensor:
    return tf.constant("" if dtype == tf.string else float("nan"), dtype)


def _table(column: Column) -> tf.lookup.StaticVocabularyTable | None:
    # Without a vocabulary, or with an empty one (a column that is missing everywhere), all values are hashed.
    if column.vocabulary is None or column.size == 1 + column.unknown:
        return None
    initializer = tf.lookup.TextFileInitializer(
        str(column.vocabulary),
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    return tf.lookup.StaticVocabularyTable(initializer, num_oov_buckets=column.unknown)


def _number(column: Column, value: tf.Tensor) -> tf.Tensor:
    missing = ~tf.math.is_finite(value)
    if getattr(column.feature, "transform", "none") == "log1p":
        value = tf.sign(value) * tf.math.log1p(tf.abs(value))
    value = (value - tf.constant(column.mean, tf.float32)) / tf.constant(column.std, tf.float32)
    return tf.stack([tf.where(missing, 0.0, value), tf.cast(missing, tf.float32)], axis=1)


_ISO = r"^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2})(?::(\d{2}))?(?::(\d{2})(?:\.\d+)?)?)?(?:Z|([+-])(\d{2}):?(\d{2}))?$"
_SECONDS = r"^[+-]?\d{1,11}(?:\.\d*)?$"


def time_part(part: str, value: tf.Tensor, utc_offset: float = 0.0) -> tf.Tensor:
    """A part of times as ids.

    Args:
        part: `hour` or `weekday`.
        value: text [batch]: seconds since 1970, or ISO 8601 (UTC without an offset); anything else is missing.
        utc_offset: hours that are added.

    Returns:
        int32 [batch, 1]: 0 for missing, then 1 + hour, or 1 + days after Monday.
    """
    is_number, is_date = (
        tf.strings.regex_full_match(value, _SECONDS),
        tf.strings.regex_full_match(value, _ISO),
    )
    numbers = tf.strings.to_number(tf.where(is_number, value, "0"), tf.float64)
    dates = _iso_seconds(tf.where(is_date, value, "1970-01-01"))
    seconds = tf.where(is_number, numbers, tf.cast(dates, tf.float64)) + 3600.0 * utc_offset
    if part == "hour":
        index = tf.math.floormod(tf.math.floor(seconds / 3600.0), 24.0)
    else:  # 1970 began on a Thursday
        index = tf.math.floormod(tf.math.floor(seconds / 86400.0) + 3.0, 7.0)
    return tf.where(is_number | is_date, 1 + tf.cast(index, tf.int32), 0)[:, tf.newaxis]


def _iso_seconds(text: tf.Tensor) -> tf.Tensor:
    """Seconds since 1970 of texts that match `_ISO`, int64 [batch]."""

    def field(group: int) -> tf.Tensor:
        digits = tf.strings.regex_replace(text, _ISO, rf"0\{group}")
        return tf.strings.to_number(digits, tf.int64)

    sign = tf.where(tf.equal(tf.strings.regex_replace(text, _ISO, r"\7"), "-"), -1, 1)
    offset = tf.cast(sign, tf.int64) * (3600 * field(8) + 60 * field(9))
    days = _days(field(1), field(2), field(3))
    return 86400 * days + 3600 * field(4) + 60 * field(5) + field(6) - offset


def _days(year: tf.Tensor, month: tf.Tensor, day: tf.Tensor) -> tf.Tensor:
    """Days since 1970 in the Gregorian calendar: years are counted from March, so that a leap day is the last one.

    Source: Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2013.
    """
    year -= tf.cast(month <= 2, tf.int64)
    era, month = year // 400, (month + 9) % 12
    year_of_era = year - era * 400
    day_of_year = (153 * month + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146097 + day_of_era - 719468


def _bucket(column: Column, value: tf.Tensor) -> tf.Tensor:
    bucket = 1 + tf.raw_ops.Bucketize(input=value, boundaries=list(column.boundaries))
    return tf.where(tf.math.is_finite(value), bucket, 0)[:, tf.newaxis]
