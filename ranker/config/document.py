"""`python -m ranker.config.document > docs/configuration.md`: every key of the configuration, from the pydantic models."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ranker.config import data, deployment, features, mitigation, model, training
from ranker.config.experiment import Experiment
from ranker.config.shapes import SHAPES
from ranker.json_text import json_text

SECTIONS: tuple[tuple[str, type[BaseModel], str], ...] = (
    (
        "",
        Experiment,
        "A validated experiment. `arms` are recipes under comparison, as overrides; the first is deployed.",
    ),
    ("data", data.Data, "The log and how to read it."),
    (
        "data.events",
        data.Source,
        "Files of rows. Values stay text until a feature or the label asks for numbers.",
    ),
    (
        "data.events.explode",
        data.Explode,
        "One row for each entry of a list: an impression list becomes a row a candidate.",
    ),
    ("data.tables.NAME", data.Table, "A side table joined to the events."),
    ("data.derive.NAME (flags)", data.Flags, "A multi-valued column from columns of 0/1 or true/false."),
    ("data.derive.NAME (extract)", data.Extract, "A column from part of another."),
    ("data.split (by: time)", data.TimeSplit, "The last `eval` share of the rows by `data.timestamp`."),
    (
        "data.split (by: hash)",
        data.HashSplit,
        "A stable pseudo-random share: rows whose hash of the columns `of` falls below `eval`.",
    ),
    (
        "data.split (by: column)",
        data.ColumnSplit,
        "The split is a column's value. Rows whose value is in neither list are rejected, and counted so.",
    ),
    (
        "data.split (by: file)",
        data.FileSplit,
        "The split is the file a row stands in. Every file must match one of the two lists.",
    ),
    ("data.item", data.Item, "The column that identifies a candidate."),
    (
        "data.negatives",
        data.Negatives,
        "Rows with label 0 for a log of positives, made of the items of the training rows.",
    ),
    (
        "data.expectations.NAME",
        data.Expectation,
        "What a feature's values must satisfy, or `prepare` refuses the log.",
    ),
    (
        "features.NAME (kind: categorical)",
        features.Categorical,
        "A column of identities, embedded. Missing (empty) and unknown values have buckets of their own.",
    ),
    (
        "features.NAME (kind: numeric)",
        features.Numeric,
        "A column of numbers. Missing is empty text, null or NaN, and has an indicator (or a bucket) of its own.",
    ),
    (
        "features.NAME (kind: time)",
        features.TimeFeature,
        "A column of times, of which the hour of the day and the day of the week are embedded.",
    ),
    (
        "features.NAME (kind: sequence)",
        features.SequenceFeature,
        "A column that lists values of another feature, oldest first, such as the last items a user looked at.",
    ),
    ("model", model.Model, "The ranking model."),
    (
        "model.activation",
        model.ActivationSpec,
        "An activation by name with its parameters, for example `{name: smelu, beta: 1.0}`.",
    ),
    ("training", training.Training, "One replica's training."),
    ("training.optimizer", training.Optimizer, "An optimizer by name, with Keras' formulas."),
    (
        "mitigation (name: ensemble)",
        mitigation.Ensemble,
        "`components` models of different initialisation; the prediction is the mean of theirs.",
    ),
    (
        "mitigation (name: self_ensemble)",
        mitigation.SelfEnsemble,
        "`components` towers over the same embeddings, decorrelated by a loss (anti-distillation, arXiv 2010.09923).",
    ),
    (
        "mitigation (name: codistillation)",
        mitigation.Codistillation,
        "The arm's replicas learn together, each pulled to the mean of the others (arXiv 1804.03235).",
    ),
    (
        "mitigation (name: distillation)",
        mitigation.Distillation,
        "A student of an ensemble of `components` teachers, which each replica trains for itself.",
    ),
    (
        "mitigation (name: anchor)",
        mitigation.Anchor,
        "Predictions are pulled to those of one frozen earlier replica, the same for all replicas.",
    ),
    ("replicas", training.Replicas, "How many copies, from which seed, and what differs between them."),
    ("serving", deployment.Serving, "Replica i of the deployed arm serves gRPC on `base_port + i`."),
    (
        "monitor",
        deployment.Monitor,
        "One round every `interval`: `requests` probe requests to every replica, measured to depth `k`.",
    ),
)
"""Where a section stands in the file, its model, and what it describes."""

_ROLE = "`context` if a request has one value, `item` if each candidate has its own."
_TRAINING_ONLY = (
    "The model learns from the column but is served, and evaluated, without it, as the position in a list shown; every"
    " tenth training row has it missing, so that the model knows that case."
)

MEANINGS: dict[str, tuple[str, Any]] = {
    "Experiment.name": ("The experiment's name; reports and deployments carry it.", "movielens-100k"),
    "Experiment.task": (
        "`classification`: the model gives the label's probability. `regression`: it gives its value (squared error).",
        "regression",
    ),
    "Experiment.data": ("Where the rows come from and what they mean.", {"events": {"path": "events.csv"}}),
    "Experiment.features": (
        "The columns that the model sees, by name. A range of numbers stands for one feature each (`f1..f300`).",
        {"age": {"kind": "numeric", "role": "context"}},
    ),
    "Experiment.model": ("The network.", {"hidden": [64, 32]}),
    "Experiment.training": ("How one replica learns.", {"batch_size": 1024}),
    "Experiment.mitigation": (
        "What else makes replicas agree; null for nothing.",
        {"name": "ensemble", "components": 3},
    ),
    "Experiment.replicas": ("How many copies, and what differs between them.", {"count": 5}),
    "Experiment.arms": (
        "Recipes under comparison by name, each as changes to this file; the first one is deployed.",
        {"smelu": {}, "relu": {"model.activation": {"name": "relu"}}},
    ),
    "Experiment.serving": ("Where the replicas serve.", {"base_port": 8500}),
    "Experiment.monitor": ("How closely they are watched.", {"interval": "60s"}),
    "Categorical.kind": ("The kind of feature: an identity, embedded.", "categorical"),
    "Categorical.role": (_ROLE, "item"),
    "Categorical.training_only": (_TRAINING_ONLY, True),
    "Categorical.multivalued": (
        "What separates the values of a column that holds several; null for one value.",
        "|",
    ),
    "Categorical.max_values": ("Of several values, the first so many are embedded and averaged.", 4),
    "Categorical.min_count": ("Values that are rarer in the training rows are unknown.", 5),
    "Categorical.max_vocabulary": (
        "Only so many of the most frequent values are known; null for all.",
        100000,
    ),
    "Categorical.oov_buckets": ("Embeddings that unknown values share.", 8),
    "Categorical.hash_buckets": (
        "Values are hashed to so many embeddings (FarmHash, as `tf.strings.to_hash_bucket_fast`) instead of being listed in"
        " a vocabulary; null for a vocabulary.",
        100000,
    ),
    "Categorical.embedding_dim": ("Length of its embeddings; null for `model.embedding_dim`.", 8),
    "Numeric.kind": ("The kind of feature: a number.", "numeric"),
    "Numeric.role": (_ROLE, "context"),
    "Numeric.training_only": (_TRAINING_ONLY, True),
    "Numeric.transform": (
        "`standardize`: (x - mean) / deviation. `log1p`: sign(x) log(1 + abs(x)), then standardised. `buckets`: an"
        " embedding of the quantile bucket. `none`: as it is.",
        "log1p",
    ),
    "Numeric.buckets": ("Buckets of `transform: buckets`.", 20),
    "Numeric.pieces": (
        "Piecewise linear shares between the number's quantiles that enter beside it, so that the model can bend with it;"
        " the number itself is then cut at 3 deviations. 0: none.",
        16,
    ),
    "Numeric.embedding_dim": ("Length of the buckets' embeddings; null for `model.embedding_dim`.", 8),
    "TimeFeature.kind": ("The kind of feature: a time.", "time"),
    "TimeFeature.role": (_ROLE, "context"),
    "TimeFeature.training_only": (_TRAINING_ONLY, True),
    "TimeFeature.parts": (
        "What is embedded of it: the hour of the day, the day of the week.",
        ["hour", "weekday"],
    ),
    "TimeFeature.utc_offset": ("Hours that are added before the parts are taken; times are UTC.", 1),
    "TimeFeature.embedding_dim": ("Length of the parts' embeddings; null for `model.embedding_dim`.", 4),
    "SequenceFeature.kind": (
        "The kind of feature: a list of another feature's values, oldest first.",
        "sequence",
    ),
    "SequenceFeature.role": (_ROLE, "context"),
    "SequenceFeature.training_only": (_TRAINING_ONLY, True),
    "SequenceFeature.of": ("The feature whose embeddings it shares.", "item_id"),
    "SequenceFeature.separator": ("What stands between the values.", "|"),
    "SequenceFeature.last": ("So many of the last values count.", 20),
    "SequenceFeature.pool": (
        "`mean` of the values' embeddings, or `attention`: their mean weighted by the softmax of their products with the"
        " candidate's embedding, over the root of its length.",
        "attention",
    ),
    "Model.embedding_dim": ("Length of the embeddings.", 32),
    "Model.embedding_stddev": (
        "Standard deviation of the embeddings' initial values; 0 starts them at zero.",
        0.01,
    ),
    "Model.embedding_l2": ("L2 penalty of the embeddings in a batch.", 1e-5),
    "Model.interaction": (
        "`concat`: embeddings side by side. `cross`: DCN-v2 cross layers. `dot`: DLRM's pairwise dot products.",
        "cross",
    ),
    "Model.cross_layers": ("Layers of `interaction: cross`.", 3),
    "Model.dense_hidden": ("Widths of a tower for the numbers before the interaction; empty for none.", [32]),
    "Model.hidden": ("Widths of the tower's hidden layers.", [128, 64, 32]),
    "Model.wide": (
        "Whether what enters the tower is also added to the logit along a line (Wide & Deep).",
        False,
    ),
    "Model.normalization": ("Before each activation: `layer` is LayerNorm, `rms` is RMSNorm.", "none"),
    "Model.dropout": ("In training, the share of each hidden layer's outputs that is set to 0.", 0.1),
    "Model.activation": ("The activation of the hidden layers.", {"name": "smelu", "beta": 1.0}),
    "ActivationSpec.name": ("Its name; its parameters stand beside it.", "smelu"),
    "Training.epochs": ("Passes over the training rows; `auto`: a pilot chooses them.", 3),
    "Training.max_epochs": ("The most epochs that `epochs: auto` may choose.", 20),
    "Training.patience": ("Epochs without a better measure after which `epochs: auto` stops looking.", 3),
    "Training.validation": ("Share of the training rows on which `epochs: auto` measures.", 0.1),
    "Training.validation_measure": (
        "What `epochs: auto` measures: the highest `auc` or the lowest `loss` is the best epoch.",
        "loss",
    ),
    "Training.loss": (
        "`pointwise`: cross-entropy of each row. `pairwise`: logistic loss of pairs of a request's rows (RankNet)."
        " `listwise`: cross-entropy of the softmax over a request's rows.",
        "pairwise",
    ),
    "Training.batch_size": ("Rows of one step.", 1024),
    "Training.shuffle_window": (
        "How many rows a row may move from the base order; 1 keeps the order, `full` is any permutation.",
        "full",
    ),
    "Training.reshuffle": (
        "Whether each epoch after the first has another base order, the same for all replicas and arms.",
        True,
    ),
    "Training.average_last": (
        "The weights served are the mean over this last share of the steps; 0: the last step's.",
        0.2,
    ),
    "Training.ema": ("Decay of an exponential moving average of the weights instead; 0 for none.", 0.999),
    "Training.optimizer": ("The optimizer.", {"name": "adagrad", "learning_rate": 0.05}),
    "Training.segment_rows": (
        "Training rows held in memory at a time; more are read in segments, to the same result.",
        1_000_000,
    ),
    "Training.threads": ("Threads of one training process; the same number gives the same bytes.", 2),
    "Training.checkpoint_minutes": ("Minutes between checkpoints, from which a killed training goes on.", 5),
    "Training.warm_start": (
        "An earlier replica's SavedModel (a version's directory or a model base path, absolute or relative to the run"
        " directory) whose weights the training begins with; `{replica}` stands for the replica's own number. Ids are"
        " joined by their text. Needs a number of epochs.",
        "../last-week/replicas/smelu/{replica}",
    ),
    "Training.distribution": (
        "`multi_worker`: a replica's training is spread over several workers.",
        "multi_worker",
    ),
    "Optimizer.name": ("The rule, by its name in Keras.", "adam"),
    "Optimizer.learning_rate": ("Its step size.", 0.001),
    "Optimizer.decay": ("How the learning rate falls over the training; `none` keeps it.", "cosine"),
    "Optimizer.final": ("The share of the learning rate at which `decay` ends.", 0.01),
    "Optimizer.warmup": ("Share of the training over which the learning rate rises from 0.", 0.05),
    "Optimizer.epsilon": ("Added under the root, against a division by zero.", 1e-7),
    "Optimizer.initial_accumulator": (
        "Adagrad's sum of squares at the beginning: the smaller, the faster weights with small gradients learn, such as"
        " those of rare ids. `auto`: on logs of few rows the pilot chooses between 0.1 and 0.0001, on others it is 0.1.",
        "auto",
    ),
    "Optimizer.beta_1": ("Adam's decay of the mean of the gradients.", 0.9),
    "Optimizer.beta_2": ("Adam's decay of the mean of their squares.", 0.999),
    "Optimizer.rho": ("RMSprop's decay of the mean of the squares.", 0.9),
    "Optimizer.momentum": ("SGD's momentum.", 0.9),
    "Optimizer.weight_decay": ("Share times the learning rate by which kernels shrink each step.", 0.01),
    "Optimizer.sharpness": (
        "Length of the step uphill at whose end the gradient is taken; doubles a step's price.",
        0.05,
    ),
    "Ensemble.name": ("Several models whose mean is the prediction.", "ensemble"),
    "Ensemble.components": ("How many.", 5),
    "SelfEnsemble.name": ("Several towers over the same embeddings (anti-distillation).", "self_ensemble"),
    "SelfEnsemble.components": ("How many.", 5),
    "SelfEnsemble.decorrelation": (
        "Strength of the loss that makes them differ; 0 for none.",
        0.1,
    ),
    "Codistillation.name": (
        "The arm's replicas learn together, each pulled to the mean of the others.",
        "codistillation",
    ),
    "Codistillation.weight": ("Strength of the pull.", 0.5),
    "Codistillation.burn_in": ("Share of the training before it begins.", 0.2),
    "Distillation.name": ("A student of an ensemble of teachers.", "distillation"),
    "Distillation.components": ("Teachers.", 5),
    "Distillation.weight": ("Share of the teachers' mean in the label.", 0.5),
    "Anchor.name": ("Predictions are pulled to those of one frozen earlier replica.", "anchor"),
    "Anchor.weight": ("Share of its prediction in the label.", 0.5),
    "Anchor.replica": (
        "Its SavedModel or model base path, absolute or relative to the run directory; null trains one first.",
        "../last-week/replicas/smelu/0",
    ),
    "Anchor.chain": ("Anchors that are trained one after the other, each pulled to the one before it.", 2),
    "Replicas.count": ("Replicas of each arm.", 5),
    "Replicas.seed": ("The seed from which all others are made.", 7),
    "Replicas.vary": (
        "What differs between them: initial weights, order of the rows.",
        ["init", "shuffle"],
    ),
    "Serving.host": ("The host in the targets of `deployment.yaml`.", "10.0.0.5"),
    "Serving.base_port": ("Replica i serves gRPC on this port + i.", 8500),
    "Serving.model_name": ("The model's name for TF Serving.", "ranker"),
    "Monitor.interval": ("Time between two rounds: seconds, or text such as `500ms`, `60s`, `5m`.", "60s"),
    "Monitor.deadline": ("How long a replica may take to answer.", "2s"),
    "Monitor.requests": ("Probe requests of a round.", 500),
    "Monitor.k": ("Depth to which rankings are measured.", 10),
    "Monitor.budget": ("What each measure may be at most, by its name.", {"top1_swap": 0.05}),
    "Monitor.all_pairs_up_to": (
        "Replicas up to which all pairs are compared. Of more, each round measures a random design of 8 pairs a replica.",
        16,
    ),
    "Monitor.slices": ("Features by which the measures are broken down.", ["device"]),
}
"""Meaning and example of the keys whose models do not say them beside the field, as `Class.key`."""


def page() -> str:
    """The page: a section for each table of the file, a row for each key, and an example of each shape of work."""
    lines = [
        "# Configuration",
        "",
        "An experiment is one YAML file. Every key with its type, default, range, meaning and an example. A key that is not"
        " here is an error, and `ranker config --config FILE` names all mistakes of a file at once.",
        "",
        "- `ranker init FILE...` looks at a log and writes a configuration that runs.",
        "- `ranker config --check --config FILE` reads the first rows and says what would be rejected and joined.",
        "- `ranker config --schema` prints the JSON Schema, for editors.",
        "- `--set KEY=VALUE` overrides a key on the command line, such as `--set training.batch_size=512`.",
        "",
        "This page is written by `python -m ranker.config.document`.",
    ]
    for place, section, description in SECTIONS:
        lines += ["", f"## `{place}`" if place else "## The file", "", description, ""]
        lines += ["| key | type | default | meaning | example |", "|---|---|---|---|---|"]
        for name, field in section.model_fields.items():
            meaning, example = meaning_of(section, name, field)
            cells = [f"`{name}`", _type(field), _default(field), meaning, f"`{_plain(example)}`"]
            lines.append("| " + " | ".join(_cell(text) for text in cells) + " |")
    lines += ["", "## Shapes of work"]
    for title, text, example in SHAPES:
        lines += ["", f"### {title}", "", text, "", "```yaml", example.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def meaning_of(section: type[BaseModel], name: str, field: FieldInfo) -> tuple[str, Any]:
    """What a key means, and an example.

    Raises:
        KeyError: nobody says it.
    """
    if field.description and field.examples:
        return " ".join(field.description.split()), field.examples[0]
    owner = next(base for base in section.__mro__ if name in getattr(base, "__annotations__", {}))
    return MEANINGS[f"{owner.__name__}.{name}"]


def _type(field: FieldInfo) -> str:
    kind = _kind(field.annotation)
    limits = _limits(field.metadata)
    return f"{kind}, {limits}" if limits else kind


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = _limits(arguments[1:])
        return f"{_kind(arguments[0])} {limits}" if limits else _kind(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(part) for part in arguments))
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"table of {_kind(arguments[1])}"
    names = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        type(None): "null",
        Any: "any value",
    }
    if annotation in names:
        return names[annotation]
    return f"table ({annotation.__name__})" if isinstance(annotation, type) else "value"


def _limits(metadata: Any) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    limits = [
        f"{sign} {getattr(entry, name)}"
        for entry in _flat(metadata)
        for name, sign in signs.items()
        if getattr(entry, name, None) is not None
    ]
    return " and ".join(limits)


def _flat(metadata: Any) -> Iterator[Any]:
    for entry in metadata:
        yield entry
        yield from getattr(entry, "metadata", ())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=False)
    return "required" if value is PydanticUndefined else f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True) or "the defaults of its section"
    text = value if isinstance(value, str) else json_text(value, ensure_ascii=False)
    return text.replace("\t", "\\t") or '""'


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    print(page(), end="")
