"""SmeLU's own properties and golden values."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker import activations
from ranker.activations import gsmelu, rescu, smelu
from ranker.backend import tf

betas = st.floats(1e-3, 100.0)
numbers = st.floats(-300.0, 300.0, width=32)


def value_slope(x, beta=1.0, dtype="float32"):
    x = tf.constant(x, dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = smelu(x, beta)
    return y.numpy(), tape.gradient(y, x).numpy()


def by_definition(x, beta):
    x = np.asarray(x, np.float64)
    middle = (x + beta) ** 2 / (4 * beta)
    return (
        np.where(x <= -beta, 0.0, np.where(x >= beta, x, middle)),
        np.where(x <= -beta, 0.0, np.where(x >= beta, 1.0, (x + beta) / (2 * beta))),
    )


def test_golden_values():
    y, slope = value_slope([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
    assert y.tolist() == [0.0, 0.0, 0.0625, 0.25, 0.5625, 1.0, 2.0]
    assert slope.tolist() == [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def compiled_operations(centred):
    """How often each arithmetic operation stands in the compiled value and slope; names, shapes and constants apart."""

    @tf.function(jit_compile=True)
    def value_and_slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = smelu(x, 2.0, centred=centred)
        return y, tape.gradient(y, x)

    program = value_and_slope.experimental_get_compiler_ir(tf.zeros([8, 8]))(stage="optimized_hlo")
    operations = Counter(re.findall(r"= \S+ ([a-z-]+)\(", program))
    return {
        name: operations[name]
        for name in ("add", "subtract", "multiply", "divide", "clamp", "minimum", "maximum", "select")
    }


def test_the_centred_form_compiles_to_no_more_operations():
    plain, centred = compiled_operations(False), compiled_operations(True)
    assert plain["clamp"] + plain["minimum"] >= 1
    assert all(count <= plain[name] for name, count in centred.items()), (plain, centred)


@pytest.mark.parametrize("beta", [1e-3, 0.1, 0.5, 1.0, 3.0, 1000.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_definition_at_and_around_the_knots(beta, dtype):
    resolution = np.finfo(dtype).eps
    knots = np.array([-beta, 0.0, beta])
    x = np.concatenate([knots + k * beta for k in (-0.5, -4 * resolution, 0.0, 4 * resolution, 0.5)])
    x = x.astype(dtype)
    y, slope = value_slope(x, beta, dtype)
    wanted, slopes = by_definition(x, beta)
    np.testing.assert_allclose(y, wanted, rtol=4 * resolution, atol=4 * resolution * beta)
    np.testing.assert_allclose(slope, slopes, atol=2 * resolution)


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=20), betas)
def test_any_point_any_beta(x, beta):
    y, slope = value_slope(x, beta)
    wanted, slopes = by_definition(np.float32(x), beta)
    np.testing.assert_allclose(y, wanted, rtol=1e-6, atol=1e-6 * beta)
    np.testing.assert_allclose(slope, slopes, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=20), betas)
def test_a_number_and_its_opposite_differ_by_the_number(x, beta):
    x = tf.constant(x, tf.float32)
    np.testing.assert_allclose(smelu(x, beta) - smelu(-x, beta), x, rtol=1e-6, atol=1e-6 * beta)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("beta", [0.0, 0, 1e-320, 1e-30, 1e-10])
def test_beta_zero_and_next_to_it_is_relu(dtype, beta):
    x = tf.constant([-np.inf, -3.0, -1e-3, 1e-3, 3.0, np.inf], dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = smelu(x, beta)
    np.testing.assert_array_equal(tf.cast(y, tf.float64), tf.cast(tf.nn.relu(x), tf.float64))
    assert tape.gradient(y, x).numpy().astype(float).tolist() == [0, 0, 0, 1, 1, 1]
    assert np.isfinite(value_slope([0.0], beta)).all()


def test_beyond_beta_it_is_the_input_bit_for_bit():
    for dtype in ("float16", "float32"):
        x = np.geomspace(0.7, 6e4, 1000).astype(dtype)
        np.testing.assert_array_equal(
            value_slope(x, 0.7, dtype)[0], np.maximum(x, np.float32(0.7).astype(dtype))
        )


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_the_centred_form_is_smelu_less_its_value_at_zero(beta):
    x = tf.constant(np.linspace(-6, 6, 481), tf.float64)
    np.testing.assert_allclose(smelu(x, beta, centred=True), smelu(x, beta) - beta / 4, atol=1e-15)
    np.testing.assert_allclose(
        smelu(x, beta, centred=True), gsmelu(x, beta, beta, level=-beta / 4), atol=1e-15
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_centred_forms_keep_their_relative_accuracy_at_the_origin(dtype):
    """Two roundings of a product are allowed; a difference of numbers near beta / 4 would lose all digits."""
    resolution = float(tf.experimental.numpy.finfo(dtype).eps) if dtype != "bfloat16" else 2.0**-7
    x = tf.constant([s * 2.0**-k for k in range(1, 11) for s in (-1, 1)], dtype)
    exact = tf.cast(x, tf.float64)
    wanted = exact * (exact + 2) / 4
    np.testing.assert_allclose(tf.cast(smelu(x, 1.0, centred=True), tf.float64), wanted, rtol=4 * resolution)
    softplus = 0.5 * exact + tf.math.log(tf.cosh(0.5 * exact))
    np.testing.assert_allclose(
        tf.cast(activations.softplus(x, 1.0, centred=True), tf.float64), softplus, rtol=6 * resolution
    )


def test_mean_output_at_initialisation_is_what_the_docstring_says():
    """By quadrature over the normal density, at an input scale small and large beside beta."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = weights / weights.sum()
    for scale, expected in ((0.05, 0.25 + 0.05**2 / 4), (50.0, 50.0 / np.sqrt(2 * np.pi))):
        x = tf.constant(scale * nodes, tf.float64)
        mean = float(weights @ smelu(x, 1.0).numpy())
        centred_mean = float(weights @ smelu(x, 1.0, centred=True).numpy())
        # 120 nodes integrate the wide case's corner to about 1%, the narrow case's parabola exactly.
        assert mean == pytest.approx(expected, rel=0.02)
        assert centred_mean == pytest.approx(mean - 0.25, abs=1e-12)
    assert float(weights @ smelu(tf.constant(0.05 * nodes, tf.float64), 1.0, centred=True).numpy()) < 0.001


