"""Scored rows of models that were trained anywhere: read, aligned, brought to one scale.

`ranker.scored.files` (files) and `ranker.scored.frames` (data frames, arrays) give an `align.ModelScores` a model;
`align.align` joins them by request and item to `align.AlignedScores`; `scale.to_probabilities` decides what the scores may
be used for. `scale` needs NumPy alone, the others Arrow.
"""
