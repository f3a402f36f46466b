"""Run in a process of its own: one framework's activations against the float64 reference.

    python framework_contract.py keras      # Keras 3 on the backend of KERAS_BACKEND
    python framework_contract.py torch

Prints the number of comparisons as its last line.
"""

import math
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from ranker.activations import catalogue
from ranker.activations.reference import value_and_slope

CASES = [
    ("linear", {}),
    ("relu", {}),
    ("smelu", {}),
    ("smelu", {"beta": 0.25}),
    ("smelu", {"beta": 3.0}),
    ("smelu", {"beta": 0.0}),
    ("smelu", {"centred": True}),
    ("smelu", {"beta": 3.0, "centred": True}),
    ("gsmelu", {}),
    ("gsmelu", {"alpha": 0.5, "beta": 2.0, "level": -0.25, "slope_left": 0.125}),
    ("gsmelu", {"level": 2.0, "slope_left": 1.0, "slope_right": 0.0}),
    ("gsmelu", {"alpha": -0.5, "beta": 0.5}),
    ("rescu", {"kernel": "triangular"}),
    ("rescu", {"kernel": "cosine", "beta": 2.0}),
    ("rescu", {"kernel": [1.0, 0.0, 3.0, 4.0], "slope_left": -0.5, "slope_right": 1.5}),
    ("gelu", {}),
    ("swish", {"beta": 4.0}),
    ("softplus", {"beta": 4.0}),
    ("softplus", {"centred": True}),
    ("mish", {}),
    ("tanhexp", {}),
    ("elu", {}),
    ("selu", {}),
]
# float32: values up to 6 with at most ten roundings of 6e-8 each; the slopes of the references go through
# exponentials of up to 10, float16 and bfloat16 keep 11 and 8 bits.
TOLERANCE = {"float32": 5e-6, "float16": 1e-2, "bfloat16": 8e-2}
POINTS = np.unique(np.concatenate([np.linspace(-6, 6, 97), [-3, -2, -1, -0.5, -0.25, 0.25, 0.5, 1, 2, 3]]))
FAMILY = ("smelu", "gsmelu", "rescu")


def points_without_corners(name, parameters):
    """The points where the slope exists in every convention."""
    corners = {"relu": [0.0], "selu": [0.0], "elu": [0.0]}.get(name, [])
    if parameters.get("beta") == 0.0:
        corners = [0.0]
    if parameters.get("alpha") == -0.5:
        corners = [0.5]
    return np.array([x for x in POINTS if x not in corners])


def check(evaluate, dtypes):
    """Compares values and slopes; `evaluate`: name, parameters, float64 points, dtype -> both as float64."""
    comparisons = 0
    assert {name for name, _ in CASES} == set(catalogue.names())
    for name, parameters in CASES:
        for dtype in dtypes:
            points = points_without_corners(name, parameters)
            if dtype != "float32":
                points = points[np.round(points * 8) == points * 8]  # exact in 8 bits
            value, slope = evaluate(name, parameters, points, dtype)
            wanted_value, wanted_slope = value_and_slope(name, points, parameters)
            label = f"{name} {parameters} {dtype}"
            tolerance = TOLERANCE[dtype]
            np.testing.assert_allclose(value, wanted_value, atol=tolerance, rtol=tolerance, err_msg=label)
            np.testing.assert_allclose(slope, wanted_slope, atol=2 * tolerance, err_msg=label)
            comparisons += 2 * len(points)
        if name in FAMILY:
            value, slope = evaluate(name, parameters, np.array([-np.inf, np.inf, -3e4, 3e4]), "float32")
            assert not np.isnan(value).any(), (name, parameters, value)
            assert np.isfinite(slope).all(), (name, parameters, slope)
    return comparisons


def message_of(call):
    """The message of the ValueError that a call must raise."""
    message = ""
    try:
        call()
    except ValueError as error:
        message = str(error)
    return message


def check_keras():
    import keras

    from ranker.activations import keras3

    backend = keras.backend.backend()

    def gradient(function, x):
        if backend == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return y, tape.gradient(y, x)
        if backend == "jax":
            import jax

            return function(x), jax.vjp(function, x)[1](jax.numpy.ones_like(x))[0]
        x = x.detach().clone().requires_grad_(True)
        y = function(x)
        y.sum().backward()
        return y.detach(), x.grad

    def evaluate(name, parameters, points, dtype):
        function = keras3.get({"name": name, **parameters})
        x = keras.ops.convert_to_tensor(points.astype("float32"))
        y, slope = gradient(function, keras.ops.cast(x, dtype))
        assert keras.backend.standardize_dtype(y.dtype) == dtype
        return (
            keras.ops.convert_to_numpy(keras.ops.cast(y, "float32")).astype(float),
            keras.ops.convert_to_numpy(keras.ops.cast(slope, "float32")).astype(float),
        )

    comparisons = check(evaluate, TOLERANCE)
    inputs = outputs = keras.Input([4])
    for name, parameters in CASES:
        outputs = keras3.ActivationLayer(name, **parameters)(keras.layers.Dense(4)(outputs))
    model = keras.Model(inputs, outputs)
    x = np.linspace(-1, 1, 32).reshape(8, 4).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.keras")
        model.save(path)
        loaded = keras.saving.load_model(path)
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    shallow = keras.Sequential(
        [keras.layers.Dense(8), keras3.ActivationLayer("smelu"), keras.layers.Dense(1)]
    )
    shallow.compile("sgd", "mse", jit_compile=backend != "torch")
    history = shallow.fit(x, x[:, :1], epochs=20, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < history[0]
    for wrong in ({"beta": -1.0}, {"gamma": 1.0}, {"beta": math.nan}):
        assert "Received: " in message_of(lambda: keras3.ActivationLayer("smelu", **wrong))  # noqa: B023
    return comparisons


def check_torch():
    import torch

    from ranker.activations.torch import ActivationModule, get

    def evaluate_with(wrap):
        def evaluate(name, parameters, points, dtype):
            x = torch.tensor(points, dtype=getattr(torch, dtype), requires_grad=True)
            y = wrap(get({"name": name, **parameters}))(x)
            assert y.dtype == x.dtype
            y.sum().backward()
            return y.detach().double().numpy(), x.grad.double().numpy()

        return evaluate

    comparisons = check(evaluate_with(lambda function: function), TOLERANCE)
    compiled_cases = [case for case in CASES if case[0] in FAMILY][:4]
    for name, parameters in compiled_cases:
        torch.compiler.reset()
        points = points_without_corners(name, parameters)
        evaluate = evaluate_with(lambda function: torch.compile(function, dynamic=False))
        value, slope = evaluate(name, parameters, points, "float32")
        wanted_value, wanted_slope = value_and_slope(name, points, parameters)
        np.testing.assert_allclose(value, wanted_value, atol=5e-6)
        np.testing.assert_allclose(slope, wanted_slope, atol=5e-6)
        comparisons += 2 * len(points)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), ActivationModule("smelu", beta=0.5, centred=True))
    assert "smelu, beta=0.5, centred=True" in repr(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        torch.save(model, path)
        loaded = torch.load(path, weights_only=False)
        x = torch.linspace(-1, 1, 32).reshape(8, 4)
        assert torch.equal(loaded(x), model(x))
    return comparisons


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    print({"keras": check_keras, "torch": check_torch}[sys.argv[1]]())
