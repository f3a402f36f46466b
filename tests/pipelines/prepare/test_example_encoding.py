"""Examples and TFRecord frames against TensorFlow's own reader and protocol buffers."""

import hashlib
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.prepare.write import examples
from ranker import tfrecord
from ranker.backend import tf

TEXTS = ["", "a", "é" * 3, "x" * 127, "y" * 128, "z" * 20_000, "tab\tand\nline"]


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 11])
def test_tensorflow_reads_what_was_written(tmp_path, rows):
    random = np.random.default_rng(rows)
    text = [TEXTS[i] for i in random.integers(0, len(TEXTS), rows)]
    numbers = random.normal(size=rows).astype(np.float32)
    numbers[0] = np.nan
    batch = pa.RecordBatch.from_pydict({"n": pa.array(numbers), "été": examples.wire_text(pa.array(text))})
    with tfrecord.Writer(tmp_path / "f") as writer:
        writer.write(examples.encode(batch.slice(0, 2), 4))
        writer.write(examples.encode(batch.slice(2), 4))
    read = [
        tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(tmp_path / "f"))
    ]
    assert writer.records == len(read) == math.ceil(min(rows, 2) / 4) + math.ceil(max(rows - 2, 0) / 4)
    assert writer.bytes == (tmp_path / "f").stat().st_size
    assert writer.sha256 == hashlib.sha256((tmp_path / "f").read_bytes()).hexdigest()
    found = [value.decode() for example in read for value in example.features.feature["été"].bytes_list.value]
    assert found == text
    values = [value for example in read for value in example.features.feature["n"].float_list.value]
    np.testing.assert_array_equal(np.array(values, np.float32), numbers)


def test_the_bytes_are_those_of_protocol_buffers():
    batch = pa.RecordBatch.from_pydict(
        {
            "b": examples.wire_text(pa.array(TEXTS)),
            "a": pa.array(np.arange(7, dtype=np.float32)),
        }
    )
    example = tf.train.Example()
    example.features.feature["a"].float_list.value.extend(range(7))
    example.features.feature["b"].bytes_list.value.extend(text.encode() for text in TEXTS)
    assert examples.encode(batch) == [example.SerializeToString(deterministic=True)]


@given(st.lists(st.text(max_size=300), max_size=20))
def test_plain_text_undoes_wire_text(values):
    wire = examples.wire_text(pa.array(values, pa.string()))
    assert examples.plain_text(wire).to_pylist() == values
    assert examples.is_empty(wire).to_pylist() == [value == "" for value in values]
