"""Scored rows of models that were trained anywhere: read, aligned, brought to one scale.

`read_models` (files) and `frame_models` (data frames, arrays) give a `ModelScores` a model; `align` joins
them by request and item to `AlignedScores`; `to_probabilities` decides what the scores may be used for.
"""

from ranker.scored.align import AlignedScores, ModelScores, align
from ranker.scored.scale import SCALES, ScaledScores, to_probabilities

__all__ = ["SCALES", "AlignedScores", "ModelScores", "ScaledScores", "align", "to_probabilities"]
