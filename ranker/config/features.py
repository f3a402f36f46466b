"""`features`: which columns the model sees, and as what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ranker.config.base import Name, Section

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
    hash_buckets: Annotated[int, Field(ge=2)] | None = None
    embedding_dim: Annotated[int, Field(ge=1, le=4096)] | None = None

    @model_validator(mode="after")
    def _hashed_or_listed(self) -> Categorical:
        if self.hash_buckets is not None:
            for key in ("min_count", "max_vocabulary", "oov_buckets"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"{key}: is for a vocabulary, and with hash_buckets there is none")
        return self

    @property
    def has_vocabulary(self) -> bool:
        """Whether its values are looked up in a list of those in the training rows; else they are hashed."""
        return self.hash_buckets is None


class Numeric(Section):
    """A column of numbers. Missing is empty text, null or NaN, and has an indicator (or a bucket) of its own.

    `standardize`: (x - mean) / deviation · `log1p`: sign(x) log(1 + |x|), then standardised ·
    `buckets`: an embedding of the quantile bucket · `none`: as it is.

    `pieces`: beside the number, cut at 3 deviations, enter so many piecewise linear shares between its quantiles, so
    that the model can bend with it as trees do (Gorishniy et al. 2022, arXiv 2203.05556); 0 for none.
    """

    kind: Literal["numeric"]
    role: Role
    training_only: TrainingOnly = False
    transform: Literal["none", "standardize", "log1p", "buckets"] = "standardize"
    buckets: Annotated[int, Field(ge=2, le=1000)] = 10
    pieces: Annotated[int, Field(ge=0, le=100)] = 0
    embedding_dim: Annotated[int, Field(ge=1, le=4096)] | None = None

    @model_validator(mode="after")
    def _has_pieces_or_buckets(self) -> Numeric:
        if self.pieces and self.transform == "buckets":
            raise ValueError(f"pieces must be 0 where transform is buckets. Received: {self.pieces}")
        return self


class TimeFeature(Section):
    """A column of times, of which the hour of the day and the day of the week are embedded.

    A time is a number of seconds since 1970 or text: ISO 8601 with or without an offset (without one it is UTC).
    `utc_offset` is what is added, in hours, before the parts are taken.
    """

    kind: Literal["time"]
    role: Role
    training_only: TrainingOnly = False
    parts: Annotated[tuple[Literal["hour", "weekday"], ...], Field(min_length=1)] = ("hour", "weekday")
    utc_offset: Annotated[float, Field(ge=-14, le=14)] = 0.0
    embedding_dim: Annotated[int, Field(ge=1, le=4096)] | None = None

    @field_validator("parts")
    @classmethod
    def _unique(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("must not name a part twice")
        return value


class SequenceFeature(Section):
    """A column that lists values of another feature, oldest first, such as the last items a user looked at.

    The last `last` of them are looked up in the embeddings of the feature `of`. `pool`: their `mean`, or `attention`, the
    mean weighted by the softmax of their products with the candidate's own embedding.
    """

    kind: Literal["sequence"]
    role: Role
    training_only: TrainingOnly = False
    of: Name
    separator: Annotated[str, Field(min_length=1)] = "|"
    last: Annotated[int, Field(ge=1, le=1000)] = 20
    pool: Literal["mean", "attention"] = "mean"


Feature = Annotated[Categorical | Numeric | TimeFeature | SequenceFeature, Field(discriminator="kind")]


class Identifier(Section):
    """The item's column where it is no feature: it names a candidate, and nothing is learnt from it."""

    kind: Literal["identifier"] = "identifier"
    role: Role = "item"
    training_only: Literal[False] = False


RawColumn = Categorical | Numeric | TimeFeature | SequenceFeature | Identifier
"""What an example holds under one name: a feature, or the item."""
