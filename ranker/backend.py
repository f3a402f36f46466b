"""Imports TensorFlow with Keras 2 for the whole project.

TFRS 0.7.7 runs on Keras 2 only. `TF_USE_LEGACY_KERAS=1` makes `tf.keras` Keras 2 (the `tf_keras`
package), but only if it is set before TensorFlow is first imported; later it has no effect and TFRS
fails in ways that do not name the cause. Every module of this project that needs TensorFlow says
`from ranker.backend import keras, tf`.

Raises:
    UserError: on import, if TensorFlow was imported earlier in this process with Keras 3.
"""

import os
import sys

from ranker.errors import UserError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "tensorflow" in sys.modules and os.environ.get("TF_USE_LEGACY_KERAS", "").lower() not in {"1", "true"}:
    raise UserError(
        "tensorflow was imported before ranker.backend, with Keras 3; set TF_USE_LEGACY_KERAS=1 in the environment"
    )
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import tensorflow as tf
import tf_keras as keras

__all__ = ["keras", "tf"]
