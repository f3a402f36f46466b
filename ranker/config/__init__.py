"""The experiment as frozen, validated objects: YAML in, clear errors out. Loads no TensorFlow."""

from ranker.config.data import Data, Expectation, Explode, Extract, FileSplit, Flags, Source, Table
from ranker.config.deployment import Monitor, Serving
from ranker.config.experiment import Experiment, fingerprint
from ranker.config.features import Categorical, Feature, Numeric, SequenceFeature, TimeFeature
from ranker.config.load import build, dump, load
from ranker.config.mitigation import Anchor, Codistillation, Distillation, Ensemble, Mitigation, SelfEnsemble
from ranker.config.model import ActivationSpec, Model
from ranker.config.training import Optimizer, Replicas, Training

__all__ = [
    "ActivationSpec",
    "Anchor",
    "Categorical",
    "Codistillation",
    "Data",
    "Distillation",
    "Ensemble",
    "Expectation",
    "Experiment",
    "Explode",
    "Extract",
    "Feature",
    "FileSplit",
    "Flags",
    "Mitigation",
    "Model",
    "Monitor",
    "Numeric",
    "Optimizer",
    "Replicas",
    "SelfEnsemble",
    "SequenceFeature",
    "Serving",
    "Source",
    "Table",
    "TimeFeature",
    "Training",
    "build",
    "dump",
    "fingerprint",
    "load",
]
