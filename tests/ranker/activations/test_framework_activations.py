"""The activations of Keras 3 and PyTorch against the float64 reference, each in a process of its own.

Keras 3 with TensorFlow is part of every environment. JAX and PyTorch stand in an environment of their
own, which `make test-frameworks` sets up.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ranker import activations
from ranker.activations.reference import value_and_slope
from ranker.backend import tf
from tests.ranker.activations.framework_contract import CASES, POINTS, points_without_corners

SCRIPT = Path(__file__).with_name("framework_contract.py")


def run_contract(python, framework, backend):
    return subprocess.run(
        [str(python), "-W", "ignore", str(SCRIPT), framework],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": str(Path(__file__).parents[3]),
        },
    )


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_the_functions_that_train_are_the_reference(name, parameters):
    points = points_without_corners(name, parameters)
    x = tf.constant(points, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = activations.get({"name": name, **parameters})(x)
    value, slope = value_and_slope(name, points, parameters)
    # Parameters such as 0.125 are float64 constants of TensorFlow: what is left is float64 rounding of
    # a handful of operations on numbers up to 10.
    np.testing.assert_allclose(y, value, atol=1e-13, rtol=1e-13)
    np.testing.assert_allclose(tape.gradient(y, x), slope, atol=1e-13)


def test_keras_3_on_tensorflow():
    done = run_contract(sys.executable, "keras", "tensorflow")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > len(CASES) * len(POINTS)


@pytest.mark.frameworks
@pytest.mark.parametrize(("framework", "backend"), [("keras", "jax"), ("keras", "torch"), ("torch", "torch")])
def test_the_frameworks_of_their_own_environment(framework, backend):
    done = run_contract(os.environ["RANKER_FRAMEWORKS_PYTHON"], framework, backend)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > len(CASES) * len(POINTS)


def test_neither_module_loads_tensorflow():
    """The reference and the catalogue stand beside them without TensorFlow or TFRS."""
    program = (
        "import sys, ranker.activations.reference, ranker.activations.catalogue;"
        "print([m for m in ('tensorflow', 'tf_keras', 'keras', 'torch', 'jax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
