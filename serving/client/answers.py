"""What the client hands back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """Scores of the rows of one request.

    Attributes:
      scores: float32, `[batch]`, in the order of the rows.
      version: the version that answered.
      latency: seconds from sending the request that was answered to its answer.
    """

    scores: np.ndarray
    version: int
    latency: float


@dataclass(frozen=True)
class Ranking:
    """Candidates by (-score, item id), the best first.

    Attributes:
      item_ids: at most k of them.
      scores: float32, one an item.
      version: the version that answered.
      latency: seconds from sending the request that was answered to its answer.
    """

    item_ids: tuple[str, ...]
    scores: np.ndarray
    version: int
    latency: float


@dataclass(frozen=True)
class TensorSpec:
    """Type ("DT_FLOAT", ...) and shape (-1: any size; None: any rank) of a signature's input or output."""

    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Signature:
    """A way to call the model: its inputs and outputs by name."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    method: str


@dataclass(frozen=True)
class VersionStatus:
    """One version of the model: its state ("LOADING", "AVAILABLE", ...) and why it failed, if it did."""

    version: int
    state: str
    error_code: int
    error_message: str