def test_the_value_is_never_under_relu_and_never_falls():
    x = np.linspace(-3, 3, 100_001).astype(np.float32)
    y, slope = value_slope(x, 1.3)
    assert (y >= np.maximum(x, 0)).all()
    assert (np.diff(y) >= -1e-7).all()
    assert ((slope >= 0) & (slope <= 1)).all()


def test_the_backward_pass_reads_one_tensor_and_is_one_operation():
    with tf.Graph().as_default():
        x = tf.compat.v1.placeholder(tf.float32, [7, 11])
        upstream = tf.compat.v1.placeholder(tf.float32, [7, 11])
        y = smelu(x, 0.7)
        forward = {operation.name for operation in tf.compat.v1.get_default_graph().get_operations()}
        (gradient,) = tf.gradients(y, x, upstream)
        backward, kept, pending = [], set(), [gradient.op]
        while pending:
            operation = pending.pop()
            if operation.name in forward:
                kept.add(operation.name)
            else:
                backward.append(operation.type)
                pending += [tensor.op for tensor in operation.inputs]
    assert len(kept - {upstream.op.name}) == 1
    assert [kind for kind in backward if kind != "Identity"] == ["EluGrad"]


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_the_generalisations_hold_it_as_their_special_case(beta):
    x = tf.constant(np.linspace(-6, 6, 481), tf.float64)
    np.testing.assert_allclose(gsmelu(x, beta, beta), smelu(x, beta), atol=1e-14)
    np.testing.assert_allclose(rescu(x, beta, beta, kernel="box"), smelu(x, beta), atol=1e-14)
    np.testing.assert_allclose(rescu(x, beta, beta, kernel=[5.0, 5.0]), smelu(x, beta), atol=1e-14)
