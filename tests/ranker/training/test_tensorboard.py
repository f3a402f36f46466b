"""What TensorBoard reads is what the training said."""

import math

from ranker.backend import tf
from ranker.training.tensorboard import TensorBoardLog
from ranker.training.trainer import Progress


def progress(step, loss, rate, done=None):
    return Progress(step, 30, (loss, loss + 0.2), rate, step if done is None else done, 1.0)


def written(directory):
    """(step, tag) to value, of all event files."""
    values = {}
    for path in directory.glob("events.*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                values[event.step, value.tag] = float(tf.make_ndarray(value.tensor))
    return {key: round(value, 4) for key, value in values.items()}


def test_progress_is_written_and_a_resumed_training_adds_to_it(tmp_path):
    first = TensorBoardLog(tmp_path)
    first(progress(10, 0.5, 1000.0))
    first(progress(20, math.nan, 900.0))
    TensorBoardLog(tmp_path)(progress(30, 0.3, 800.0, done=10))
    assert written(tmp_path) == {
        (10, "loss"): 0.6,
        (10, "examples_per_second"): 1000.0,
        (20, "examples_per_second"): 900.0,
        (30, "loss"): 0.4,
        (30, "examples_per_second"): 800.0,
    }


def test_a_training_from_the_start_replaces_an_earlier_one(tmp_path):
    TensorBoardLog(tmp_path)(progress(30, 0.3, 800.0))
    TensorBoardLog(tmp_path)(Progress(30, 30, (0.1,), 500.0, 30, 1.0))
    assert written(tmp_path) == {(30, "loss"): 0.1, (30, "examples_per_second"): 500.0}
