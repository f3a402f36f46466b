"""The experiment as frozen, validated objects: YAML in, clear errors out. Loads no TensorFlow."""

from ranker.config.data import Data, Expectation, Extract, Flags, Source, Table
from ranker.config.deployment import Monitor, Serving
from ranker.config.experiment import Experiment, fingerprint
from ranker.config.features import Categorical, Feature, Numeric
from ranker.config.load import build, dump, load
from ranker.config.model import Activation, Model
from ranker.config.training import Optimizer, Replicas, Training

__all__ = [
    "Activation", "Categorical", "Data", "Expectation", "Experiment", "Extract", "Feature", "Flags", "Model",
    "Monitor", "Numeric", "Optimizer", "Replicas", "Serving", "Source", "Table", "Training",
    "build", "dump", "fingerprint", "load",
]  # fmt: skip
