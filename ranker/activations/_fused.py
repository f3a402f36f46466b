"""An activation whose passes are one kernel each, in a program that is not compiled."""

from collections.abc import Callable

from ranker.backend import tf


def fused(function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Compile the value and the gradient of an activation with XLA, each by itself.

    It helps training that runs eagerly or in an ordinary graph, where every operation of an activation is a
    pass over memory. It does not help inside a step that is compiled as a whole. Do not use it in a model
    that you export: TensorFlow Serving refuses compiled functions on CPU without the flag
    `--xla_cpu_compilation_enabled`. It compiles again for each shape.

    Args:
        function: Of a floating point tensor, elementwise; say `get({"name": "smelu", "beta": 1.0})`.

    Returns:
        Function with the same values and first derivatives, up to rounding. It keeps its input for the
        backward pass, nothing else.
    """

    def pull_back(x: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x, upstream)

    forward = tf.function(function, jit_compile=True, autograph=False)
    backward = tf.function(pull_back, jit_compile=True, autograph=False)

    @tf.custom_gradient
    def activation(x: tf.Tensor):
        return forward(x), lambda upstream: backward(x, upstream)

    return activation
