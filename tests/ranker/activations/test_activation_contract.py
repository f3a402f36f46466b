"""The contract every activation keeps, whatever its shape."""

import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from ranker import activations
from ranker.activations import catalogue
from ranker.backend import keras, tf

INF, NAN = math.inf, math.nan


def slope(start, end):
    return {"slope_left": start, "slope_right": end}


# name, parameters, knots, value and slope at the far left (None: unbounded), slope at the far right
CASES = {
    "linear": ("linear", {}, [], (None, 1.0), 1.0),
    "relu": ("relu", {}, [0.0], (0.0, 0.0), 1.0),
    "smelu": ("smelu", {}, [-1.0, 1.0], (0.0, 0.0), 1.0),
    "smelu 0.25": ("smelu", {"beta": 0.25}, [-0.25, 0.25], (0.0, 0.0), 1.0),
    "smelu 3": ("smelu", {"beta": 3}, [-3.0, 3.0], (0.0, 0.0), 1.0),
    "smelu 0": ("smelu", {"beta": 0.0}, [0.0], (0.0, 0.0), 1.0),
    "smelu centred": ("smelu", {"centred": True}, [-1.0, 1.0], (-0.25, 0.0), 1.0),
    "smelu 3 centred": ("smelu", {"beta": 3.0, "centred": True}, [-3.0, 3.0], (-0.75, 0.0), 1.0),
    "gsmelu": ("gsmelu", {}, [-1.0, 1.0], (0.0, 0.0), 1.0),
    "gsmelu leaky": (
        "gsmelu",
        {"alpha": 0.5, "beta": 2.0, "level": -0.25, **slope(0.125, 1.0)},
        [-0.5, 2.0],
        (None, 0.125),
        1.0,
    ),
    "gsmelu falling": ("gsmelu", {"level": 2.0, **slope(1.0, 0.0)}, [-1.0, 1.0], (None, 1.0), 0.0),
    "gsmelu aside": ("gsmelu", {"alpha": -1.0, "beta": 2.0}, [1.0, 2.0], (0.0, 0.0), 1.0),
    "gsmelu corner": ("gsmelu", {"alpha": -0.5, "beta": 0.5}, [0.5], (0.0, 0.0), 1.0),
    "rescu box": ("rescu", {}, [-1.0, 1.0], (0.0, 0.0), 1.0),
    "rescu triangular": ("rescu", {"kernel": "triangular"}, [-1.0, 0.0, 1.0], (0.0, 0.0), 1.0),
    "rescu cosine": ("rescu", {"kernel": "cosine", "beta": 2.0}, [-1.0, 2.0], (0.0, 0.0), 1.0),
    "rescu cascade": (
        "rescu",
        {"kernel": [1.0, 0.0, 3.0, 4.0], **slope(-0.5, 1.5)},
        [-1.0, -0.5, 0.0, 0.5, 1.0],
        (None, -0.5),
        1.5,
    ),
    "gelu": ("gelu", {}, [], (0.0, 0.0), 1.0),
    "swish": ("swish", {}, [], (0.0, 0.0), 1.0),
    "swish 4": ("swish", {"beta": 4.0}, [], (0.0, 0.0), 1.0),
    "swish 0": ("swish", {"beta": 0.0}, [], (None, 0.5), 0.5),
    "softplus": ("softplus", {}, [], (0.0, 0.0), 1.0),
    "softplus 4": ("softplus", {"beta": 4.0}, [], (0.0, 0.0), 1.0),
    "softplus centred": ("softplus", {"centred": True}, [], (-math.log(2), 0.0), 1.0),
    "softplus 4 centred": ("softplus", {"beta": 4.0, "centred": True}, [], (-math.log(2) / 4, 0.0), 1.0),
    "mish": ("mish", {}, [], (0.0, 0.0), 1.0),
    "tanhexp": ("tanhexp", {}, [], (0.0, 0.0), 1.0),
    "elu": ("elu", {}, [0.0], (-1.0, 0.0), 1.0),
    "selu": ("selu", {}, [0.0], (-1.7580993408473766, 0.0), 1.0507009873554805),
}
# Where the slope itself jumps, so that it has no value at the knot.
CORNERS = {"relu", "smelu 0", "gsmelu corner", "selu"}
TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 2e-6, "float64": 1e-12}


@pytest.fixture(params=CASES, name="case")
def _case(request):
    return request.param


def specification(case):
    name, parameters, *_ = CASES[case]
    return {"name": name, **parameters}


