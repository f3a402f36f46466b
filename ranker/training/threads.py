"""How many processor threads TensorFlow uses in this process."""

from __future__ import annotations

from ranker.backend import tf


def use(inside: int = 1, beside: int = 1) -> None:
    """Sets TensorFlow's threads; without effect in a process where TensorFlow has already run something.

    Args:
        inside: threads that share one operation.
        beside: operations at a time: the lanes of a stack.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(inside)
        tf.config.threading.set_inter_op_parallelism_threads(beside)
    except RuntimeError:
        # TensorFlow has fixed its thread pools: a notebook or a test, whose results are as good.
        return
