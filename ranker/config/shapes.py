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
