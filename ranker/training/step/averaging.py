"""Averages of the weights over training, for any optimizer, at the price of one more sum.

With weights w_T = w_0 + sum_s d_s (d_s is step s's update, s = 1..T), every average that weighs the iterates
w_1..w_T is w_T minus a weighted sum of the updates:

    mean of the last S iterates  = w_T - sum_s c_s d_s,  c_s = max(0, s - (T - S) - 1) / S
    exponential moving average   = w_T - sum_s c_s d_s,  c_s = decay^(T - s + 1)

(the moving average starts at w_0). So one buffer of sum c_s d_s suffices, and it is only touched where the
weights are: an embedding table is averaged at the cost of the rows in the batch, not of the vocabulary.
"""

from __future__ import annotations

import numpy as np

from ranker.config import Training


def coefficients(training: Training, steps: int) -> np.ndarray:
    """The weights c_s of the updates in the average's correction.

    Args:
        training: `average_last` (share of the steps, 0 for none) or `ema` (decay, 0 for none).
        steps: T, all steps of the training, >= 1.

    Returns:
        float32 [T]; all 0 without averaging.

    >>> coefficients(Training(average_last=0.5), 4).tolist()
    [0.0, 0.0, 0.0, 0.5]
    """
    step = np.arange(1, steps + 1, dtype=np.float64)
    if training.ema > 0:
        return (training.ema ** (steps - step + 1)).astype(np.float32)
    last = round(training.average_last * steps)
    if last < 1:
        return np.zeros(steps, np.float32)
    return (np.maximum(0.0, step - (steps - last) - 1) / last).astype(np.float32)
