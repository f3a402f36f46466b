"""`features`: which columns the model sees, and as what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ranker.config.base import Section

Role = Literal["context", "item"]
"""`context` columns have one value a request (user, time, device); `item` columns one a candidate."""
TrainingOnly = bool
"""Whether the model learns from the column but is served, and evaluated, without it (the position in a list shown)."""


class Categorical(Section):
    """A column of identities, embedded. Missing (empty) and unknown values have buckets of their own.

    `multivalued` is the separator of a column that holds several values (`Comedy|Drama`); the first
    `max_values` of them are embedded and averaged.
    """

    kind: Literal["categorical"]
    role: Role
    training_only: TrainingOnly = False
    multivalued: Annotated[str, Field(min_length=1)] | None = None
    max_values: Annotated[int, Field(ge=1, le=1000)] = 10
    min_count: Annotated[int, Field(ge=1)] = 1
    max_vocabulary: Annotated[int, Field(ge=1)] | None = None
    oov_buckets: Annotated[int, Field(ge=1)] = 1
    embedding_dim: Annotated[int, Field(ge=1, le=4096)] | None = None


class Numeric(Section):
    """A column of numbers. Missing is empty text, null or NaN, and has an indicator (or a bucket) of its own.

    `standardize`: (x - mean) / deviation · `log1p`: sign(x) log(1 + |x|), then standardised ·
    `buckets`: an embedding of the quantile bucket · `none`: as it is.
    """

    kind: Literal["numeric"]
    role: Role
    training_only: TrainingOnly = False
    transform: Literal["none", "standardize", "log1p", "buckets"] = "standardize"
    buckets: Annotated[int, Field(ge=2, le=1000)] = 10
    embedding_dim: Annotated[int, Field(ge=1, le=4096)] | None = None


Feature = Annotated[Categorical | Numeric, Field(discriminator="kind")]


class Identifier(Section):
    """The item's column where it is no feature: it names a candidate, and nothing is learnt from it."""

    kind: Literal["identifier"] = "identifier"
    role: Role = "item"
    training_only: Literal[False] = False


RawColumn = Categorical | Numeric | Identifier
"""What an example holds under one name: a feature, or the item."""