def value_and_slope(function, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return y, tape.gradient(y, x)


def evaluate(case, points, dtype="float64", jit=None):
    function = activations.get(specification(case))
    if jit is not None:
        compiled = tf.function(lambda x: value_and_slope(function, x), jit_compile=jit, autograph=False)
    else:
        compiled = lambda x: value_and_slope(function, x)  # noqa: E731
    y, dy = compiled(tf.constant(points, dtype))
    assert y.dtype == dy.dtype == tf.as_dtype(dtype)
    return tf.cast(y, tf.float64).numpy(), tf.cast(dy, tf.float64).numpy()


def grid(case):
    """Points between -6 and 6, some of them knots."""
    return np.unique(np.concatenate([np.linspace(-6, 6, 97), CASES[case][2]]))


def away_from_corners(case, points):
    knots = CASES[case][2] if case in CORNERS else []
    return np.array([p for p in points if all(abs(p - k) > 1e-3 for k in knots)])


def test_every_activation_of_the_catalogue_is_under_contract():
    assert {name for name, *_ in CASES.values()} == set(activations.names())


def test_the_slope_is_the_derivative_of_the_value(case):
    points = away_from_corners(case, grid(case))
    step = 1e-6
    above, below = evaluate(case, points + step)[0], evaluate(case, points - step)[0]
    # A knot of the slope costs a central difference half a step times the jump of the curvature.
    np.testing.assert_allclose(evaluate(case, points)[1], (above - below) / (2 * step), atol=5e-6)


def test_value_and_slope_pass_each_knot_without_a_jump(case):
    for knot in CASES[case][2]:
        y, dy = evaluate(case, [knot - 1e-9, knot, knot + 1e-9])
        np.testing.assert_allclose(y, y[1], atol=1e-8)
        if case not in CORNERS:
            np.testing.assert_allclose(dy, dy[1], atol=1e-7)


def test_the_second_derivative_is_the_derivative_of_the_slope(case):
    function = activations.get(specification(case))
    knots = CASES[case][2]
    points = np.array([p for p in np.linspace(-3.97, 3.91, 41) if all(abs(p - k) > 1e-3 for k in knots)])
    x = tf.constant(points, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        first = value_and_slope(function, x)[1]
    second = tape.gradient(first, x, unconnected_gradients="zero").numpy()
    step = 1e-6
    differences = (evaluate(case, points + step)[1] - evaluate(case, points - step)[1]) / (2 * step)
    np.testing.assert_allclose(second, differences, atol=1e-6)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_dtype_is_kept_and_agrees_with_float64(case, dtype):
    points = tf.cast(tf.constant(away_from_corners(case, grid(case)), dtype), tf.float64).numpy()
    y, dy = evaluate(case, points, dtype)
    expected, slopes = evaluate(case, points)
    np.testing.assert_allclose(y, expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    np.testing.assert_allclose(dy, slopes, atol=2 * TOLERANCE[dtype])


@pytest.fixture(scope="module")
def xla_lacks_float16():
    """Whether XLA finds no conversion of float16: it links none for processors without the F16C instructions."""
    try:
        tf.function(lambda x: tf.cast(x, tf.float16) * 2, jit_compile=True)(tf.ones([3]))
    except tf.errors.InternalError as error:
        return "Failed to materialize symbols" in error.message
    return False


@pytest.mark.parametrize("jit", [None, True], ids=["eager", "xla"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_far_ends_infinities_and_nan(case, dtype, jit, xla_lacks_float16):
    if dtype == "float16" and jit and xla_lacks_float16:
        pytest.skip("XLA compiles no float16 for processors without F16C")
    _, _, _, (left_end, slope_left), slope_right = CASES[case]
    far = 60000.0
    y, dy = evaluate(case, [-INF, -far, far, INF, NAN], dtype, jit)
    assert np.isnan(y).tolist() == [False, False, False, False, True]
    tolerance = TOLERANCE[dtype]
    if left_end is None:
        assert y[0] == -INF * slope_left
        np.testing.assert_allclose(y[1], -far * slope_left, rtol=0.01, atol=2)
    else:
        np.testing.assert_allclose(y[:2], left_end, atol=tolerance * max(1, abs(left_end)))
    if slope_right:
        assert y[3] == INF
        fits = far * slope_right < float(tf.as_dtype(dtype).max)
        np.testing.assert_allclose(y[2], far * slope_right if fits else INF, rtol=0.01)
    else:
        np.testing.assert_allclose(y[2:4], 3.0, rtol=tolerance)
    np.testing.assert_allclose(dy[:4], [slope_left, slope_left, slope_right, slope_right], rtol=4 * tolerance)


def test_graph_and_xla_agree_with_eager_on_a_second_use_and_another_shape(case):
    function = activations.get(specification(case))
    for jit in (False, True):
        compiled = tf.function(
            lambda x: value_and_slope(function, x),
            jit_compile=jit,
            autograph=False,
            input_signature=[tf.TensorSpec([None, None], tf.float32)],
        )
        for shape in ((12, 8), (12, 8), (1, 96)):
            points = tf.constant(away_from_corners(case, np.linspace(-6, 6, 96)), tf.float32)
            x = tf.reshape(points, shape) if len(points) == 96 else points[None]
            for actual, expected in zip(compiled(x), value_and_slope(function, x), strict=True):
                np.testing.assert_allclose(actual, expected, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_any_shape(case, shape):
    y, dy = value_and_slope(activations.get(specification(case)), tf.zeros(shape))
    assert y.shape == dy.shape == shape


def test_a_layer_is_made_again_from_its_configuration(case):
    layer = activations.layer(specification(case), name="act")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()
    x = tf.constant([[-2.0, -0.3, 0.0, 0.4, 2.0]])
    np.testing.assert_array_equal(again(x), activations.get(specification(case))(x))


@pytest.fixture(scope="module", name="model")
def _model():
    """One model with a layer of every case."""
    inputs = keras.Input([5])
    outputs = [activations.layer(specification(case), name=case.replace(" ", "_"))(inputs) for case in CASES]
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("form", ["archive.keras", "archive.h5", "directory"])
def test_a_model_with_every_activation_is_saved_and_loaded(model, tmp_path, form):
    if form == "archive.h5":
        again = keras.Model.from_config(model.get_config())
        model.save_weights(tmp_path / form)
        again.load_weights(tmp_path / form)
    else:
        model.save(tmp_path / form)
        again = keras.models.load_model(tmp_path / form)
    x = tf.constant([[-2.0, -0.3, 0.0, 0.4, 2.0]])
    for actual, expected in zip(again(x), model(x), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_saved_model_serves_without_the_layers_code_and_without_xla(model, tmp_path):
    tf.saved_model.save(model, str(tmp_path))
    program = (
        "import tensorflow as tf, sys; m = tf.saved_model.load(sys.argv[1]);"
        "y = m.signatures['serving_default'](tf.constant([[-2.0, -0.3, 0.0, 0.4, 2.0]]));"
        "assert 'ranker' not in sys.modules; print(sorted(float(tf.reduce_sum(v)) for v in y.values()))"
    )
    printed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout
    served = json.loads(printed)
    expected = sorted(float(tf.reduce_sum(y)) for y in model(tf.constant([[-2.0, -0.3, 0.0, 0.4, 2.0]])))
    np.testing.assert_allclose(served, expected, atol=1e-6)
    assert b"XlaMustCompile" not in (tmp_path / "saved_model.pb").read_bytes()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_a_layer_follows_its_dtype_policy(case, policy):
    layer = activations.layer(specification(case), dtype=keras.mixed_precision.Policy(policy))
    assert layer(tf.ones([2, 3])).dtype == policy.removeprefix("mixed_")


def test_fused_has_the_same_values_and_slopes(case):
    function = activations.get(specification(case))
    x = tf.constant(away_from_corners(case, grid(case)), tf.float32)
    step = tf.function(lambda x: value_and_slope(activations.fused(function), x), autograph=False)
    for actual, expected in zip(step(x), value_and_slope(function, x), strict=True):
        np.testing.assert_allclose(actual, expected, atol=2e-6, rtol=2e-6)


def test_a_wrong_parameter_is_named_with_its_rule_and_its_value(case):
    name = CASES[case][0]
    with pytest.raises(ValueError, match=rf"`{name}` takes .*Received: gamma=1.0"):
        activations.get({"name": name, "gamma": 1.0})
    for key in catalogue.parameters(name):
        for wrong in (NAN, None, "1"):
            with pytest.raises(ValueError, match=rf"`{key}` of {name} must be .*Received: {key}={wrong!r}"):
                activations.layer({"name": name, key: wrong})


def test_keras_3_tensors_and_the_sparse_plus_oracle():
    """Keras 3 is another process: this one holds Keras 2."""
    program = Path(__file__).with_name("keras3_oracle.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program)],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "KERAS_BACKEND": "tensorflow",
            "TF_USE_LEGACY_KERAS": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "agree"


NOT_IN_LITE = {"gelu": "Erfc", "softplus centred": "Sinh", "softplus 4 centred": "Sinh"}
"""Cases that compute with an operation that TensorFlow Lite lacks."""


@pytest.mark.parametrize("case", [case for case in CASES if case not in NOT_IN_LITE])
def test_an_exported_layer_converts_to_tensorflow_lites_builtin_operations(case, tmp_path):
    name, parameters, knots, _, _ = CASES[case]
    model = keras.Sequential([keras.layers.InputLayer((1,)), activations.layer({"name": name, **parameters})])
    model.save(tmp_path / "model", save_format="tf")
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "model"))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    content = converter.convert()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
        runner = tf.lite.Interpreter(model_content=content, num_threads=1).get_signature_runner()
    x = np.concatenate([knots, np.linspace(-8, 8, 321), [-1e6, 1e6]]).astype(np.float32)[:, None]
    (column,) = runner.get_input_details()
    (y,) = runner(**{column: x}).values()
    # Both compute in float32, exp and cos by polynomials of their own: a few units in the last place of the inputs.
    np.testing.assert_allclose(y, model(x).numpy(), rtol=1e-6, atol=1e-6)
