"""SavedModels of the server's tests, made here: TF1 and TF2, tables and assets, loops, every dtype."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ranker.backend import tf

v1 = tf.compat.v1


def save_tf1(path: Path, slope: float = 0.5, offset: float = 2.0) -> Path:
    """y = slope * x + offset as a TF1 model with predict, classify and regress signatures."""
    with tf.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, [None], name="tf_example")
        features = v1.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        x = tf.identity(features["x"], name="x")
        a, b = v1.get_variable("a", initializer=slope), v1.get_variable("b", initializer=offset)
        y = tf.add(tf.multiply(a, x), b, name="y")
        own_example = v1.placeholder(tf.string, [None], name="own_example")
        own_x = v1.io.parse_example(own_example, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]
        again = tf.identity(x)
        labels = tf.fill(tf.shape(y), "positive")
        session.run(v1.global_variables_initializer())
        info, build = v1.saved_model.build_tensor_info, v1.saved_model.build_signature_def
        signatures = {
            "serving_default": build({"x": info(x)}, {"y": info(y)}, "tensorflow/serving/predict"),
            "two_outputs": build(
                {"x": info(x)}, {"y": info(y), "x_again": info(again)}, "tensorflow/serving/predict"
            ),
            "classify_x_to_y": build(
                {"inputs": info(serialized)}, {"scores": info(y)}, "tensorflow/serving/classify"
            ),
            "classify_with_labels": build(
                {"inputs": info(serialized)},
                {"scores": info(y), "classes": info(labels)},
                "tensorflow/serving/classify",
            ),
            "regress_own_input": build(
                {"inputs": info(own_example)}, {"outputs": info(own_x * 10)}, "tensorflow/serving/regress"
            ),
            "regress_x_to_y": build(
                {"inputs": info(serialized)}, {"outputs": info(y)}, "tensorflow/serving/regress"
            ),
        }
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()
    return path


class _Ranker(tf.Module):
    """Scores from a vocabulary file (an asset), several dtypes, a loop, and an op that fails."""

    def __init__(self, vocabulary: str, bias: float):
        super().__init__()
        initializer = tf.lookup.TextFileInitializer(
            vocabulary,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        self.table = tf.lookup.StaticHashTable(initializer, -1)
        self.weights = tf.Variable([0.0, 1.0, 2.0, 3.0])
        self.bias = tf.Variable(bias)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="item_id"),
            tf.TensorSpec([None], tf.float32, name="age"),
        ]
    )
    def serve(self, item_id, age):
        score = tf.gather(self.weights, self.table.lookup(item_id) + 1) + age + self.bias
        return {"score": score[:, None], "item_id": item_id}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="steps")])
    def loop(self, steps):
        total = tf.constant(0.0)
        for _ in tf.range(steps[0]):
            total += tf.reduce_sum(tf.random.stateless_uniform([300, 300], [1, 2]))
        return {"total": total[None]}


class _Echo(tf.Module):
    """Returns its input, one signature for each dtype."""

    def function(self, dtype):
        name = dtype.name

        @tf.function(input_signature=[tf.TensorSpec(None, dtype, name="x")])
        def echo(x):
            return {"y": tf.identity(x)}

        return name, echo


ECHO_DTYPES = [
    tf.float32,
    tf.float64,
    tf.float16,
    tf.bfloat16,
    tf.int8,
    tf.int16,
    tf.int32,
    tf.int64,
    tf.uint8,
    tf.uint16,
    tf.uint32,
    tf.uint64,
    tf.bool,
    tf.string,
    tf.complex64,
    tf.complex128,
]


def save_ranker(path: Path, bias: float = 0.0) -> Path:
    vocabulary = path.parent / f"vocabulary-{path.name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    vocabulary.write_text("a\nb\nc\n")
    module = _Ranker(str(vocabulary), bias)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve, "loop": module.loop})
    vocabulary.unlink()
    return path


def save_echo(path: Path) -> Path:
    module = _Echo()
    module.functions = [module.function(dtype) for dtype in ECHO_DTYPES]
    tf.saved_model.save(module, str(path), signatures=dict(module.functions))
    return path


def install(models, base, version, name="half_plus_two/00000001"):
    """Copies a version under a temporary name and renames it into place."""
    staged = base / f".tmp-{version}"
    shutil.copytree(models / name, staged)
    os.rename(staged, base / str(version))
