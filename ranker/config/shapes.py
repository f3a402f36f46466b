"""Shapes of work: for each an example of the keys that it takes, for docs/configuration.md."""

from __future__ import annotations

from typing import NamedTuple


class ShapeExample(NamedTuple):
    """One shape of work.

    Attributes:
        title: what it is for.
        text: what happens, in a few sentences.
        yaml: the keys of the configuration that it takes.
    """

    title: str
    text: str
    yaml: str


SHAPES = (
    ShapeExample(
        "Rows that belong to no request",
        "Without `data.request` every row is a request of its own. Predictions are compared (PD, AUC, log loss,"
        " calibration); measures of lists are left out, and the report says why.",
        """\
data:
  request: null
  label: clicked
""",
    ),
    ShapeExample(
        "Graded labels, soft labels, weights by a formula",
        "`label` may give any number from 0 to 1, `weight` any that is finite and at least 0. `grade` gives NDCG its gains,"
        " 2^grade - 1, while AUC and log loss keep to `label`. A row whose value cannot be computed, or is out of range, is"
        " rejected with its reason.",
        """\
data:
  label: "rating / 5"
  grade: rating
  weight: "1 / propensity"
""",
    ),
    ShapeExample(
        "A log of positives",
        "Without a label every row is a positive. Each gets `count` negatives to train on, or a fixed list of `candidates`"
        " if it is held out: different items of the training rows, never its own, drawn uniformly or by their positives,"
        " from the seed and its place alone. A positive and its negatives are a request of their own; columns for training"
        " only are missing in negatives. With a label, the rows above 0 get negatives, and the others stay as they are.",
        """\
data:
  label: null
  negatives: {count: 4, candidates: 10, by: popularity}
""",
    ),
    ShapeExample(
        "Ratings as a regression",
        "The model learns the squared error and gives values in the label's unit; the report has RMSE and MAE. Everything"
        " else is measured on shares of the label's range in the training rows, (value - least) / (greatest - least), where"
        " values beyond an end count as the end: a PD of 0.01 is a hundredth of the range. `deployment.yaml` carries the"
        " range as `scale: range:1:5`; `ranker compare --scale range:1:5` takes the same.",
        """\
task: regression
data:
  label: rating
""",
    ),
    ShapeExample(
        "Ids without a vocabulary",
        "Each value is hashed to one of N embeddings, in `prepare`, training and serving by the same function. New ids need"
        " no new vocabulary; several ids share an embedding.",
        """\
features:
  user: {kind: categorical, role: context, hash_buckets: 1000}
""",
    ),
    ShapeExample(
        "The hour and the weekday of a time",
        "`prepare` reads times as `data.timestamp` is read, and stores whole seconds. A client sends seconds since 1970 or"
        " ISO 8601 as text.",
        """\
features:
  time: {kind: time, role: context, parts: [hour, weekday], utc_offset: 1}
""",
    ),
    ShapeExample(
        "The last items of a user",
        "A column lists items, oldest first; the last 20 are looked up in the embeddings of the item itself and pooled: by"
        " their mean, or by attention to the candidate. The client sends the list, as text or as a list.",
        """\
features:
  history: {kind: sequence, role: context, of: doc, separator: "|", last: 20, pool: attention}
""",
    ),
    ShapeExample(
        "A pairwise or a listwise loss",
        "TF-Ranking's `PairwiseLogisticLoss` and `SoftmaxLoss`, over the rows of a request. They learn `data.grade` where it"
        " is set. The rows of a request stand together in the base order and are shuffled together; a batch ends after"
        " `batch_size` rows, so at most one request at each of its ends is cut in two, and is compared within its parts."
        " Scores order candidates and are no calibrated probabilities. All training rows must fit into memory"
        " (`training.segment_rows`).",
        """\
data:
  grade: rating
training:
  loss: pairwise
""",
    ),
    ShapeExample(
        "An id that must not be learnt",
        "The column identifies a candidate in requests, answers and comparisons. It has no vocabulary and no embedding, so a"
        " model scores a new document as well as an old one.",
        """\
data:
  item: {column: doc, feature: false}
features:
  topic: {kind: categorical, role: item}
""",
    ),
    ShapeExample(
        "A feature that is known in training only",
        "The position at which a candidate was shown explains clicks, but nobody knows it when the list is made. Such a"
        " column is in no signature, probe or deployment, and the evaluation leaves it out too. Every tenth training row has"
        " it missing, so that the model learns what it predicts without it.",
        """\
features:
  position: {kind: numeric, role: item, training_only: true}
""",
    ),
)
